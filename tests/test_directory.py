"""Whose DIR it is: the settings that were written once are obeyed, and never lost to a mistake."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchsent.checkpoint import CONFIG
from batchsent.config import ScoreConfig
from batchsent.directory import adopt, begin, model_source, recorded_identity, require_free_names
from batchsent.errors import BatchsentError, ModelError, SettingsChangedError, UsageError
from batchsent.identity import SCHEMA_VERSION, Identity
from batchsent.records import Shard
from batchsent.storage import LocalStore


def hash_file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "scored")
    store.create()
    return store


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the small model that may be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "models" / "mine"))


def config_of(model: Path | str, **options: Any) -> ScoreConfig:
    defaults: dict[str, Any] = {"inputs": ("x.csv",), "output": "o", "precision": "fp32", "device": "cpu", "threads": 1}
    defaults |= {"backend": "torch"}
    return ScoreConfig(**(defaults | {"model": str(model)} | options))


def begun(store: LocalStore, config: ScoreConfig, *shards: Shard) -> Identity:
    require_free_names(store, shards)
    return begin(store, config, hash_file, lambda: None, input_bytes=1_000)


def content_of(store: LocalStore) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


# --- first use


def test_the_first_use_writes_every_setting(store: LocalStore, model: Path) -> None:
    assert recorded_identity(store) is None
    assert adopt(store, config_of(model), hash_file) is None
    identity = begun(store, config_of(model, text_column="body", keep=("id",), rows_per_part=7))
    assert recorded_identity(store) == identity
    assert store.read_bytes(CONFIG) == identity.to_json()
    assert (identity.text_column, identity.keep, identity.rows_per_part) == ("body", ("id",), 7)
    assert (identity.model, identity.labels, identity.max_length) == ("mine", ("NEGATIVE", "POSITIVE"), 128)
    assert (identity.task, identity.backend, identity.batching) == ("sequence-classification", "torch", "padded")
    assert "auto" not in identity.to_json().decode().lower().replace("automodel", "")
    assert identity.model_files["model.safetensors"] == hash_file(str(model / "model.safetensors"))


def test_the_same_settings_again_are_adopted(store: LocalStore, model: Path) -> None:
    config = config_of(model)
    identity = begun(store, config)
    assert adopt(store, config, hash_file) == identity
    assert adopt(store, replace(config, precision="auto", threads="auto", workers=3), hash_file) == identity


def test_what_auto_decided_holds_on_another_machine(
    store: LocalStore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchsent import machine

    config = config_of(model, threads="auto", precision="auto")
    monkeypatch.setattr(machine, "available_cores", lambda: 3)
    monkeypatch.setattr(machine, "is_bf16_faster", lambda: False)
    identity = begun(store, config)
    assert (identity.threads, identity.precision) == (3, "fp32")
    monkeypatch.setattr(machine, "available_cores", lambda: 5)
    monkeypatch.setattr(machine, "is_bf16_faster", lambda: True)
    assert adopt(store, config, hash_file) == identity


@pytest.mark.parametrize("options", [{"max_length": 129}, {"precision": "fp16"}, {"model": "./none"}])
def test_settings_that_cannot_be_leave_nothing(store: LocalStore, model: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        begun(store, config_of(options.get("model", model), **{k: v for k, v in options.items() if k != "model"}))
    assert content_of(store) == {}


def test_somebody_elses_file_is_not_overwritten(store: LocalStore, model: Path) -> None:
    store.publish_bytes("x.parquet", b"not ours")
    shard = Shard("x.csv", "/in/x.csv", ".csv", "", 5)
    with pytest.raises(UsageError, match="is not batchsent's"):
        begun(store, config_of(model), shard)
    assert recorded_identity(store) is None
    begun(store, config_of(model), replace(shard, name="y.csv"))
    assert store.read_bytes("x.parquet") == b"not ours"


# --- other settings


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text_column": "body"}, "text-column: text → body"),
        ({"keep": ("id",)}, "keep: "),
        ({"threads": 2}, "threads: 1 → 2"),
        ({"limit": 3}, "limit: none → 3"),
        ({"precision": "bf16"}, "precision: fp32 → bf16"),
        ({"model": "embedded"}, "model: mine → embedded"),
        ({"model": "./none"}, "model: mine → ./none"),
        ({"model": "ns/m"}, "model: mine → ns/m"),
    ],
)
def test_other_settings_are_refused_by_name(
    store: LocalStore, model: Path, options: dict[str, Any], named: str
) -> None:
    begun(store, config_of(model))
    before = content_of(store)
    with pytest.raises(SettingsChangedError) as caught:
        adopt(store, config_of(**({"model": model} | options)), hash_file)
    assert named in str(caught.value)
    assert caught.value.exit_code == 2
    assert content_of(store) == before


def test_restart_discards_only_once_the_new_settings_are_right(store: LocalStore, model: Path) -> None:
    begun(store, config_of(model))
    store.publish_bytes("_batchsent/parts/u/p.parquet", b"work")
    before = content_of(store)
    wrong = config_of(model, restart=True, max_length=4096)
    assert adopt(store, wrong, hash_file) is None
    with pytest.raises(UsageError, match="--max-length"):
        begun(store, wrong)
    assert content_of(store) == before
    right = config_of(model, restart=True, max_length=64)
    assert adopt(store, right, hash_file) is None
    assert begun(store, right).max_length == 64
    assert not store.exists("_batchsent/parts/u/p.parquet")


def test_restart_with_the_same_settings_keeps_what_is_there(store: LocalStore, model: Path) -> None:
    identity = begun(store, config_of(model))
    assert adopt(store, config_of(model, restart=True), hash_file) == identity


# --- two at once


def test_another_run_that_was_first_is_obeyed_and_loses_nothing(store: LocalStore, model: Path) -> None:
    # Both have looked and found no settings; where locks do not work, the other has begun meanwhile.
    config = config_of(model)
    assert adopt(store, config, hash_file) is None
    first = begun(store, config)
    store.publish_bytes("_batchsent/parts/u/p.parquet", b"work of the other")
    before = content_of(store)
    assert begun(store, config) == first
    assert content_of(store) == before


def test_another_run_that_was_first_with_other_settings_is_not_discarded(store: LocalStore, model: Path) -> None:
    config = config_of(model)
    assert adopt(store, config, hash_file) is None
    begun(store, config_of(model, text_column="body"))
    before = content_of(store)
    with pytest.raises(SettingsChangedError):
        begun(store, config)
    assert content_of(store) == before


# --- the model


def test_a_model_that_moved_is_the_same(store: LocalStore, model: Path, tmp_path: Path) -> None:
    identity = begun(store, config_of(model))
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere" / "renamed"))
    assert adopt(store, config_of(moved), hash_file) == identity
    assert model_source(identity, config_of(moved), hash_file).directory == moved


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_that_changed_is_noticed(store: LocalStore, model: Path, name: str) -> None:
    identity = begun(store, config_of(model))
    data = (model / name).read_bytes()
    changed = data.replace(b'"', b' "', 1) if name != "model.safetensors" else data[:-1] + bytes([data[-1] ^ 1])
    (model / name).write_bytes(changed)
    with pytest.raises(SettingsChangedError, match=f"mine has changed .*{name}"):
        adopt(store, config_of(model), hash_file)
    with pytest.raises(ModelError, match="has changed since DIR was first used"):
        model_source(identity, config_of(model), hash_file)


def test_a_file_more_is_a_change(store: LocalStore, model: Path) -> None:
    begun(store, config_of(model))
    (model / "added_tokens.json").write_bytes(b"{}")
    with pytest.raises(SettingsChangedError, match=r"added_tokens\.json"):
        adopt(store, config_of(model), hash_file)


# --- what is recorded


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff", b'{"keep": [], "labels": []}'])
def test_a_damaged_record_is_refused(store: LocalStore, model: Path, data: bytes) -> None:
    store.publish_bytes(CONFIG, data)
    with pytest.raises(UsageError, match="damaged or of another version"):
        recorded_identity(store)
    with pytest.raises(UsageError, match="damaged or of another version"):
        adopt(store, config_of(model), hash_file)
    assert store.read_bytes(CONFIG) == data


def test_the_record_of_another_version_is_refused(store: LocalStore, model: Path) -> None:
    identity = begun(store, config_of(model))
    store.publish_bytes(CONFIG, replace(identity, schema_version=SCHEMA_VERSION + 1).to_json())
    with pytest.raises(UsageError, match="another version"):
        recorded_identity(store)


@pytest.mark.parametrize("change", [{"threads": "2"}, {"labels": "NEGATIVE"}, {"model_files": []}])
def test_a_record_of_other_types_is_refused(store: LocalStore, model: Path, change: dict[str, object]) -> None:
    values = json.loads(begun(store, config_of(model)).to_json())
    store.publish_bytes(CONFIG, json.dumps(values | change).encode())
    with pytest.raises(BatchsentError):
        adopt(store, config_of(model, threads="auto"), hash_file)
