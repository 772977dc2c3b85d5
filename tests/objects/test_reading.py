"""Objects as files: by ranges, one version, never fewer bytes than there are."""

from __future__ import annotations

import io
import os
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import BatchsentError, ShardError, StorageError
from batchsent.objects.reading import BLOCK_BYTES, ObjectFile
from batchsent.records import Part, Shard, ShardDigest
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import InspectRequest, ReadRequest
from batchsent.stages.reader.process import answers
from batchsent.stores import signature
from objects.cloud import Cloud
from objects.proxy import FAULTS, Fault
from support import WORDS

pytestmark = pytest.mark.process

CHANGED = ShardError("it changed")


def shard_of(uri: str) -> Shard:
    (shard,) = plan_shards((uri,), "s3://elsewhere")
    return shard


def read(shard: Shard, **options: Any) -> list[Part]:
    found = signature(shard.path)
    assert found is not None
    settings: dict[str, Any] = {"text_column": "text", "kept": None, "encoding": "utf-8", "delimiter": None}
    settings |= {"rows_per_part": 100, "limit": None, "done": {}}
    return list(answers(ReadRequest(shard, "unit", ShardDigest("", found), **(settings | options))))  # type: ignore[arg-type]


def table(rows: int, columns: int = 1) -> pa.Table:
    texts = [f"{WORDS[i % 30]} {i} " + os.urandom(200).hex() for i in range(rows)]
    return pa.table({"text": texts} | {f"c{n}": [f"{i}-{n}" for i in range(rows)] for n in range(columns)})


