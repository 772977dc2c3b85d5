"""What a text format's reader makes: the records of a part, gathered one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batchsent.records import Position, RejectReason
from batchsent.schema import READ_FIELDS, kept_field

if TYPE_CHECKING:
    from collections.abc import Sequence

PART_LIMIT_BYTES = 64 * 1024 * 1024
"""Of input in a part, and of a record that is many lines."""


@dataclass(frozen=True)
class RawPart:
    """A part as a text format gives it: what the reader of shards makes a Part of."""

    records: pa.Table
    """schema.READ_FIELDS, then the kept columns under their input names, as strings."""
    end: Position
    is_last: bool
    kept_kinds: dict[str, list[str]]


class PartRows:
    """The records of a part while it is read; ``start`` is the position of the first."""

    def __init__(self, start: Position) -> None:
        self.start = start
        self._offsets: list[int] = []
        self._texts: list[str | None] = []
        self._reasons: list[RejectReason | None] = []
        self._details: list[str | None] = []

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def end_index(self) -> int:
        """Index of the record that would come next."""
        return self.start.row_index + len(self._offsets)

    def accept(self, offset: int, text: str) -> None:
        """A record that has a text."""
        self._append(offset, text, None, None)

    def reject(self, offset: int, reason: RejectReason, detail: str | None = None) -> None:
        """A record that has none."""
        self._append(offset, None, reason, detail)

    def _append(self, offset: int, text: str | None, reason: RejectReason | None, detail: str | None) -> None:
        self._offsets.append(offset)
        self._texts.append(text)
        self._reasons.append(reason)
        self._details.append(detail)

    def reaches(self, limit: int | None) -> bool:
        """Whether the shard has had as many records as were asked for."""
        return limit is not None and self.end_index >= limit

    def is_full(self, offset: int, rows_per_part: int) -> bool:
        """Whether a part ends at ``offset``. It never does before its first record."""
        consumed = offset - self.start.byte_offset
        return len(self) >= rows_per_part or (len(self) > 0 and consumed >= PART_LIMIT_BYTES)

    def part(
        self,
        kept: Sequence[tuple[str, Sequence[str | None]]],
        *,
        end_offset: int,
        is_last: bool,
        kept_kinds: dict[str, list[str]] | None = None,
    ) -> RawPart:
        """The finished part; ``kept`` is (input name, one value a record) for every kept column."""
        indices = range(self.start.row_index, self.end_index)
        columns = (indices, self._offsets, self._texts, self._reasons, self._details)
        fields: list[pa.Field[Any]] = [*READ_FIELDS, *(kept_field(name, pa.string()) for name, _ in kept)]
        schema = pa.schema(fields)
        values = [*columns, *(column for _, column in kept)]
        arrays = [pa.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
        records = pa.Table.from_arrays(arrays, schema=schema)
        return RawPart(records, Position(self.end_index, end_offset), is_last, kept_kinds or {})
