"""INPUT in a bucket: folders, patterns and single objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchsent.errors import InputError, StorageError, UsageError
from batchsent.records import Shard
from batchsent.stages.planner import plan_shards
from objects.cloud import Cloud

pytestmark = pytest.mark.process

NAMES = [
    *("a.csv", "b.jsonl.gz", "notes.txt", "_hidden.csv", ".dot.csv", "2026-11/a.csv", "2026-11/07/c.parquet"),
    *("2026-12/a.csv", "2026-12/_tmp/d.csv", "x [1].csv", "out/e.csv", "outer/f.csv"),
]


@pytest.fixture(scope="module")
def dumps(cloud: Cloud) -> str:
    """URI of a folder with NAMES in it, and of markers that a console makes for folders."""
    uri = f"{cloud.bucket()}/dumps"
    for name in NAMES:
        cloud.put(f"{uri}/{name}", name.encode())
    for marker in ("2026-11/", "empty.csv/"):
        cloud.put(f"{uri}/{marker}", b"")
    return uri


def plan(*inputs: str, output: Path | str = "s3://elsewhere/out") -> dict[str, Shard]:
    return {shard.name: shard for shard in plan_shards(inputs, output)}


def test_a_folder(dumps: str, cloud: Cloud) -> None:
    cloud.proxy.begin()
    shards = plan(dumps)
    assert list(shards) == sorted(
        name for name in NAMES if name != "notes.txt" and not name.startswith(("_", ".")) and "_tmp" not in name
    )
    assert shards["2026-11/a.csv"].path == f"{dumps}/2026-11/a.csv"
    assert shards["b.jsonl.gz"].compression == ".gz"
    assert shards["a.csv"].size_bytes == len("a.csv")
    assert shards["a.csv"].version.startswith("etag:")
    assert plan(f"{dumps}/") == shards
    bucket = dumps.removesuffix("/dumps")
    assert {name.removeprefix("dumps/") for name in plan(bucket)} == set(shards)
    assert plan(dumps.replace("s3://", "S3://")) == shards


def test_dir_itself_is_never_read(dumps: str) -> None:
    assert not {"out/e.csv"} & set(plan(dumps, output=f"{dumps}/out"))
    assert {"outer/f.csv"} <= set(plan(dumps, output=f"{dumps}/out"))
    with pytest.raises(InputError, match="dumps is the --output too"):
        plan(dumps, output=dumps)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.csv", ["a.csv"]),
        ("*.csv", ["a.csv", "x [1].csv"]),
        ("2026-1?/a.csv", ["2026-11/a.csv", "2026-12/a.csv"]),
        ("2026-1[1]/*", ["2026-11/07/c.parquet", "2026-11/a.csv"]),
        ("2026-*", ["2026-11/07/c.parquet", "2026-11/a.csv", "2026-12/a.csv"]),
        ("**/a.csv", ["2026-11/a.csv", "2026-12/a.csv", "a.csv"]),
        ("2026-11/**", ["07/c.parquet", "a.csv"]),
        ("x [1].csv", ["x [1].csv"]),
    ],
)
def test_a_pattern_is_that_of_files(dumps: str, pattern: str, names: list[str], tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    assert sorted(plan(f"{dumps}/{pattern}")) == names
    if pattern != "x [1].csv":  # a name that is there comes first, for files too
        assert sorted(plan(f"{tmp_path}/in/{pattern}", output=tmp_path / "out")) == names


@pytest.mark.parametrize("name", ["none", "none/", "*.tsv", "_hidden.csv", "notes.txt", "empty.csv"])
def test_nothing_found(dumps: str, name: str) -> None:
    with pytest.raises(InputError, match="nothing to read in s3://") as caught:
        plan(f"{dumps}/{name}")
    assert caught.value.exit_code == 2


def test_the_same_output_twice(dumps: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n", encoding="utf-8")
    assert len(plan(f"{dumps}/a.csv", f"{dumps}/*.csv")) == 2
    with pytest.raises(UsageError, match=r"would both write a\.parquet"):
        plan(f"{dumps}/a.csv", str(tmp_path / "a.csv"))
    with pytest.raises(UsageError, match=r"would both write a\.parquet"):
        plan(f"{dumps}/a.csv", f"{dumps}/2026-11/a.csv")


def test_thousands_in_few_requests(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    for index in range(2_100):
        cloud.put(f"{bucket}/in/{index:05d}.csv", b"text\n")
    cloud.proxy.begin()
    assert len(plan(f"{bucket}/in/")) == 2_100
    assert len(cloud.proxy.requests) == 3
    cloud.proxy.begin()
    assert len(plan(f"{bucket}/in/0001*.csv")) == 10
    assert len(cloud.proxy.requests) <= 3, "the store looks only at names that begin so"
    cloud.proxy.begin(lambda index, _method, _path: "500" if index == 1 else None)
    assert len(plan(f"{bucket}/in/")) == 2_100, "an error within a list loses nothing"
    cloud.proxy.begin(lambda index, *_: "reset" if index >= 1 else None)
    with pytest.raises(StorageError, match=r"s3://.*/in could not be listed"):
        plan(f"{bucket}/in/")
    cloud.proxy.begin()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://key:secret@bucket/a.csv", "more than a bucket and a key"),
        ("s3://localhost:9000/a.csv", "more than a bucket and a key"),
        ("s3:///a.csv", "names no bucket"),
        ("s3://bucket/a.csv?X-Amz-Signature=secret", "a query or a fragment"),
    ],
)
def test_uris_that_are_more_than_a_place(uri: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        plan(uri)
    assert "secret" not in str(caught.value)