def parquet(found: pa.Table, row_group_rows: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(found, sink, row_group_size=row_group_rows, compression="none", write_page_checksum=True)
    return sink.getvalue()


def test_any_range(cloud: Cloud) -> None:
    data = os.urandom(3 * BLOCK_BYTES + 17)
    file = ObjectFile(cloud.put(f"{cloud.bucket()}/x", data), CHANGED)
    for start, count in [(0, 10), (BLOCK_BYTES - 5, 10), (5, 2 * BLOCK_BYTES), (len(data) - 3, 10), (len(data) + 5, 1)]:
        assert file.seek(start) == start
        assert file.read(count) == data[start : start + count]
    file.seek(0)
    assert file.read() == data
    assert (file.seek(-4, io.SEEK_END), file.read()) == (len(data) - 4, data[-4:])


def test_a_part_costs_few_requests(cloud: Cloud) -> None:
    found = table(40_000, columns=6)
    data = parquet(found, 10_000)
    assert len(data) > 4 * BLOCK_BYTES
    shard = shard_of(cloud.put(f"{cloud.bucket()}/x.parquet", data))
    cloud.proxy.begin()
    parts = read(shard, rows_per_part=4_000)
    assert [part.records.num_rows for part in parts] == [4_000] * 10
    gets = [request for request in cloud.proxy.requests if request.method == "GET"]
    assert len(gets) <= -(-len(data) // BLOCK_BYTES), "no block is asked for twice"
    whole = pa.concat_tables(part.records for part in parts)
    assert whole.column("kept.c5").to_pylist() == found.column("c5").to_pylist()
    cloud.proxy.begin()
    (last,) = read(shard, rows_per_part=4_000, done={i: (part.end, False) for i, part in enumerate(parts[:-1])})
    assert last.records.equals(parts[-1].records)
    data_gets = [request for request in cloud.proxy.requests if request.method == "GET"]
    assert len(data_gets) <= 4, "the footer, and the last row group alone"


def test_what_is_looked_into_is_asked_for_once(cloud: Cloud) -> None:
    text = "text,id\n" + "".join(f"good {i},{i}\n" for i in range(1_000))
    shard = shard_of(cloud.put(f"{cloud.bucket()}/x.csv", text.encode()))
    cloud.proxy.begin()
    (inspection,) = answers(InspectRequest(shard, "text", (), "utf-8", None))
    assert inspection.error is None  # type: ignore[union-attr]
    assert [request.method for request in cloud.proxy.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("extension", ["csv", "csv.gz", "jsonl.zst", "tsv.bz2", "jsonl.xz", "parquet"])
def test_every_format_reads_as_from_a_file(cloud: Cloud, extension: str, tmp_path: Any) -> None:
    import bz2
    import gzip
    import lzma

    found = table(500)
    name = extension.partition(".")[0]
    delimiter = "\t" if name == "tsv" else ","
    rows = found.to_pylist()
    if name == "parquet":
        data = parquet(found, 120)
    elif name == "jsonl":
        data = "".join(f'{{"text": "{row["text"]}", "c0": "{row["c0"]}"}}\n' for row in rows).encode()
    else:
        lines = [delimiter.join(("text", "c0")), *(delimiter.join((row["text"], row["c0"])) for row in rows)]
        data = "\n".join(lines).encode()
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    last = extension.rpartition(".")[2]
    if last == "zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    elif last in compress:
        data = compress[last](data)  # type: ignore[operator]
    (tmp_path / f"x.{extension}").write_bytes(data)
    (local,) = plan_shards((str(tmp_path / f"x.{extension}"),), tmp_path / "out")
    remote = shard_of(cloud.put(f"{cloud.bucket()}/x.{extension}", data))
    expected, there = read(local), read(remote)
    assert [part.end for part in there] == [part.end for part in expected]
    assert all(one.records.equals(other.records) for one, other in zip(there, expected, strict=True))
    assert sum(part.records.num_rows for part in there) == 500
    resumed = read(remote, done={0: (there[0].end, False), 1: (there[1].end, False)})
    assert [part.records for part in resumed] == [part.records for part in there[2:]]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_no_row_is_lost_to_what_happens_once(cloud: Cloud, fault: Fault, extension: str) -> None:
    found = table(30_000)
    data = parquet(found, 5_000)
    if extension == "csv":
        data = b"text,c0\n" + "".join(f"{row['text']},{row['c0']}\n" for row in found.to_pylist()).encode()
    shard = shard_of(cloud.put(f"{cloud.bucket()}/x.{extension}", data))
    for unlucky in range(1, 5):
        count = 0

        def choose(_index: int, method: str, _path: str, number: int = unlucky) -> Fault | None:
            nonlocal count
            count += method == "GET"
            return fault if method == "GET" and count == number else None

        cloud.proxy.begin(choose)
        parts = read(shard, rows_per_part=10_000)
        cloud.proxy.begin()
        assert sum(part.records.num_rows for part in parts) == 30_000


@pytest.mark.parametrize("fault", ["reset", "truncated", "500"])
def test_a_store_that_stays_away_is_temporary_and_no_fault_of_the_shard(cloud: Cloud, fault: Fault) -> None:
    data = parquet(table(30_000), 5_000)
    shard = shard_of(cloud.put(f"{cloud.bucket()}/x.parquet", data))
    gets = 0

    def choose(_index: int, method: str, _path: str) -> Fault | None:
        nonlocal gets
        gets += method == "GET"
        return fault if gets > 1 else None

    cloud.proxy.begin(choose)
    with pytest.raises(StorageError, match=r"s3://.*/x\.parquet could not be read"):
        read(shard, rows_per_part=10_000)
    cloud.proxy.begin()


@pytest.mark.parametrize("extension", ["csv", "parquet"])
@pytest.mark.parametrize("is_removed", [True, False])
def test_what_changes_while_it_is_read_is_noticed(cloud: Cloud, extension: str, is_removed: bool) -> None:
    found = table(30_000)
    data = parquet(found, 5_000)
    if extension == "csv":
        data = b"text,c0\n" + "".join(f"{row['text']},{row['c0']}\n" for row in found.to_pylist()).encode()
    uri = cloud.put(f"{cloud.bucket()}/x.{extension}", data)
    shard = shard_of(uri)
    digest = ShardDigest("", signature(uri))  # type: ignore[arg-type]
    request = ReadRequest(shard, "u", digest, {}, "text", None, "utf-8", None, 5_000, None)
    parts = answers(request)
    next(parts)
    if is_removed:
        cloud.remove(uri)
    else:
        cloud.put(uri, data[::-1])
    with pytest.raises(ShardError, match=r"x\..* (changed|is gone) "):
        list(parts)
    if not is_removed:
        with pytest.raises(ShardError, match="changed"):
            next(answers(request))


def test_a_range_of_another_version_is_never_given(cloud: Cloud) -> None:
    uri = cloud.put(f"{cloud.bucket()}/x", b"a" * (2 * BLOCK_BYTES))
    file = ObjectFile(uri, CHANGED)
    assert file.read(1) == b"a"
    cloud.put(uri, b"b" * (2 * BLOCK_BYTES))
    file.seek(BLOCK_BYTES)
    with pytest.raises(BatchsentError, match="it changed"):
        file.read(1)
    with pytest.raises(BatchsentError, match="it changed"):
        ObjectFile(uri, CHANGED, file.signature.version)


def test_what_comes_back_short_is_no_end_of_the_file(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ObjectFile(cloud.put(f"{cloud.bucket()}/x", b"abcdef"), CHANGED)
    monkeypatch.setattr(file._handle, "read", lambda count: b"abcdef"[: count - 1])
    with pytest.raises(StorageError, match="gave 5 bytes at 0; expected 6"):
        file.read(6)
