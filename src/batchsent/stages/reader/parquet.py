"""Parquet shards: rows [k·R, (k+1)·R) are part k, with R from the footer alone, so any rank can find its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchsent.errors import ShardError
from batchsent.records import Position, Shard
from batchsent.schema import READ_FIELDS, kept_field
from batchsent.stages.reader.raw_part import PART_LIMIT_BYTES, RawPart


def open_parquet(shard: Shard) -> pq.ParquetFile:
    """Open for streaming: pages are read as they are needed, and checked where the writer left checksums."""
    try:
        return pq.ParquetFile(shard.path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
    except pa.ArrowMemoryError:
        raise  # not the file's format, but its size: the process that reads says so
    except (pa.ArrowException, OSError) as error:
        raise unreadable(shard, error) from error


def unreadable(shard: Shard, error: Exception) -> ShardError:
    """What a library said of a file, in one line."""
    # The first line of Arrow's messages names what is wrong; the rest is a trace of its C++ files.
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ShardError(f"{shard.name} is not readable as Parquet ({first})", "a complete Parquet file", "write it again")


def text_error(schema: pa.Schema, text_column: str) -> str | None:
    """Why ``text_column`` cannot be scored, if it cannot; its presence is somebody else's question."""
    data_type = schema.field(text_column).type
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return None
    return f"column {text_column!r} is {schema.field(text_column).type}, not text"


def rows_of_part(metadata: pq.FileMetaData, wanted: Sequence[str], rows_per_part: int) -> int:
    """R: ``rows_per_part``, or fewer where the footer says that so many rows exceed PART_LIMIT_BYTES."""
    roots = tuple(f"{name}." for name in wanted)
    largest = 1.0
    for group_index in range(metadata.num_row_groups):
        group = metadata.row_group(group_index)
        columns = (group.column(index) for index in range(group.num_columns))
        size = sum(c.total_uncompressed_size for c in columns if f"{c.path_in_schema}.".startswith(roots))
        largest = max(largest, size / max(1, group.num_rows))
    return max(1, min(rows_per_part, int(PART_LIMIT_BYTES / largest)))


def read_parquet(
    shard: Shard,
    *,
    text_column: str,
    kept: Sequence[str] | None,
    rows_per_part: int,
    limit: int | None,
    start: Position,
) -> Iterator[RawPart]:
    """Parts from the one that begins at ``start.row_index``; ``kept`` None keeps every column."""
    file = open_parquet(shard)
    kept = file.schema_arrow.names if kept is None else kept
    columns = list(dict.fromkeys([text_column, *kept]))
    part_rows = rows_of_part(file.metadata, columns, rows_per_part)
    total = file.metadata.num_rows if limit is None else min(limit, file.metadata.num_rows)
    begin = start.row_index
    try:
        tables = _rechunked(_rows(file, columns, begin, total), part_rows, file.schema_arrow, columns)
        for table in tables:
            end = begin + table.num_rows
            records = _records(table, text_column, kept, begin)
            yield RawPart(records, Position(end), is_last=end >= total, kept_kinds={})
            begin = end
    except pa.ArrowMemoryError:
        raise  # not the file's format, but its size: the process that reads says so
    except (pa.ArrowException, OSError) as error:
        raise unreadable(shard, error) from error


def _rows(file: pq.ParquetFile, columns: list[str], begin: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Rows [begin, stop) without reading row groups that lie outside."""
    groups: list[int] = []
    first_row = position = 0
    for index in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(index).num_rows
        if position + rows > begin and position < stop:
            if not groups:
                first_row = position
            groups.append(index)
        position += rows
    if not groups:
        return
    position = first_row
    for batch in file.iter_batches(batch_size=4096, row_groups=groups, columns=columns, use_threads=False):
        low, high = max(begin - position, 0), min(stop - position, batch.num_rows)
        position += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if position >= stop:
            return


def _rechunked(
    batches: Iterator[pa.RecordBatch], rows: int, schema: pa.Schema, columns: list[str]
) -> Iterator[pa.Table]:
    """Tables of ``rows`` rows each, the last one shorter; one empty table if there are no rows at all."""
    pending: list[pa.RecordBatch] = []
    count, produced = 0, False
    for batch in batches:
        while count + batch.num_rows >= rows:
            take = rows - count
            yield pa.Table.from_batches([*pending, batch.slice(0, take)])
            pending, count, produced = [], 0, True
            batch = batch.slice(take)
        if batch.num_rows:
            pending.append(batch)
            count += batch.num_rows
    if pending:
        yield pa.Table.from_batches(pending)
    elif not produced:
        yield pa.schema([schema.field(name) for name in columns]).empty_table()


def _records(table: pa.Table, text_column: str, kept: Sequence[str], first_row: int) -> pa.Table:
    count = table.num_rows
    text, undecodable = _text(table.column(text_column))
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text), ""), True)
    reason = pc.if_else(blank, "empty_text", pa.scalar(None, pa.string()))
    detail = pa.nulls(count, pa.string())
    if undecodable is not None:
        reason = pc.if_else(undecodable, "undecodable", reason)
        detail = pc.if_else(undecodable, "the bytes are not UTF-8", detail)
    text = pc.if_else(pc.is_valid(reason), pa.scalar(None, pa.large_string()), text)
    own: list[Any] = [
        pa.array(range(first_row, first_row + count), pa.int64()),
        pa.nulls(count, pa.int64()),
        text,
        reason,
        detail,
    ]
    kept_fields = [kept_field(name, table.schema.field(name).type) for name in kept]
    schema = pa.schema([*READ_FIELDS, *kept_fields])
    return pa.Table.from_arrays([*own, *(table.column(name) for name in kept)], schema=schema)


def _text(column: pa.ChunkedArray[Any]) -> tuple[pa.Array[Any], pa.Array[Any] | None]:
    """The column as large_string, and a mask of the rows that are not UTF-8 (None if all are).

    Arrow does not check strings when it reads them, and a tokenizer must not meet what cannot be decoded.
    """
    whole = column.combine_chunks()
    text = (whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole).cast(pa.large_string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        values, broken = [], []
        for data in text.cast(pa.large_binary()).to_pylist():
            try:
                values.append(None if data is None else data.decode("utf-8"))
                broken.append(False)
            except UnicodeDecodeError:
                values.append(None)
                broken.append(True)
        return pa.array(values, pa.large_string()), pa.array(broken, pa.bool_())
    return text, None
