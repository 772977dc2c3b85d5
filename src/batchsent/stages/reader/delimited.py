"""CSV and TSV: RFC 4180, every record or its reject in order, and never a row swallowed in silence.

The bytes go through Python's strict csv parser as Latin-1, one character a byte, so that offsets are exact
and a field that does not decode costs its record only. (pyarrow's parser loses bytes of quoted line ends at
block boundaries, and takes an unclosed quote for one long field.)
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, BinaryIO

from batchsent.errors import ShardError, UsageError, WrongSettingError
from batchsent.records import Position, Shard
from batchsent.stages.reader.raw_part import PART_LIMIT_BYTES, PartRows, RawPart
from batchsent.stages.reader.text_stream import (
    RECORD_LIMIT_BYTES,
    field_encoding,
    open_text,
    skip_to,
    undecodable_detail,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""By extension, where none was asked for."""
_QUOTING = "fields quoted as in RFC 4180"
_HEADER = -1
"""The header's row index: what follows it is record 0."""


def read_header(shard: Shard, encoding: str, delimiter: str | None) -> tuple[str, ...]:
    """The column names, exactly as they stand there; none if the file is empty. Raises ShardError."""
    names, _ = _read_header(shard, encoding, _delimiter(shard, delimiter))
    return names


def read_delimited(
    shard: Shard,
    *,
    encoding: str,
    delimiter: str | None,
    text_column: str,
    kept: Sequence[str],
    rows_per_part: int,
    limit: int | None,
    start: Position,
) -> Iterator[RawPart]:
    """The parts from ``start`` on, which is ``Position()`` or where an earlier part ended.

    ``kept`` are input columns; ``limit`` counts the records of the shard, rejected ones too. The last part
    may be empty. Raises ShardError where the boundaries of the records are lost.
    """
    delimiter = _delimiter(shard, delimiter)
    names, header_end = _read_header(shard, encoding, delimiter)
    columns = _Columns(shard, encoding, names, text_column, kept)
    position = Position(start.row_index, max(start.byte_offset, header_end))
    with open_text(shard, encoding) as stream:
        skip_to(stream, position.byte_offset)
        records = _Records(shard, stream, position, delimiter)
        is_last = False
        while not is_last:
            part = _read_part(records, columns, rows_per_part, limit)
            yield part
            is_last = part.is_last


def _delimiter(shard: Shard, delimiter: str | None) -> str:
    if delimiter is None:
        return DELIMITERS[shard.format]
    # In a stream of bytes, a character that is not ASCII is not one character.
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise UsageError(f"--delimiter is {delimiter!r}", "one ASCII character, no quote", "choose one")
    return delimiter


def _read_header(shard: Shard, encoding: str, delimiter: str) -> tuple[tuple[str, ...], int]:
    """Column names, and the offset of the line behind them."""
    with open_text(shard, encoding) as stream:
        records = _Records(shard, stream, Position(_HEADER, stream.tell()), delimiter)
        fields = next(records, [])
    if fields is None:
        found = f"the header of {shard.name} has malformed quotes"
        if (other := other_delimiter(records.first_line)) and delimiter not in records.first_line:
            raise WrongSettingError(found, _QUOTING, f"did you mean --delimiter {other!r}?")
        raise ShardError(found, _QUOTING, "repair it")
    codec = field_encoding(encoding)
    try:
        return tuple(field.encode("latin-1").decode(codec) for field in fields), records.end
    except UnicodeDecodeError as error:
        raise ShardError(
            f"the header of {shard.name} has {undecodable_detail(error, encoding)}",
            f"text in {encoding}",
            "pass the right --encoding",
        ) from error


def other_delimiter(header: str) -> str | None:
    """The delimiter of a header that has turned out to be one field: of the usual ones, that which it has most of."""
    best = max(",;\t|", key=header.count)
    return best if best in header else None


def _read_part(records: _Records, columns: _Columns, rows_per_part: int, limit: int | None) -> RawPart:
    rows = PartRows(Position(records.row_index + 1, records.end))
    kept: list[list[str] | None] = []
    is_last = rows.reaches(limit)
    while not is_last and not rows.is_full(records.end, rows_per_part):
        fields = next(records, [])
        if fields == []:
            is_last = True
        else:
            kept.append(columns.add(rows, records.offset, fields))
            is_last = rows.reaches(limit)
    values = [[None if row is None else row[i] for row in kept] for i in range(len(columns.kept))]
    return rows.part(list(zip(columns.kept, values, strict=True)), end_offset=records.end, is_last=is_last)


