"""Parquet shards: parts follow from the footer, and begin anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import ShardError
from batchsent.records import Inspection, Layout, Position, Shard, ShardDigest, Signature
from batchsent.stages.reader import parquet, raw_part
from batchsent.stages.reader.parquet import layout_of, read_parquet, row_bytes_of
from batchsent.stages.reader.shards import ReadRequest, read_parts


def shard_of(path: Path, table: pa.Table, row_group_size: int = 7) -> Shard:
    pq.write_table(table, path, row_group_size=row_group_size)
    return Shard(path.name, str(path), ".parquet", "", path.stat().st_size)


def parts_of(shard: Shard, start: int = 0, **options: Any) -> list[raw_part.RawPart]:
    settings: dict[str, Any] = {"text_column": "text", "kept": ("id",), "rows_per_part": 10, "limit": None}
    return list(read_parquet(shard, start=Position(start), **(settings | options)))


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"text": [f"text {i}" for i in range(45)], "id": list(range(45))})


@pytest.mark.parametrize("group", [1, 3, 10, 44, 45, 1000])
def test_parts_are_the_same_whatever_the_row_groups(tmp_path: Path, table: pa.Table, group: int) -> None:
    parts = parts_of(shard_of(tmp_path / "a.parquet", table, group))
    assert [part.records.num_rows for part in parts] == [10, 10, 10, 10, 5]
    assert [part.is_last for part in parts] == [False] * 4 + [True]
    whole = pa.concat_tables(part.records for part in parts)
    assert whole.column("text").to_pylist() == table.column("text").to_pylist()
    assert whole.column("row_index").to_pylist() == whole.column("kept.id").to_pylist() == list(range(45))


@pytest.mark.parametrize("group", [1, 7, 1000])
@pytest.mark.parametrize("limit", [None, 20, 33, 100])
def test_a_resume_gives_the_parts_that_follow(tmp_path: Path, table: pa.Table, group: int, limit: int | None) -> None:
    shard = shard_of(tmp_path / "a.parquet", table, group)
    parts = parts_of(shard, limit=limit)
    assert parts[-1].end.row_index == min(limit or 45, 45)
    for index, part in enumerate(parts[:-1]):
        following = parts_of(shard, part.end.row_index, limit=limit)
        assert [(p.end, p.is_last) for p in following] == [(p.end, p.is_last) for p in parts[index + 1 :]]
        assert all(a.records.equals(b.records) for a, b in zip(following, parts[index + 1 :], strict=True))


def test_no_rows_are_one_empty_part(tmp_path: Path, table: pa.Table) -> None:
    [part] = parts_of(shard_of(tmp_path / "a.parquet", table.slice(0, 0)))
    assert (part.records.num_rows, part.is_last, part.end) == (0, True, Position(0))


def test_large_rows_make_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "PART_LIMIT_BYTES", 4_000)
    table = pa.table({"text": [f"{i:04}" * 100 for i in range(20)], "a.b": [f"{i:04}" * 200 for i in range(20)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, use_dictionary=False, compression="none", row_group_size=5, write_statistics=False)
    metadata = pq.read_metadata(path)
    shard = Shard(path.name, str(path), ".parquet", "", path.stat().st_size)

    def layout(wanted: list[str], rows_per_part: int, limit: int | None = None) -> Layout | None:
        return layout_of(Inspection(shard, (), 20, row_bytes=row_bytes_of(metadata, wanted)), rows_per_part, limit)

    assert layout(["text"], 100) == Layout(9, 3)
    assert layout(["text", "a.b"], 100) == Layout(3, 7)
    assert layout(["text", "a.b"], 2) == Layout(2, 10)
    assert layout(["text", "a.b"], 2, limit=7) == Layout(2, 4)


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    broken = pa.array([b"good", b"caf\xe9", None, b" ", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 5, broken.buffers())
    [part] = parts_of(shard_of(tmp_path / "a.parquet", pa.table({"text": text, "id": list(range(5))})))
    assert part.records.column("text").to_pylist() == ["good", None, None, None, "fine"]
    assert part.records.column("reason").to_pylist() == [None, "undecodable", "empty_text", "empty_text", None]
    assert part.records.column("kept.id").to_pylist() == list(range(5))


def test_too_little_memory_is_not_called_a_damaged_file(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any) -> Any:
        raise pa.ArrowMemoryError("malloc of size 3200000000 failed")

    shard = shard_of(tmp_path / "a.parquet", table)
    monkeypatch.setattr(parquet, "_rechunked", out_of_memory)
    with pytest.raises(MemoryError):
        parts_of(shard)


# --- parts of a rank


@pytest.mark.parametrize("group", [1, 7, 1000])
@pytest.mark.parametrize(
    ("parts", "done"), [(range(5), ()), (range(2, 4), ()), (range(1, 5), (2, 4)), (range(3, 4), (3,))]
)
def test_only_the_parts_of_a_rank_are_read(
    tmp_path: Path, table: pa.Table, group: int, parts: range, done: tuple[int, ...]
) -> None:
    shard = shard_of(tmp_path / "a.parquet", table, group)
    whole = parts_of(shard)
    request = ReadRequest(
        shard=shard,
        unit="",
        digest=ShardDigest("", Signature(0, 0, 0, 0)),
        done={index: (whole[index].end, whole[index].is_last) for index in done},
        text_column="text",
        kept=("id",),
        encoding="utf-8",
        delimiter=None,
        rows_per_part=10,
        limit=None,
        layout=Layout(10, 5),
        parts=parts,
    )
    read = list(read_parts(request))
    assert [part.index for part in read] == [index for index in parts if index not in done]
    assert all(part.records.equals(whole[part.index].records) for part in read)


def test_another_layout_than_was_planned_is_noticed(tmp_path: Path, table: pa.Table) -> None:
    shard = shard_of(tmp_path / "a.parquet", table)
    assert len(parts_of(shard, layout=Layout(10, 5))) == 5
    for layout in (Layout(10, 6), Layout(9, 5)):
        with pytest.raises(ShardError, match="changed after it was planned"):
            parts_of(shard, layout=layout)
