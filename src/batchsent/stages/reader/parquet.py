"""Parquet shards: rows [k·R, (k+1)·R) are part k, with R from the footer alone, so any rank can find its part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchsent.errors import ShardError
from batchsent.records import Inspection, Layout, Position, Shard
from batchsent.schema import READ_FIELDS, kept_field
from batchsent.stages.reader.decompression import open_object
from batchsent.stages.reader.raw_part import PART_LIMIT_BYTES, RawPart
from batchsent.stages.reader.text_stream import RECORD_LIMIT_BYTES

DECODED_LIMIT_BYTES = 4 * PART_LIMIT_BYTES
"""Of a part in memory. The footer counts a value that repeats once, and long rows may stand together, so a part may
be larger than it makes believe; of a bomb it is told apart by how much."""

_BATCH_ROWS = 64
"""Decoded at once: few, because nobody knows how large they are before; more would save no time."""


def open_parquet(shard: Shard) -> pq.ParquetFile:
    """Open for streaming: pages are read as they are needed, and checked where the writer left checksums."""
    try:
        source = open_object(shard) if shard.version else shard.path
        return pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
    except pa.ArrowMemoryError:
        raise  # not the file's format, but its size: the process that reads says so
    except (pa.ArrowException, OSError) as error:
        raise unreadable(shard, error) from error


def unreadable(shard: Shard, error: Exception) -> ShardError:
    """What a library said of a file, in one line."""
    # The first line of Arrow's messages names what is wrong; the rest is a trace of its C++ files.
    first = (str(error).splitlines() or [type(error).__name__])[0]
    first = "".join(character if character.isprintable() else "?" for character in first)  # some quote damaged bytes
    return ShardError(f"{shard.name} is not readable as Parquet ({first})", "a complete Parquet file", "write it again")


def is_text(data_type: pa.DataType) -> bool:
    """Whether values of this type are strings."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(data_type) for is_kind in kinds)


def text_error(schema: pa.Schema, text_column: str) -> str | None:
    """Why ``text_column`` cannot be scored, if it cannot; its presence is somebody else's question."""
    data_type = schema.field(text_column).type
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    if is_text(data_type):
        return None
    return f"column {text_column!r} is {schema.field(text_column).type}, not text"


def layout_of(inspection: Inspection, rows_per_part: int, limit: int | None) -> Layout | None:
    """The parts that the shard has; None if that is known only when it is read."""
    if inspection.record_count is None:
        return None
    return _layout(inspection.record_count, inspection.row_bytes, rows_per_part, limit)


