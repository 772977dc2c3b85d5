"""One shard, whatever its format: what it has, and its parts from the first that is not committed."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from batchsent.errors import ShardError, WrongSettingError
from batchsent.identity import Identity
from batchsent.records import Inspection, Layout, Part, Position, Shard, ShardDigest
from batchsent.stages.reader.delimited import other_delimiter, read_delimited, read_header
from batchsent.stages.reader.encoding_check import require_encoding
from batchsent.stages.reader.jsonlines import read_jsonlines
from batchsent.stages.reader.parquet import (
    group_rows_of,
    open_parquet,
    read_parquet,
    row_bytes_of,
    text_bytes_of,
    text_error,
)
from batchsent.stages.reader.raw_part import RawPart
from batchsent.stages.reader.text_stream import RECORD_LIMIT_BYTES, expansion_of, field_encoding, open_text
from batchsent.suggestions import listed, missing_column

COLUMN_LIMIT = 10_000
"""Of a shard: more are not the columns of a review, but a delimiter that is none, or a bomb."""

_SAMPLED_LINES = 100
"""Lines of a JSON Lines shard that are looked at for the text's key."""


@dataclass(frozen=True)
class InspectRequest:
    """Which columns a shard has, and how many records if that is written somewhere."""

    shard: Shard
    text_column: str
    kept: tuple[str, ...]
    encoding: str
    delimiter: str | None
    label_column: str | None = None
    """Which of ``kept`` was asked for as the label: what to mend where it is missing."""
    keep_all: bool = False
    measures_expansion: bool = False


@dataclass(frozen=True)
class ReadRequest:
    """What to read of a shard, and how."""

    shard: Shard
    unit: str
    digest: ShardDigest
    done: dict[int, tuple[Position, bool]]
    """Committed parts to jump over: index → (end, was it the last)."""
    text_column: str
    kept: tuple[str, ...] | None
    """Input columns to copy; None copies all."""
    encoding: str
    delimiter: str | None
    rows_per_part: int
    limit: int | None
    layout: Layout | None = None
    """What ``parts`` were planned by."""
    parts: range | None = None
    """Indices of the parts that are wanted; None wants all."""

    @classmethod
    def of_texts(cls, shard: Shard, digest: ShardDigest, identity: Identity) -> Self:
        """All of a shard as a run with these settings reads it, but for the columns that are kept."""
        return cls(
            shard=shard,
            unit="",
            digest=digest,
            done={},
            text_column=identity.text_column,
            kept=(),
            encoding=identity.encoding,
            delimiter=identity.delimiter,
            rows_per_part=identity.rows_per_part,
            limit=identity.limit,
        )


def inspect_shard(request: InspectRequest) -> Inspection:
    """Columns, record count, and what is wrong with them. Never raises for a shard that cannot be read."""
    shard = request.shard
    try:
        if shard.format == ".parquet":
            return _inspect_parquet(request)
        require_encoding(shard, request.encoding)
        if shard.format in (".csv", ".tsv"):
            columns: Sequence[str] = read_header(shard, request.encoding, request.delimiter)
            require_few(shard, columns)
        else:
            columns = sampled_keys(shard, request.encoding)
        expansion = expansion_of(shard, request.encoding) if request.measures_expansion else 1.0
    except ShardError as error:
        return Inspection(shard, (), None, error=str(error), is_setting_wrong=isinstance(error, WrongSettingError))
    missing = _missing(shard, columns, request) if columns else None
    # The keys of JSON Lines may be any number; with so many, reading will fail where all are to be kept.
    return Inspection(
        shard,
        tuple(columns[:COLUMN_LIMIT]),
        None,
        error=missing,
        is_setting_wrong=missing is not None,
        expansion=expansion,
    )


def _inspect_parquet(request: InspectRequest) -> Inspection:
    shard, file = request.shard, open_parquet(request.shard)
    columns = file.schema_arrow.names
    require_few(shard, columns)
    wrong = _missing(shard, columns, request) if columns else None
    if wrong is None and (found := text_error(file.schema_arrow, request.text_column)):
        wrong = f"{found}, in {shard.name}; a column of strings was expected; pass --text-column"
    record_count = file.metadata.num_rows
    if wrong is not None or not columns:
        return Inspection(shard, tuple(columns), record_count, error=wrong, is_setting_wrong=wrong is not None)
    wanted = columns if request.keep_all else [request.text_column, *request.kept]
    return Inspection(
        shard,
        tuple(columns),
        record_count,
        row_bytes=row_bytes_of(file.metadata, wanted),
        text_bytes=text_bytes_of(file.metadata, request.text_column),
        group_rows=group_rows_of(file.metadata),
    )


