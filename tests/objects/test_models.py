"""Models in a bucket: fetched once, then as any directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchsent.errors import BatchsentError, ModelError, SettingsChangedError, StorageError
from batchsent.models.cache import cache_directory
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.reporting.run_report import RunReport
from objects.cloud import Cloud
from support import published, write_csv

pytestmark = pytest.mark.process

Score = Callable[..., RunReport]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_scores_as_the_directory_does(cloud: Cloud, score: Score, tiny_model: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "r.csv", ["good film", "bad shoes"])
    uri = cloud.put_all(tiny_model, f"{cloud.bucket()}/models/tiny-bert")
    score(source, output=tmp_path / "local")
    score(source, output=tmp_path / "remote", model=uri)
    assert published(tmp_path / "remote") == published(tmp_path / "local")
    assert score(source, output=tmp_path / "remote", model=f"{uri}/").state == "nothing to do"


def test_it_is_fetched_once_a_version(cloud: Cloud, tiny_model: Path) -> None:
    uri = cloud.put_all(tiny_model, f"{cloud.bucket()}/tiny")
    cloud.put(f"{uri}/optimizer.bin", b"not of the model")
    cloud.put(f"{uri}/onnx/config.json", b"{}")
    first = resolve_model(uri, None, sha256_of)
    assert first.name == "tiny"
    assert first.directory.is_relative_to(cache_directory())
    assert {path.name for path in first.directory.iterdir()} == {path.name for path in tiny_model.iterdir()}
    cloud.proxy.begin()
    assert resolve_model(uri, None, sha256_of) == first
    assert len(cloud.proxy.requests) == 1
    config = json.loads((tiny_model / "config.json").read_bytes()) | {"note": "another"}
    cloud.put(f"{uri}/config.json", json.dumps(config).encode())
    second = resolve_model(uri, None, sha256_of)
    assert second.directory != first.directory
    assert second.files["config.json"] != first.files["config.json"]


def test_what_was_left_half_fetched_is_completed(cloud: Cloud, tiny_model: Path) -> None:
    uri = cloud.put_all(tiny_model, f"{cloud.bucket()}/tiny")
    cloud.proxy.begin(lambda _index, method, path: "reset" if method == "GET" and "safetensors" in path else None)
    with pytest.raises(StorageError, match=r"model\.safetensors could not be read"):
        resolve_model(uri, None, sha256_of)
    cloud.proxy.begin()
    found = resolve_model(uri, None, sha256_of)
    assert found.files == resolve_model(str(tiny_model), None, sha256_of).files
    assert not [request for request in cloud.proxy.requests if request.path.endswith("/config.json")]


def test_a_changed_model_is_other_settings(cloud: Cloud, score: Score, tiny_model: Path, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "r.csv", ["good film"])
    uri = cloud.put_all(tiny_model, f"{cloud.bucket()}/tiny")
    score(source, output=tmp_path / "out", model=uri)
    config = json.loads((tiny_model / "config.json").read_bytes()) | {"note": "another"}
    cloud.put(f"{uri}/config.json", json.dumps(config).encode())
    with pytest.raises(SettingsChangedError, match=r"tiny has changed \(config\.json\)"):
        score(source, output=tmp_path / "out", model=uri)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config.json": None}, "has no config.json"),
        ({"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "its own Python code"),
        ({"model.safetensors": None, "pytorch_model.bin": b"pickle"}, "has no weights"),
        ({"adapter_config.json": b"{}"}, "has an adapter"),
        (dict.fromkeys(("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")), "model"),
    ],
)
def test_what_is_no_safe_model_is_refused(
    cloud: Cloud, tiny_model: Path, tmp_path: Path, change: dict[str, bytes | None], says: str
) -> None:
    shutil.copytree(tiny_model, tmp_path / "m")
    for name, data in change.items():
        if data is None:
            (tmp_path / "m" / name).unlink(missing_ok=True)
        else:
            (tmp_path / "m" / name).write_bytes(data)
    uri = cloud.put_all(tmp_path / "m", f"{cloud.bucket()}/tiny")
    with pytest.raises(BatchsentError, match=says) as caught:
        resolve_model(uri, None, sha256_of)
    assert caught.value.exit_code == 2


def test_a_revision_is_for_the_hub(cloud: Cloud) -> None:
    with pytest.raises(ModelError, match="--revision main for s3://b/m"):
        resolve_model("s3://b/m", "main", sha256_of)
    with pytest.raises(ModelError, match="holds no model"):
        resolve_model(f"{cloud.bucket()}/m", None, sha256_of)
