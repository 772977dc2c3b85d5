"""``score`` from and to buckets: the same rows, the same bytes, killed or not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batchsent
from batchsent.cli import cli
from batchsent.errors import IncompleteError, SettingsChangedError
from batchsent.reporting.run_report import RunReport
from objects.cloud import SECRET, Cloud
from objects.proxy import Fault, none
from support import published, write_csv

pytestmark = pytest.mark.process

Reviews = Callable[[int], list[str]]
Score = Callable[..., RunReport]


@pytest.fixture
def dumps(tmp_path: Path, reviews: Reviews) -> Path:
    """Two formats, two folders, a record that is rejected."""
    folder = tmp_path / "dumps"
    write_csv(folder / "a.csv", [*reviews(230), ""], id=list(range(231)))
    (folder / "2026").mkdir()
    pq.write_table(pa.table({"text": reviews(170), "id": range(170)}), folder / "2026/b.parquet", row_group_size=60)
    return folder


def test_to_a_bucket_is_byte_for_byte_what_it_is_to_a_directory(
    cloud: Cloud, score: Score, dumps: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = f"{cloud.bucket()}/out"
    score(dumps, output=tmp_path / "local", keep=("id",))
    score(dumps, output=out, keep=("id",))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [warning.partition(" is in an object store")[0] for warning in warnings] == [out]
    assert published(cloud.fetch(out, tmp_path / "fetched")) == published(tmp_path / "local")
    assert not any(name.startswith("_batchsent/parts") for name in cloud.names(out))


def pages(data: bytes) -> bytes:
    """A Parquet file without its footer."""
    return data[: -8 - int.from_bytes(data[-8:-4], "little")]


def test_from_a_bucket_are_the_same_rows(cloud: Cloud, score: Score, dumps: Path, tmp_path: Path) -> None:
    source = cloud.put_all(dumps, f"{cloud.bucket()}/dumps")
    out = f"{cloud.bucket()}/out"
    score(dumps, output=tmp_path / "local", keep=("id",))
    score(source, output=tmp_path / "remote", keep=("id",))
    score(f"{source}/", output=out, keep=("id",))
    local, remote = published(tmp_path / "local"), published(tmp_path / "remote")
    assert published(cloud.fetch(out, tmp_path / "fetched")) == remote
    assert local.keys() == remote.keys()
    for name in local:
        if name.endswith(".parquet"):
            one, other = (pq.ParquetFile(tmp_path / kind / name) for kind in ("local", "remote"))
            assert one.read().equals(other.read())
            assert pages(local[name]) == pages(remote[name]), "only the footer names the input"
    shards = [json.loads(files["_batchsent/manifest.json"])["shards"] for files in (local, remote)]
    for one, other in zip(*shards, strict=True):
        assert one["input_version"] == other["input_sha256"] == ""
        assert other["input_version"].startswith("etag:")
        for differing in ("input_version", "input_sha256", "unit"):
            del one[differing], other[differing]
        for file in (one["output"], other["output"]):
            del file["sha256"], file["size_bytes"]
        assert one == other
    metadata = pq.read_schema(tmp_path / "remote/a.parquet").metadata
    version = cloud.get(f"{out}/_batchsent/manifest.json").decode()
    assert metadata[b"batchsent.input_version"].decode() in version
    assert b"batchsent.input_sha256" not in metadata


def test_an_audit_reads_both_buckets_again(cloud: Cloud, score: Score, dumps: Path, tmp_path: Path) -> None:
    bucket = cloud.bucket()
    source, out = cloud.put_all(dumps, f"{bucket}/dumps"), f"{bucket}/out"
    report = score(source, output=out, audit=20)
    assert (report.state, report.audit["row_count"]) == ("published", 20)
    assert report.audit["largest_difference"] < 1e-5
    assert json.loads(cloud.get(f"{out}/_batchsent/manifest.json"))["audit"] == report.audit
    assert score(source, output=out, audit=20).state == "nothing to do"


def test_a_second_run_downloads_nothing(cloud: Cloud, score: Score, dumps: Path) -> None:
    bucket = cloud.bucket()
    source, out = cloud.put_all(dumps, f"{bucket}/dumps"), f"{bucket}/out"
    score(source, output=out)
    cloud.proxy.begin()
    assert score(source, output=out).state == "nothing to do"
    fetched = {
        r.path.partition("?")[0] for r in cloud.proxy.requests if r.method == "GET" and "list-type" not in r.path
    }
    assert all("/_batchsent/" in path or path.endswith("_SUCCESS") for path in fetched)
    assert not any("/rejects/" in path for path in fetched)


def test_what_changed_is_scored_again_and_nothing_else(cloud: Cloud, score: Score, dumps: Path, tmp_path: Path) -> None:
    bucket = cloud.bucket()
    source, out = cloud.put_all(dumps, f"{bucket}/dumps"), f"{bucket}/out"
    score(source, output=out)
    write_csv(dumps / "a.csv", ["good", "bad"], id=[1, 2])
    cloud.put_all(dumps, source)
    report = score(source, output=out)
    assert (report.state, report.kept_shard_count, report.record_count) == ("published", 1, 2)
    cloud.remove(f"{source}/2026/b.parquet")
    score(source, output=out)
    assert [name for name in cloud.names(out) if name.endswith(".parquet") and "_batchsent" not in name] == [
        "a.parquet"
    ]
    cloud.put(f"{out}/a.parquet", b"damaged")
    assert score(source, output=out).record_count == 2
    score(source, output=tmp_path / "whole")
    assert published(cloud.fetch(out, tmp_path / "fetched")) == published(tmp_path / "whole")


def test_other_settings_are_refused_and_restart_begins_anew(cloud: Cloud, score: Score, dumps: Path) -> None:
    out = f"{cloud.bucket()}/out"
    foreign = cloud.put(f"{out}/theirs.parquet", b"somebody else's")
    score(dumps, output=out)
    with pytest.raises(SettingsChangedError, match="limit"):
        score(dumps, output=out, limit=5)
    assert score(dumps, output=out, limit=5, restart=True).state == "published"
    assert cloud.get(foreign) == b"somebody else's"


def test_a_damaged_object_costs_its_shard(cloud: Cloud, score: Score, dumps: Path) -> None:
    bucket = cloud.bucket()
    source = cloud.put_all(dumps, f"{bucket}/dumps")
    cloud.put(f"{source}/2026/b.parquet", (dumps / "2026/b.parquet").read_bytes()[:-10])
    with pytest.raises(IncompleteError, match="1 of 2 shards failed"):
        score(source, output=f"{bucket}/out")
    assert "_SUCCESS" not in cloud.names(f"{bucket}/out")


def test_status_and_verify(cloud: Cloud, score: Score, dumps: Path) -> None:
    out = f"{cloud.bucket()}/out"

    def said(*words: str) -> str:
        result = CliRunner().invoke(cli, words)
        return f"{result.output}{result.exception or ''}"

    assert "has no _batchsent/config.json" in said("status", out)
    score(dumps, output=out)
    assert "published" in said("status", f"{out}/")
    assert f"verified {out}: 7 files" in said("verify", out)
    data = bytearray(cloud.get(f"{out}/a.parquet"))
    data[len(data) // 2] ^= 1
    cloud.put(f"{out}/a.parquet", bytes(data))
    cloud.put(f"{out}/unlisted.parquet", b"x")
    told = said("verify", out)
    assert "a.parquet was changed" in told
    assert "unlisted.parquet is not in the manifest" in told
    cloud.remove(f"{out}/a.parquet")
    assert "a.parquet is missing" in said("verify", out)


# --- real processes


def start(model: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    options = [
        "--model",
        model,
        "--precision",
        "fp32",
        "--rows-per-part",
        "100",
        "--device",
        "cpu",
        "--backend",
        "torch",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "batchsent", "score", *map(str, options), *map(str, arguments), "--progress", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def no_parts(_index: int, method: str, path: str) -> Fault | None:
    return "reset" if method == "PUT" and "/parts/" in path else None


def test_no_credential_is_printed_or_kept(
    cloud: Cloud, tiny_model: Path, dumps: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = cloud.bucket()
    said: dict[str, Any] = {}
    for form, fault in (("text", None), ("json", "reset")):
        cloud.proxy.begin(none if fault is None else no_parts)
        process = start(tiny_model, dumps, "--output", f"{bucket}/out", "--log-format", form)
        said[form] = "".join(process.communicate(timeout=180))
        assert process.returncode == (75 if fault else 0)
        cloud.proxy.begin()
        for name in cloud.names(bucket):
            assert SECRET.encode() not in cloud.get(f"{bucket}/{name}")
            cloud.remove(f"{bucket}/{name}")
        assert SECRET not in said[form]
    assert "could not be written" in said["json"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    process = start(tiny_model, dumps, "--output", f"{bucket}/out")
    errors = process.communicate(timeout=180)[1]
    assert process.returncode == 2
    assert "NoCredentialsError" in errors.splitlines()[-1]


def test_evaluate_reads_a_bucket(cloud: Cloud, tiny_model: Path, tmp_path: Path, reviews: Reviews) -> None:
    labels = ["POSITIVE" if index % 2 else "NEGATIVE" for index in range(60)]
    write_csv(tmp_path / "in/r.csv", reviews(60), sentiment=labels)
    source = cloud.put_all(tmp_path / "in", f"{cloud.bucket()}/in")
    options: dict[str, Any] = {"label_column": "sentiment", "models": [str(tiny_model)], "precision": "fp32"}
    options |= {"device": "cpu", "backend": "torch", "threads": 1}
    here, there = (batchsent.evaluate(place, **options) for place in (str(tmp_path / "in"), source))
    (one,), (other,) = here.models, there.models
    assert replace(other, rows_per_second=0, tokens_per_second=0) == replace(
        one, rows_per_second=0, tokens_per_second=0
    )
