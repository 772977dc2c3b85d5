"""A model of the hub: pinned to a commit, its files known by their hashes, nothing fetched that could be code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import _cache_manager

from batchsent.errors import ModelError
from faults.inline import Inline
from support import cache_model, write_csv

COMMIT, NEWER = "a" * 40, "b" * 40
NAME = "someone/reviews"


@pytest.fixture
def hub(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]) -> Path:
    """A cache with the tiny model at ``COMMIT``, which is main; nobody can be asked."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("asked the hub"))
    cache_model(tmp_path / "hub", NAME, COMMIT, tiny_model)
    return tmp_path / "hub"


def recorded(out: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((out / "_batchsent/config.json").read_bytes())
    return settings


def test_the_commit_is_recorded_and_kept_to(inline: Inline, tmp_path: Path, hub: Path, tiny_model: Path) -> None:
    source, out = write_csv(tmp_path / "in/a.csv", ["good film"]), tmp_path / "out"
    inline.score(source, output=out, model=NAME)
    assert recorded(out)["revision"] == COMMIT
    # main moves on, to a model that would be refused.
    snapshot = cache_model(hub, NAME, NEWER, tiny_model)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text('{"auto_map": {}}')
    inline.score(source, write_csv(tmp_path / "in/b.csv", ["bad film"]), output=out, model=NAME)
    assert recorded(out)["revision"] == COMMIT
    with pytest.raises(ModelError, match="brings its own Python code"):
        inline.score(source, output=tmp_path / "another", model=NAME)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_one_changed_byte_in_the_cache_is_refused_by_name(
    inline: Inline, tmp_path: Path, hub: Path, tiny_model: Path, file: str
) -> None:
    source, out = write_csv(tmp_path / "in/a.csv", ["good film"]), tmp_path / "out"
    inline.score(source, output=out, model=NAME)
    path = hub / f"models--{NAME.replace('/', '--')}/snapshots/{COMMIT}/{file}"
    data = bytearray(path.read_bytes())
    # A byte that leaves JSON what it is.
    at = len(data) - 1 if file.endswith(".safetensors") else data.index(b": ") + 1
    data[at] = data[at] ^ 1 if file.endswith(".safetensors") else ord("\t")
    path.write_bytes(bytes(data))
    write_csv(tmp_path / "in/b.csv", ["bad film"])
    with pytest.raises(ModelError, match=f"{NAME} has changed since DIR was first used \\({file}\\)"):
        inline.score(tmp_path / "in", output=out, model=NAME)
    assert not (out / "_SUCCESS").exists()
    path.write_bytes((tiny_model / file).read_bytes())
    inline.score(tmp_path / "in", output=out, model=NAME)
    assert (out / "_SUCCESS").exists()
