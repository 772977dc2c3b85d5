"""JSON Lines: one object a line, its values as JSON text until the whole shard has shown their types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

from batchsent.errors import ShardError
from batchsent.records import Position, RejectReason, Shard
from batchsent.schema import json_kind
from batchsent.stages.reader.raw_part import PartRows, RawPart
from batchsent.stages.reader.text_stream import (
    RECORD_LIMIT_BYTES,
    field_encoding,
    open_text,
    skip_to,
    undecodable_detail,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEPT_KEYS_LIMIT = 1000
"""Of different keys in a part when all are kept: objects used as maps would be millions of empty cells."""


def read_jsonlines(
    shard: Shard,
    *,
    encoding: str,
    text_column: str,
    kept: Sequence[str] | None,
    rows_per_part: int,
    limit: int | None,
    start: Position,
) -> Iterator[RawPart]:
    """The parts from ``start`` on, which is ``Position()`` or where an earlier part ended.

    ``kept`` are keys to copy, None copies all: each part then has the keys of its own records, in
    order of appearance. ``limit`` counts the records of the shard, rejected ones too. The last part may be
    empty.
    """
    parser = _LineParser(encoding, text_column, kept)
    with open_text(shard, encoding) as stream:
        offset = max(start.byte_offset, stream.tell())
        skip_to(stream, offset)
        position, is_last = Position(start.row_index, offset), False
        while not is_last:
            part = _read_part(shard, stream, position, parser, rows_per_part, limit)
            yield part
            position, is_last = part.end, part.is_last


def _read_part(
    shard: Shard,
    stream: BinaryIO,
    start: Position,
    parser: _LineParser,
    rows_per_part: int,
    limit: int | None,
) -> RawPart:
    rows, offset = PartRows(start), start.byte_offset
    values: list[dict[str, str]] = []
    kinds: dict[str, set[str]] = {name: set() for name in parser.kept or ()}
    is_last = rows.reaches(limit)
    while not is_last and not rows.is_full(offset, rows_per_part):
        line = stream.readline(RECORD_LIMIT_BYTES + 1)
        if len(line) > RECORD_LIMIT_BYTES:
            raise ShardError(
                f"record {rows.end_index} of {shard.name}, at byte {offset}, "
                f"has a line of more than {RECORD_LIMIT_BYTES} bytes",
                "one JSON object a line",
                "repair the file there",
            )
        if line.strip():
            values.append(parser.add(rows, offset, line, kinds))
            if parser.kept is None and len(kinds) > KEPT_KEYS_LIMIT:
                raise ShardError(
                    f"{shard.name} has more than {KEPT_KEYS_LIMIT} different keys in a part",
                    "records of the same few keys",
                    "name the ones to copy with --keep",
                )
            is_last = rows.reaches(limit)
        offset += len(line)
        is_last = is_last or not line
    columns = [(name, [row.get(name) for row in values]) for name in kinds]
    kept_kinds = {name: sorted(seen) for name, seen in kinds.items()}
    return rows.part(columns, end_offset=offset, is_last=is_last, kept_kinds=kept_kinds)


class _RejectedError(Exception):
    """The line has no text that could be scored."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class _LineParser:
    """What a line holds: its text and its kept values, or why it is rejected."""

    def __init__(self, encoding: str, text_column: str, kept: Sequence[str] | None) -> None:
        self.kept = kept
        self._text_column = text_column
        self._encoding, self._codec = encoding, field_encoding(encoding)
        self._decode_json = json.JSONDecoder().decode

    def add(self, rows: PartRows, offset: int, line: bytes, kinds: dict[str, set[str]]) -> dict[str, str]:
        """Put a record into ``rows``, its kinds into ``kinds``; its kept values as JSON text."""
        try:
            record = self._object(line)
            text = self._text(record)
            kept = self._kept(record)
        except RecursionError:
            rows.reject(offset, "invalid_json", "line is nested too deeply")
            return {}
        except _RejectedError as error:
            rows.reject(offset, error.reason, error.detail)
            return {}
        if text:
            rows.accept(offset, text)
        else:
            is_missing = self._text_column not in record
            rows.reject(offset, "empty_text", f"no key {self._text_column!r}" if is_missing else None)
        for name in record if self.kept is None else ():
            kinds.setdefault(name, set())
        for name in kept:
            kinds[name].add(_kind(record[name]))
        return kept

    def _object(self, line: bytes) -> dict[str, Any]:
        try:
            record = self._decode_json(line.rstrip(b"\r\n").decode(self._codec))
        except UnicodeDecodeError as error:
            raise _RejectedError("undecodable", undecodable_detail(error, self._encoding)) from None
        except json.JSONDecodeError as error:
            raise _RejectedError("invalid_json", f"line is not valid JSON at character {error.pos}") from None
        except ValueError:  # Python refuses to convert it, because the time grows with the square
            raise _RejectedError("invalid_json", "line holds a number of too many digits") from None
        if not isinstance(record, dict):
            raise _RejectedError("invalid_json", f"line is {_described(record)}, not an object")
        return record

    def _text(self, record: dict[str, Any]) -> str:
        """The text; empty if there is none worth scoring."""
        text = record.get(self._text_column)
        if text is None:
            return ""
        if not isinstance(text, str):
            raise _RejectedError("not_a_string", f"{self._text_column!r} is {_described(text)}")
        if _has_lone_surrogate(text):
            raise _RejectedError("undecodable", f"a lone surrogate in {self._text_column!r}")
        return "" if text.isspace() else text

    def _kept(self, record: dict[str, Any]) -> dict[str, str]:
        if self.kept is None and any(map(_has_lone_surrogate, record)):
            raise _RejectedError("undecodable", "a lone surrogate in a key")
        names = record if self.kept is None else self.kept
        return {name: json.dumps(record[name]) for name in names if record.get(name) is not None}


def _has_lone_surrogate(text: str) -> bool:
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    # A string that is not valid Unicode stays JSON text: no Arrow string can hold it.
    return "other" if isinstance(value, str) and _has_lone_surrogate(value) else json_kind(value)


def _described(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
