"""Which runs of records are read to stand for all: a few parts, drawn by their size, the same ones every time.

A part is drawn with a probability in proportion to its records, and stands for as many as its inverse says (a
Horvitz-Thompson estimate). Where there are few, all are drawn, and nothing is estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchsent.identity import Identity
from batchsent.plan.kept import Remainder
from batchsent.records import Position, Shard
from batchsent.stages.reader import is_stored_as_parsed

SEED = 0
SAMPLED_TEXTS = 4_096
"""About as many distinct texts are tokenized: a second or two, and a share is known to two or three percent."""
FEWEST_PLACES = 8
"""From which the difference between them is judged."""
MOST_PLACES = 64
SKIPPED_BYTES = 32 << 20
"""Decoded in vain at most before the first record that is wanted: row groups may be large."""
_BYTES_PER_RECORD = 300
_COMPRESSION = 3
"""With the one before: what text formats are taken to hold until some of it was read."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where to read a run of records."""

    remainder: Remainder
    weight: float
    """How many like it there are, the whole input over."""
    part: int | None = None
    """Parquet: its index."""
    start: Position | None = None
    """JSON Lines: from the first line that begins behind it. Others are read from where a run would go on."""
    piece_count: int = 1
    """JSON Lines: of as many pieces of one size it is the beginning of one."""
    run_count: int = 1
    """Text formats: runs one behind the other."""


def choose_places(remainders: list[Remainder], identity: Identity) -> list[Place]:
    """Drawn from all that is left, in the order of the input."""
    candidates, rows = _candidates(remainders, identity)
    if not len(rows):
        return []
    mean_rows = float(np.minimum(rows, identity.rows_per_part).mean())
    wanted = min(max(math.ceil(SAMPLED_TEXTS / mean_rows), FEWEST_PLACES), MOST_PLACES, len(rows))
    probabilities = inclusion_probabilities(rows, wanted)
    drawn = np.sort(_systematic(probabilities, np.random.default_rng(SEED)))
    enough = math.ceil(SAMPLED_TEXTS / (wanted * identity.rows_per_part))
    run_count = max(1, FEWEST_PLACES // len(rows), min(enough, MOST_PLACES // wanted))
    return [_place(candidates, int(index), 1 / float(probabilities[index]), run_count) for index in drawn]


def inclusion_probabilities(sizes: Floats, count: int) -> Floats:
    """In proportion to ``sizes`` [candidates, positive], adding up to ``count``, none above one."""
    certain = np.zeros(len(sizes), bool)
    while True:
        left = count - int(certain.sum())
        shares = np.where(certain, 1.0, left * sizes / max(float(sizes[~certain].sum()), 1e-9))
        above = (shares >= 1) & ~certain
        if not above.any() or left <= 0:
            return np.minimum(shares, 1.0)
        certain |= above


def _systematic(probabilities: Floats, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of those drawn: every whole number that the running sum passes, from a random start."""
    order = random.permutation(len(probabilities))
    sums = np.cumsum(np.append(random.random(), probabilities[order]))
    is_passed = np.diff(np.floor(sums)) > 0
    # What is certain must not be lost to rounding.
    drawn: npt.NDArray[np.int64] = order[is_passed | (probabilities[order] > 1 - 1e-9)]
    return drawn


@dataclass(frozen=True)
class _Candidates:
    """All that may be drawn: for each shard a run of indices."""

    remainders: list[Remainder]
    ends: npt.NDArray[np.int64]
    """[remainders]: candidates of all up to and with each."""

    def find(self, index: int) -> tuple[Remainder, int, int]:
        """The shard, which of its candidates, and how many it has."""
        which = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[which - 1]) if which else 0
        return self.remainders[which], index - before, int(self.ends[which]) - before


def _candidates(remainders: list[Remainder], identity: Identity) -> tuple[_Candidates, Floats]:
    """Those that hold records, and how many records each is taken to hold."""
    found: list[Remainder] = []
    sizes: list[Floats] = []
    for remainder in remainders:
        rows = _rows_of_candidates(remainder, identity)
        if len(rows):
            found.append(remainder)
            sizes.append(rows)
    ends = np.cumsum([len(rows) for rows in sizes], dtype=np.int64)
    return _Candidates(found, ends), np.concatenate([np.empty(0), *sizes])


def _rows_of_candidates(remainder: Remainder, identity: Identity) -> Floats:
    if remainder.is_finished:
        return np.empty(0)
    if remainder.layout is not None:
        parts = remainder.open_parts
        rows = np.full(len(parts), float(remainder.layout.row_count))
        if parts and parts[-1] == remainder.layout.part_count - 1:
            rows[-1] = remainder.rows_of(parts[-1])
        return rows[rows > 0]
    expected = _expected_rows(remainder, identity.limit)
    count = max(1, round(expected / identity.rows_per_part)) if _is_read_anywhere(remainder, identity) else 1
    return np.full(count, expected / count) if expected > 0 else np.empty(0)


def _expected_rows(remainder: Remainder, limit: int | None) -> float:
    """Text formats: records that are left, by the size of the file alone."""
    shard = remainder.shard
    rows = rows_in(shard.size_bytes if shard.compression else shard.size_bytes - remainder.end.byte_offset, shard)
    return rows if limit is None else min(rows, limit - remainder.end.row_index)


def rows_in(size_bytes: float, shard: Shard) -> float:
    """Of a text format, as long as nobody knows better."""
    return size_bytes * (_COMPRESSION if shard.compression else 1) / _BYTES_PER_RECORD


def _is_read_anywhere(remainder: Remainder, identity: Identity) -> bool:
    """A line is a record, whatever stands before it; in CSV nobody knows whether a line end is in a field."""
    shard = remainder.shard
    return shard.is_json_lines and is_stored_as_parsed(shard, identity.encoding) and identity.limit is None


def _place(candidates: _Candidates, index: int, weight: float, run_count: int) -> Place:
    remainder, own_index, own_count = candidates.find(index)
    if remainder.layout is not None:
        return Place(remainder, weight, part=_nearer(remainder, remainder.open_parts[own_index]))
    if own_count > 1:
        begin, size = remainder.end.byte_offset, remainder.shard.size_bytes
        offset = begin + (size - begin) * own_index // own_count
        start = Position(remainder.end.row_index, offset) if own_index else None
        return Place(remainder, weight, start=start, piece_count=own_count)
    return Place(remainder, weight, run_count=run_count)


def _nearer(remainder: Remainder, part: int) -> int:
    """A part in the same row group before which less has to be decoded; itself, where that is not much."""
    layout, inspection = remainder.layout, remainder.inspection
    if layout is None or not inspection.group_rows:
        return part
    first_row = part * layout.row_count
    offset = first_row % inspection.group_rows
    limit = max(layout.row_count, int(SKIPPED_BYTES / max(1.0, inspection.row_bytes)))
    nearer = (first_row - offset + offset % limit) // layout.row_count
    return part if offset < limit or nearer in remainder.done else nearer


def skipped_rows(remainder: Remainder, part: int) -> int:
    """Rows that are decoded before the first of ``part``."""
    if remainder.layout is None or not remainder.inspection.group_rows:
        return 0
    return (part * remainder.layout.row_count) % remainder.inspection.group_rows
