"""Fault 10: the model or its tokenizer change between runs and during one.

Noticed always: the run is refused with exit 2, naming the file, and goes on when the file is what it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from batchsent import scoring
from batchsent.engines import encoding
from batchsent.errors import ModelError, SettingsChangedError
from batchsent.models import resolution
from faults.inline import Inline, KillAfter, KilledError
from faults.tally import Injections
from support import published, write_csv

Reviews = Callable[[int], list[str]]

ROW_COUNT = 35
WAYS = ("in place", "by rename", "in place, old mtime", "by rename, old mtime")
MODEL_FILES = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json")


def _flip(path: Path, at: float, way: str) -> None:
    """Another bit in one byte, at this share of the file."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    if way.startswith("by rename"):
        new = path.with_name("new")
        new.write_bytes(content)
        new.replace(path)
    else:
        path.write_bytes(content)
    if way.endswith("old mtime"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


MODEL_CASES = list(product(MODEL_FILES, [step / 6 for step in range(7)], WAYS, (1, None)))


@pytest.mark.in_process
@pytest.mark.fault(10, "model or tokenizer changed between runs")
def test_10_model_changed_between_runs(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews, tiny_model: Path
) -> None:
    source, model = write_csv(tmp_path / "r.csv", reviews(ROW_COUNT)), tmp_path / "model"
    shutil.copytree(tiny_model, model)
    whole, out = tmp_path / "whole", tmp_path / "out"
    inline.score(source, output=whole, model=str(model))
    for file, at, way, parts in injections.of(MODEL_CASES, quick=8):
        shutil.rmtree(out, ignore_errors=True)
        if parts is None:
            shutil.copytree(whole, out)
        else:
            with pytest.raises(KilledError):
                inline.score(source, output=out, model=str(model), progress=KillAfter(parts))
        before = published(out)
        original = (model / file).read_bytes()
        _flip(model / file, at, way)
        with pytest.raises((SettingsChangedError, ModelError), match=rf"{file}|{model.name}") as raised:
            inline.score(source, output=out, model=str(model))
        assert raised.value.exit_code == 2
        assert published(out) == before, "refused, so nothing was touched"
        (model / file).write_bytes(original)
        inline.score(source, output=out, model=str(model))
        injections.compare(whole, out)


@pytest.mark.in_process
@pytest.mark.fault(10, "model or tokenizer changed while it was loaded")
def test_10_model_changed_during_a_run(
    injections: Injections,
    inline: Inline,
    tmp_path: Path,
    reviews: Reviews,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, model = write_csv(tmp_path / "r.csv", reviews(ROW_COUNT)), tmp_path / "model"
    shutil.copytree(tiny_model, model)
    whole, out = tmp_path / "whole", tmp_path / "out"
    inline.score(source, output=whole, model=str(model))
    moments = ("loaded", "make_encode")
    cases = [(m, *c) for m, c in product(moments, MODEL_CASES) if m == "loaded" or c[0] != "model.safetensors"]
    for moment, file, at, way, _ in injections.of(cases, quick=8):
        shutil.rmtree(out, ignore_errors=True)
        original = (model / file).read_bytes()
        with monkeypatch.context() as patch:
            _before(moment, partial(_flip, model / file, at, way), patch)
            with pytest.raises(ModelError, match=rf"{file} of the model in model changed") as raised:
                inline.score(source, output=out, model=str(model))
        assert raised.value.exit_code == 2
        assert not (out / "_SUCCESS").exists()
        (model / file).write_bytes(original)
        inline.score(source, output=out, model=str(model))
        injections.compare(whole, out)


def _before(moment: str, change: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Make ``change`` before the model is checked after loading, or where a tokenizer is made still later."""
    if moment == "loaded":
        require_unchanged = resolution.require_unchanged

        def changing(*arguments: Any) -> None:
            change()
            require_unchanged(*arguments)

        patch.setattr(scoring, "require_unchanged", changing)
    else:
        make_encode = encoding.make_encode

        def making(*arguments: Any) -> Any:
            # Inline, the tokenizer is a cached one: what is left to be noticed is that its files are others.
            change()
            return make_encode(*arguments)

        patch.setattr(encoding, "make_encode", making)