class _Columns:
    """Where the wanted fields stand in a record, and what is wrong with one that does not have them."""

    def __init__(
        self, shard: Shard, encoding: str, names: Sequence[str], text_column: str, kept: Sequence[str]
    ) -> None:
        for name in (text_column, *kept) if names else ():
            if (count := names.count(name)) != 1:
                raise ShardError(
                    f"column {name!r} is {count} times in the header of {shard.name}",
                    "one",
                    "rename the others",
                )
        self.kept = tuple(kept)
        self._names = names
        # A file without a header has no records to look into.
        self._text_at = names.index(text_column) if names else 0
        self._kept_at = [names.index(name) for name in kept] if names else []
        self._encoding, self._codec = encoding, field_encoding(encoding)

    def add(self, rows: PartRows, offset: int, fields: list[str] | None) -> list[str] | None:
        """Put one record into ``rows``; its kept values, None if it is malformed."""
        if fields is None:
            rows.reject(offset, "malformed_quotes", "text after a closing quote")
            return None
        if len(fields) != len(self._names):
            found = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            rows.reject(offset, "field_count", f"{found}, the header has {len(self._names)}")
            return None
        if not all(map(str.isascii, fields)) and (detail := self._decode(fields)):
            rows.reject(offset, "undecodable", detail)
            return None
        text = fields[self._text_at]
        if text and not text.isspace():
            rows.accept(offset, text)
        else:
            rows.reject(offset, "empty_text")
        return [fields[i] for i in self._kept_at]

    def _decode(self, fields: list[str]) -> str | None:
        """Decode in place, or say what does not."""
        for i, field in enumerate(fields):
            try:
                fields[i] = field.encode("latin-1").decode(self._codec)
            except UnicodeDecodeError as error:
                return f"{undecodable_detail(error, self._encoding)} in column {self._names[i]!r}"
        return None


class _Records:
    """The records of a stream, each as its fields, and the place between two of them."""

    def __init__(self, shard: Shard, stream: BinaryIO, start: Position, delimiter: str) -> None:
        csv.field_size_limit(RECORD_LIMIT_BYTES)  # of the whole process, which has no other use for it
        self.row_index = start.row_index - 1
        """Index of the record that was read last."""
        self.offset = start.byte_offset
        """Offset of its first line."""
        self.end = start.byte_offset
        """Offset of the line that comes next."""
        self._shard, self._delimiter = shard, delimiter
        self.first_line = ""
        """Of the record that was read last, as it stands there."""
        self._line_count, self._is_at_end = 0, False
        self._readline = io.TextIOWrapper(stream, encoding="latin-1", newline="").readline
        self._parser = csv.reader(iter(self._next_line, ""), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[list[str] | None]:
        return self

    def __next__(self) -> list[str] | None:
        """The next record's fields; None if its quotes are malformed, but it surely ended with its line."""
        self.row_index += 1
        while True:
            self.offset, self._line_count = self.end, 0
            try:
                fields = next(self._parser)
            except csv.Error:
                self._require_known_end()
                return None
            if fields:  # a blank line has none
                return fields

    def _next_line(self) -> str:
        line = self._readline(RECORD_LIMIT_BYTES + 1)
        if len(line) > RECORD_LIMIT_BYTES:
            raise self._error(f"has a line of more than {RECORD_LIMIT_BYTES} bytes")
        self.end += len(line)
        if self.end - self.offset > PART_LIMIT_BYTES:
            raise self._error(f"has more than {PART_LIMIT_BYTES} bytes")
        if not self._line_count:
            self.first_line = line
        self._line_count += 1
        self._is_at_end = not line
        return line

    def _require_known_end(self) -> None:
        """Raise unless the malformed record is one line: else nobody can know which rows it swallowed."""
        if self._is_at_end:
            raise self._error("has a quoted field that never ends")
        if self.end - self.offset > RECORD_LIMIT_BYTES:
            raise self._error(f"has a quoted field of more than {RECORD_LIMIT_BYTES} bytes")
        if self._line_count > 1 or not _ends_with_its_line(self.first_line, self._delimiter):
            raise self._error("has malformed quotes and may have swallowed others")

    def _error(self, what: str) -> ShardError:
        record = "the header" if self.row_index == _HEADER else f"record {self.row_index}"
        place = f"{record} of {self._shard.name}, at byte {self.offset},"
        return ShardError(f"{place} {what}", _QUOTING, "repair the file there")


def _ends_with_its_line(line: str, delimiter: str) -> bool:
    """Whether no lenient reading of a line, with or without backslash escapes, goes on to the next."""
    for escape in (None, "\\"):
        probed = iter((line, ""))
        next(csv.reader(probed, delimiter=delimiter, escapechar=escape))
        if next(probed, None) is None:
            return False
    return True
