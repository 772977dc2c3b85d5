"""What an earlier run has left in DIR, and so what is left to do. Reads; neither locks, nor removes, nor hashes much.

A run trusts nothing but hashes. A plan trusts those that are remembered, hashes a little more, and where neither helps
takes a finished shard of the same size for unchanged, and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from batchsent import checkpoint
from batchsent.checkpoint import FileEntry, PartFile, PartState, ShardEntry, UnitProgress, Work
from batchsent.digests import DigestCache
from batchsent.errors import ShardError
from batchsent.identity import Identity
from batchsent.ledger import committed_bytes
from batchsent.records import Inspection, Layout, Position, Shard, ShardDigest
from batchsent.stages.reader import layout_of
from batchsent.stores import Store, look_at_each, signature

HASHED_BYTES = 256 << 20
"""Of input whose hash is not remembered: so much is hashed, in a second at most. A plan does not read gigabytes."""


@dataclass(frozen=True)
class Remainder:
    """A shard, and what of it is left to score."""

    inspection: Inspection
    layout: Layout | None
    """None where nobody knows the parts before they are read."""
    total: int | None
    """Records to be scored in all, if that is known."""
    done: dict[int, tuple[Position, bool]] = field(default_factory=dict)
    """Committed parts: index → (end, was it the last)."""
    kept_bytes: int = 0
    """Of the shard's size, counted as a run counts it."""
    kept_rows: int = 0
    """Records that are committed."""
    is_finished: bool = False
    is_assumed: bool = False
    """That it is finished: its content was not looked at."""
    is_hashed: bool = True
    """Its hash is known; otherwise a run reads it once more."""

    @property
    def shard(self) -> Shard:
        """The shard itself."""
        return self.inspection.shard

    @cached_property
    def open_parts(self) -> list[int] | range:
        """Parquet: indices of the parts that are left."""
        if self.layout is None or self.is_finished:
            return []
        every = range(self.layout.part_count)
        return [index for index in every if index not in self.done] if self.done else every

    def rows_of(self, part: int) -> int:
        """Parquet: records of a part."""
        if self.layout is None or self.total is None:
            return 0
        return min(self.layout.row_count, self.total - part * self.layout.row_count)

    @property
    def open_rows(self) -> int:
        """Parquet: records that are left."""
        if not self.done:
            return self.total if self.total is not None and not self.is_finished else 0
        return sum(map(self.rows_of, self.open_parts))

    @property
    def end(self) -> Position:
        """Text formats: up to where it is committed without a gap."""
        position, index = Position(), 0
        while index in self.done:
            position, _ = self.done[index]
            index += 1
        return position


class KeptWork:
    """The look into a DIR that has settings."""

    def __init__(self, store: Store, identity: Identity, digests: DigestCache, check: Callable[[], None]) -> None:
        self._store, self._identity, self._digests, self._check = store, identity, digests, check
        self._units = checkpoint.units(store)
        self._listed = checkpoint.listed_shards(store)
        self._hashable_bytes = HASHED_BYTES

    @property
    def listed(self) -> frozenset[str]:
        """Names of the shards in the manifest that is there."""
        return frozenset(self._listed)

    @cached_property
    def _left_behind(self) -> dict[str, ShardEntry]:
        """Entries of finished shards beside their parts, by the shard's name."""
        entries = look_at_each(self._store, lambda unit: checkpoint.load_entry(self._store, unit), sorted(self._units))
        return {entry.shard: entry for entry in entries if entry is not None}

    def remainders(self, inspections: list[Inspection]) -> Iterator[Remainder]:
        """What is left of each shard that can be read, in their order."""
        pairs = [(inspection, self._digest_of(inspection.shard)) for inspection in inspections]
        yield from look_at_each(self._store, lambda pair: self._remainder(*pair), pairs)

    def _digest_of(self, shard: Shard) -> ShardDigest | None:
        """The hash if it is known, or the shard small enough; of an object its store has said it."""
        self._check()
        if shard.version:
            return self._digests.of_shard(shard)
        known = self._digests.known(shard.path)
        if known is None and (self._units or self._listed) and shard.size_bytes <= self._hashable_bytes:
            self._hashable_bytes -= shard.size_bytes
            with contextlib.suppress(OSError, ShardError):
                return self._digests.digest(shard.path)
        return known

    def _remainder(self, inspection: Inspection, digest: ShardDigest | None) -> Remainder:
        shard, fresh = inspection.shard, fresh_remainder(inspection, self._identity, is_hashed=digest is not None)
        unit = None if digest is None else checkpoint.unit_of(self._identity, shard.name, digest)
        entry = self._finished_entry(shard, unit)
        if entry is not None:
            return replace(
                fresh,
                is_finished=True,
                is_assumed=unit is None,
                kept_bytes=shard.size_bytes,
                kept_rows=entry.record_count,
            )
        if unit is None or digest is None or unit not in self._units:
            return fresh
        progress = self._progress(fresh, unit)
        work = Work(shard, digest, unit, progress, inspection.record_count, fresh.layout)
        kept_rows = sum(part.state.record_count for part in progress.parts.values())
        return replace(fresh, done=progress.done, kept_bytes=committed_bytes(work), kept_rows=kept_rows)

    def _finished_entry(self, shard: Shard, unit: str | None) -> ShardEntry | None:
        """What says that the shard is finished, if its files are there; ``unit`` None where its content is unknown."""
        if unit is not None:
            left = checkpoint.load_entry(self._store, unit) if unit in self._units else None
            entries = [entry for entry in (self._listed.get(shard.name), left) if entry and entry.unit == unit]
        else:
            found = self._listed.get(shard.name) or self._left_behind.get(shard.name)
            entries = [found] if found and found.input_size_bytes == shard.size_bytes else []
        return next((entry for entry in entries if all(map(self._seems_intact, entry.files))), None)

    def _seems_intact(self, entry: FileEntry) -> bool:
        path = str(self._store.path(entry.path))
        found = signature(path)
        if found is None or found.size_bytes != entry.size_bytes:
            return False
        known = self._digests.known(path)
        return known is None or known.sha256 == entry.sha256

    def _progress(self, fresh: Remainder, unit: str) -> UnitProgress:
        """Committed parts by their names; where a part ends only its footer says, unless it is Parquet that is read."""
        if fresh.layout is None:
            return checkpoint.seen_progress(self._store, unit)
        progress, rows = UnitProgress(), fresh.layout.row_count
        for index in checkpoint.part_indices(self._store, unit):
            count = fresh.rows_of(index)
            state = PartState(Position(index * rows + count), index == fresh.layout.part_count - 1, {}, count, 0)
            progress.add(PartFile("", index, state))
        return progress


def fresh_remainder(inspection: Inspection, identity: Identity, *, is_hashed: bool) -> Remainder:
    """All of a shard."""
    count, limit = inspection.record_count, identity.limit
    total = count if count is None or limit is None else min(limit, count)
    layout = layout_of(inspection, identity.rows_per_part, limit)
    return Remainder(inspection, layout, total, is_hashed=is_hashed)
