"""What was committed since DIR was last published, as its parts folder has it: seen, not hashed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from batchsent import checkpoint
from batchsent.checkpoint import ShardEntry
from batchsent.identity import Identity
from batchsent.stores import Store

UNREADABLE = (OSError, pa.ArrowException, KeyError)
"""Of a part that has just been removed, or is damaged: it does not count, and the next run sees to it."""


@dataclass
class Committed:
    """A run may add to it meanwhile."""

    finished: dict[str, ShardEntry] = field(default_factory=dict)
    """By the shard's name; where the shard has changed between two runs, of what it was last."""
    finished_at: dict[str, float] = field(default_factory=dict)
    """Seconds since the epoch."""
    part_count: int = 0
    open_parts: list[str] = field(default_factory=list)
    """Names of the parts whose shard is not finished."""

    @property
    def record_count(self) -> int:
        """Of the finished shards."""
        return sum(entry.record_count for entry in self.finished.values())


def read_committed(store: Store, check: Callable[[], None] = lambda: None) -> Committed:
    """Look; removes nothing. ``check`` is called in between, and may raise."""
    committed = Committed()
    for unit in sorted(checkpoint.units(store)):
        check()
        names = [f"{checkpoint.PARTS}/{unit}/{name}" for name in store.list(f"{checkpoint.PARTS}/{unit}")]
        # Two files of one index come of an out-of-memory split; one of them counts.
        parts = {name.partition("-")[0]: name for name in reversed(names) if name.endswith(".parquet")}
        entry = checkpoint.load_entry(store, unit)
        if entry is None:
            committed.open_parts += parts.values()
            committed.part_count += len(parts)
            continue
        written_at = max((store.modified_seconds(name) or 0.0 for name in names if name.endswith(".json")), default=0.0)
        if written_at >= committed.finished_at.get(entry.shard, 0.0):
            committed.finished[entry.shard], committed.finished_at[entry.shard] = entry, written_at
            committed.part_count += len(parts)
    return committed


def finished_shards(store: Store, identity: Identity, committed: Committed) -> dict[str, ShardEntry]:
    """Those, and the shards that DIR was published with before and that no run has finished anew."""
    manifest = checkpoint.load_manifest(store)
    if manifest is None or manifest.fingerprint != identity.fingerprint:
        return committed.finished
    return {entry.shard: entry for entry in manifest.shards} | committed.finished