def require_few(shard: Shard, columns: Sequence[str]) -> None:
    """Raise ShardError for so many columns that they are none."""
    if len(columns) > COLUMN_LIMIT:
        raise ShardError(
            f"{shard.name} has {len(columns)} columns", f"at most {COLUMN_LIMIT}", "leave out those that are not needed"
        )


def _missing(shard: Shard, columns: Sequence[str], request: InspectRequest) -> str | None:
    # The keys of a JSON Lines record may come and go, so only the text's is asked for.
    wanted = [("--text-column", request.text_column)]
    if not shard.is_json_lines:
        label = request.label_column
        wanted += [("--label-column" if name == label else "--keep", name) for name in request.kept]
    for option, name in wanted:
        count = list(columns).count(name)
        if count > 1:
            return f"column {name!r} is {count} times in {shard.name}; one was expected; rename the others"
        if not count:
            if shard.format in (".csv", ".tsv") and len(columns) == 1 and (other := other_delimiter(columns[0])):
                has = listed(columns)
                return f"column {name!r} is not in {shard.name} (it has: {has}); did you mean --delimiter {other!r}?"
            return missing_column(name, shard.name, columns[:COLUMN_LIMIT], option)
    return None


def sampled_keys(shard: Shard, encoding: str) -> Sequence[str]:
    """Keys of the first records, in order of appearance; empty if no record could be understood."""
    keys: dict[str, None] = {}
    codec = field_encoding(encoding)
    with open_text(shard, encoding) as stream:
        lines = iter(lambda: stream.readline(RECORD_LIMIT_BYTES), b"")
        for line in itertools.islice(lines, _SAMPLED_LINES):
            if len(line) == RECORD_LIMIT_BYTES:
                break  # reading will fail there
            try:
                record = json.loads(line.decode(codec))
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                keys |= dict.fromkeys(map(str, record))
            if len(keys) > COLUMN_LIMIT:
                break
    return tuple(keys)


def read_parts(request: ReadRequest) -> Iterator[Part]:
    """Every part of the shard that is wanted and not in ``request.done``. Raises ShardError."""
    index, position, stop = 0, Position(), sys.maxsize
    if request.parts is not None and request.layout is not None:
        index, stop = request.parts.start, request.parts.stop
        position = Position(index * request.layout.row_count)
    while True:
        while index in request.done:
            position, was_last = request.done[index]
            index += 1
            if was_last:
                return
        if index >= stop:
            return
        for raw in _raw_parts(request, position):
            yield Part(
                request.shard,
                request.unit,
                index,
                raw.records,
                raw.end,
                raw.is_last,
                kept_kinds=raw.kept_kinds,
            )
            index, position = index + 1, raw.end
            if raw.is_last or index >= stop:
                return
            if index in request.done:
                break


def _raw_parts(request: ReadRequest, start: Position) -> Iterator[RawPart]:
    shard, rows, limit = request.shard, request.rows_per_part, request.limit
    text_column, kept = request.text_column, request.kept
    if shard.format == ".parquet":
        return read_parquet(
            shard,
            text_column=text_column,
            kept=kept,
            rows_per_part=rows,
            limit=limit,
            start=start,
            layout=request.layout,
        )
    if shard.format in (".csv", ".tsv"):
        if kept is None:
            kept = read_header(shard, request.encoding, request.delimiter)
        return read_delimited(
            shard,
            encoding=request.encoding,
            delimiter=request.delimiter,
            text_column=text_column,
            kept=kept,
            rows_per_part=rows,
            limit=limit,
            start=start,
        )
    return read_jsonlines(
        shard,
        encoding=request.encoding,
        text_column=text_column,
        kept=kept,
        rows_per_part=rows,
        limit=limit,
        start=start,
    )