def _layout(row_count: int, row_bytes: float, rows_per_part: int, limit: int | None) -> Layout:
    """R is ``rows_per_part``, or fewer where the footer says that so many rows exceed PART_LIMIT_BYTES."""
    total = row_count if limit is None else min(limit, row_count)
    rows = max(1, min(rows_per_part, int(PART_LIMIT_BYTES / max(1.0, row_bytes))))
    return Layout(rows, max(1, -(-total // rows)))


def row_bytes_of(metadata: pq.FileMetaData, wanted: Sequence[str]) -> float:
    """Size of a row in the columns ``wanted``: its mean in the row group where that is largest."""
    leaves, largest = _leaves(metadata, wanted), 0.0
    for group_index in range(metadata.num_row_groups):
        group = metadata.row_group(group_index)
        size = sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
        largest = max(largest, size / max(1, group.num_rows))
    return largest


def group_rows_of(metadata: pq.FileMetaData) -> int:
    """Rows of the largest row group."""
    return max((metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)), default=0)


def text_bytes_of(metadata: pq.FileMetaData, text_column: str) -> int:
    """Size of the text's column: what it costs to score it, about."""
    leaves = _leaves(metadata, [text_column])
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return sum(group.column(leaf).total_uncompressed_size for group in groups for leaf in leaves)


def _leaves(metadata: pq.FileMetaData, wanted: Sequence[str]) -> list[int]:
    """Indices of the physical columns that the columns ``wanted`` consist of."""
    roots = tuple(f"{name}." for name in wanted)
    paths = (metadata.schema.column(index).path for index in range(metadata.num_columns))
    return [index for index, path in enumerate(paths) if f"{path}.".startswith(roots)]


def read_parquet(
    shard: Shard,
    *,
    text_column: str,
    kept: Sequence[str] | None,
    rows_per_part: int,
    limit: int | None,
    start: Position,
    layout: Layout | None = None,
) -> Iterator[RawPart]:
    """Parts from the one that begins at ``start.row_index``; ``kept`` None keeps every column.

    ``layout`` is what they were planned by. Raises ShardError for a file that is damaged or has another layout by now,
    a part that is far larger in memory than its footer says, and a text of more than RECORD_LIMIT_BYTES.
    """
    file = open_parquet(shard)
    kept = file.schema_arrow.names if kept is None else kept
    columns = list(dict.fromkeys([text_column, *kept]))
    _require_consistent_counts(shard, file.metadata, columns)
    found = _layout(file.metadata.num_rows, row_bytes_of(file.metadata, columns), rows_per_part, limit)
    if layout not in (None, found):
        raise ShardError(f"{shard.name} changed after it was planned", "input that holds still", "run again")
    part_rows = found.row_count
    total = file.metadata.num_rows if limit is None else min(limit, file.metadata.num_rows)
    begin = start.row_index
    try:
        batches = _rows(file, columns, begin, total, min(_BATCH_ROWS, part_rows))
        for table in _rechunked(shard, batches, part_rows, file.schema_arrow, columns):
            end = begin + table.num_rows
            records = _records(shard, table, text_column, kept, begin)
            yield RawPart(records, Position(end), is_last=end >= total, kept_kinds={})
            begin = end
        if begin < total:
            raise ShardError(
                f"{shard.name} has {begin} rows where its footer counts {total}",
                "a complete Parquet file",
                "write it again",
            )
    except pa.ArrowMemoryError:
        raise  # not the file's format, but its size: the process that reads says so
    except (pa.ArrowException, OSError) as error:
        raise unreadable(shard, error) from error


def first_values(shard: Shard, file: pq.ParquetFile, columns: list[str], row_count: int) -> dict[str, list[Any]]:
    """The values of ``columns`` in the first rows; a string that is not UTF-8 is None. Raises ShardError."""
    try:
        batches = list(_rows(file, columns, 0, min(row_count, file.metadata.num_rows), _BATCH_ROWS)) if columns else []
        if not batches:
            return {}
        table = pa.Table.from_batches(batches)
        return {name: _values(table.column(name)) for name in columns}
    except pa.ArrowMemoryError:
        raise  # not the file's format, but its size: the process that reads says so
    except (pa.ArrowException, OSError) as error:
        raise unreadable(shard, error) from error


def _values(column: pa.ChunkedArray[Any]) -> list[Any]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    values: list[Any] = (_text(column)[0] if is_text(kind) else column).to_pylist()
    return values


def _require_consistent_counts(shard: Shard, metadata: pq.FileMetaData, wanted: Sequence[str]) -> None:
    """Raise ShardError unless the counts in the footer say the same: rows would be lost, or waited for."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    is_consistent = sum(group.num_rows for group in groups) == metadata.num_rows
    for leaf in _leaves(metadata, wanted):
        if metadata.schema.column(leaf).max_repetition_level == 0:  # else a row has any number of values
            is_consistent &= all(group.column(leaf).num_values == group.num_rows for group in groups)
    if not is_consistent:
        raise ShardError(
            f"the footer of {shard.name} counts its rows in different ways",
            "a complete Parquet file",
            "write it again",
        )


def _rows(file: pq.ParquetFile, columns: list[str], begin: int, stop: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows [begin, stop), at most ``batch_rows`` at a time, without reading row groups that lie outside."""
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
    for batch in file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=columns, use_threads=False):
        low, high = max(begin - position, 0), min(stop - position, batch.num_rows)
        position += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if position >= stop:
            return


def _rechunked(
    shard: Shard, batches: Iterator[pa.RecordBatch], rows: int, schema: pa.Schema, columns: list[str]
) -> Iterator[pa.Table]:
    """Tables of ``rows`` rows each, the last one shorter; one empty table if there are no rows at all."""
    pending = _PendingRows(shard, rows)
    produced = False
    for batch in batches:
        while len(pending) + batch.num_rows >= rows:
            take = rows - len(pending)
            pending.add(batch.slice(0, take))
            yield pending.table()
            pending, produced = _PendingRows(shard, rows), True
            batch = batch.slice(take)
        if batch.num_rows:
            pending.add(batch)
    if len(pending):
        yield pending.table()
    elif not produced:
        yield pa.schema([schema.field(name) for name in columns]).empty_table()


class _PendingRows:
    """The rows of a part while they are decoded. Raises ShardError as soon as they are too large for one."""

    def __init__(self, shard: Shard, rows: int) -> None:
        self._shard, self._rows = shard, rows
        self._batches: list[pa.RecordBatch] = []
        self._count = self._size_bytes = 0

    def __len__(self) -> int:
        return self._count

    def add(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._count += batch.num_rows
        self._size_bytes += sum(map(_decoded_bytes, batch.columns))
        if self._size_bytes > DECODED_LIMIT_BYTES:
            raise ShardError(
                f"a part of {self._rows} rows of {self._shard.name} holds more than {DECODED_LIMIT_BYTES >> 20} MiB",
                f"at most that, where its footer says {PART_LIMIT_BYTES >> 20} MiB or less",
                "pass a lower --rows-per-part, or write it with shorter values",
            )

    def table(self) -> pa.Table:
        # One chunk: each of a dictionary column would bring the whole dictionary along.
        return pa.Table.from_batches(self._batches).combine_chunks()


def _decoded_bytes(column: pa.Array[Any]) -> int:
    """Size of a column's values, each counted as often as it stands there."""
    size: int = (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).nbytes
    return size


def _records(shard: Shard, table: pa.Table, text_column: str, kept: Sequence[str], first_row: int) -> pa.Table:
    count = table.num_rows
    text, undecodable = _text(table.column(text_column))
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    if longest > RECORD_LIMIT_BYTES:
        raise ShardError(
            f"{shard.name} has a text of more than {RECORD_LIMIT_BYTES} bytes in records "
            f"{first_row} to {first_row + count - 1}",
            "reviews",
            "pass another --text-column, or leave it out",
        )
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
