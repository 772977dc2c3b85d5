"""CSV as RFC 4180 has it, a character at a time: the oracle that the reader is held against. Shares nothing with it."""

from __future__ import annotations

from dataclasses import dataclass


class UnclosedError(Exception):
    """A quoted field meets the end of the data."""


@dataclass(frozen=True)
class Record:
    """A record that is not a blank line; ``fields`` is None from where text follows a closing quote on."""

    start: int
    end: int
    fields: list[bytes] | None


def parse(data: bytes, start: int = 0) -> list[Record]:
    """The records from ``start`` on, up to the first one that is malformed. Raises UnclosedError."""
    records: list[Record] = []
    at = start
    while at < len(data):
        begin = at
        fields, at = _fields(data, at)
        if fields is None:
            return [*records, Record(begin, at, None)]
        if fields != [b""] or data[begin : begin + 1] == b'"':
            records.append(Record(begin, at, fields))
    return records


def _fields(data: bytes, at: int) -> tuple[list[bytes] | None, int]:
    fields: list[bytes] = []
    while True:
        if data[at : at + 1] == b'"':
            field, at = _quoted(data, at + 1)
        else:
            field, at = _unquoted(data, at)
        fields.append(field)
        separator = data[at : at + 1]
        if separator == b",":
            at += 1
        elif separator in (b"", b"\n", b"\r"):
            return fields, at + len(_line_end(data, at))
        else:
            return None, at


def _quoted(data: bytes, at: int) -> tuple[bytes, int]:
    field = bytearray()
    while at < len(data):
        if data[at] != ord('"'):
            field.append(data[at])
            at += 1
        elif data[at + 1 : at + 2] == b'"':
            field.append(ord('"'))
            at += 2
        else:
            return bytes(field), at + 1
    raise UnclosedError


def _unquoted(data: bytes, at: int) -> tuple[bytes, int]:
    end = at
    while end < len(data) and data[end] not in b",\r\n":
        end += 1
    return data[at:end], end


def _line_end(data: bytes, at: int) -> bytes:
    return next((end for end in (b"\r\n", b"\n", b"\r") if data.startswith(end, at)), b"")
