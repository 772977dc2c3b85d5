"""Which shards of a run are finished, which are being scored and which failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, ShardEntry, UnitProgress, Work
from batchsent.digests import DigestCache
from batchsent.errors import LockedError, ShardError, VanishedError
from batchsent.identity import Identity
from batchsent.records import Position, ScoredPart, Shard, Task
from batchsent.stages.committer import commit_shard
from batchsent.stages.writer import write_part
from batchsent.stores import Store, look_at_each, signature

log = logging.getLogger(__name__)


class Ledger:
    """What counts is on disk; this is the run's view of it."""

    def __init__(
        self, store: Store, identity: Identity, digests: DigestCache, check: Callable[[], None] = lambda: None
    ) -> None:
        self._check = check
        self._store = store
        self._identity = identity
        self._digests = digests
        self.listed: dict[str, ShardEntry] = {}
        """What the manifest that is there lists; it may be older than the input."""
        self._units: set[str] = set()
        """Of which anything was there: of the others nothing needs to be looked for."""
        self._works: dict[str, list[Work]] = {}
        """By unit. Of one there are several where a replica gets several pieces of a shard."""
        self.entries: dict[str, ShardEntry] = {}
        self.failed: dict[str, str] = {}
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is there: another rank may have finished shards, or written a manifest."""
        self._units = checkpoint.units(self._store)
        self.listed = checkpoint.listed_shards(self._store)

    def open(self, task: Task) -> Work | None:
        """What is left of a shard; None if it is finished and its files are intact.

        Raises OSError if the shard cannot be read, ShardError if it changes meanwhile.
        """
        shard = task.shard
        digest = self._digests.of_shard(shard)
        unit = checkpoint.unit_of(self._identity, shard.name, digest)
        if self._finished(shard, unit):
            return None
        others = self._works.get(unit, [])
        progress = others[0].progress if others else self._progress(unit)
        if self._store.exists(checkpoint.SUCCESS):  # another rank has published meanwhile, and clears the parts
            self.refresh()
            if self._finished(shard, unit):
                return None
        work = Work(shard, digest, unit, progress, task.inspection.record_count, task.layout, task.parts)
        self._works[unit] = [*(other for other in others if other.parts != work.parts), work]
        return work

    def _progress(self, unit: str) -> UnitProgress:
        if unit not in self._units:
            return UnitProgress()
        return checkpoint.load_progress(self._store, unit, self._check)

    def is_finished(self, shard: Shard) -> bool:
        """Whether the shard's files are there, intact, and of its content as it is now."""
        try:
            digest = self._digests.of_shard(shard)
        except (OSError, ShardError):
            return False
        return self._finished(shard, checkpoint.unit_of(self._identity, shard.name, digest))

    def _finished(self, shard: Shard, unit: str) -> bool:
        left = checkpoint.load_entry(self._store, unit) if unit in self._units else None
        for entry in (self.listed.get(shard.name), left):
            if entry is not None and entry.unit == unit and all(map(self._digests.is_intact, entry.files)):
                self.entries[shard.name] = entry
                return True
        return False

    def commit(self, part: ScoredPart) -> Work:
        """Make ``part`` durable, and its shard too if this was the last of it that was missing.

        Returns what it belongs to.
        """
        work = next(work for work in self._works[part.unit] if work.parts is None or part.index in work.parts)
        work.progress.add(write_part(self._store, part))
        if work.is_share_done:
            self.settle(work)
        return work

    def settle(self, work: Work) -> None:
        """Finish a shard of which what was to be done here is committed, if that of all others is too.

        Each rank commits first and looks then, so the last one sees all parts. If two do, they write the same.
        """
        if work.progress.is_complete:
            self.finish(work)
        elif work.layout and checkpoint.part_indices(self._store, work.unit).issuperset(range(work.layout.part_count)):
            progress = checkpoint.load_progress(self._store, work.unit, self._check)
            self.finish(replace(work, progress=progress))

    def unfinished(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those of ``shards`` that neither are finished, by whatever rank, nor have failed in this one.

        No file is hashed before all of them seem to be finished, so that only the last rank does it; and that one
        only where no other has left the hash.
        """
        self.refresh()
        self._digests.learn()
        known = self.entries.keys() | self.failed.keys()
        unknown = [shard for shard in shards if shard.name not in known]
        seeming = self._seem_finished(unknown)
        if len(seeming) < len(unknown):
            return [shard for shard in unknown if shard not in seeming]
        finished = self._are_finished(unknown)
        return [shard for shard in unknown if shard not in finished]

    def find_finished(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those of ``shards`` that are finished, now in ``entries``; only what seems to be is hashed."""
        return self._are_finished(self._seem_finished(shards))

    def _seem_finished(self, shards: Sequence[Shard]) -> list[Shard]:
        names = [shard.name for shard in shards if shard.name not in self.listed]
        seeming = self.listed.keys() | (checkpoint.finished_among(self._store, names) if names else set())
        return [shard for shard in shards if shard.name in seeming]

    def _are_finished(self, shards: Sequence[Shard]) -> list[Shard]:
        looks = look_at_each(self._store, self.is_finished, shards)
        return [shard for shard, is_finished in zip(shards, looks, strict=True) if is_finished]

    def finish(self, work: Work) -> None:
        """Write the files of a shard whose parts are all there."""
        try:
            _require_unchanged(work)
            _require_complete(work)
            entry, files = commit_shard(self._store, self._identity, work, self._check)
        except ShardError as error:
            self.fail(work.shard, error)
            return
        except (LockedError, VanishedError):
            # Where locks do not work another run may have published the shard meanwhile, and cleared its parts.
            # After any other error what is there may not be durable, however intact it looks.
            self.refresh()
            if self._finished(work.shard, work.unit):
                return
            raise
        for file in files:
            self._digests.remember(file)
        self.entries[work.shard.name] = entry

    def fail(self, shard: Shard, error: Exception | str) -> None:
        """The shard cannot be scored; the others go on."""
        with self._lock:  # a shard may fail where it is read and where it is committed
            # A new one, because a third thread may be writing the old one down.
            self.failed = {**self.failed, shard.name: str(error)}
        log.error("shard failed: %s", error, extra={"shard": shard.name})

    def manifest(self) -> Manifest:
        """Of all shards, finished and failed."""
        return Manifest(
            self._identity.fingerprint,
            tuple(self.entries[name] for name in sorted(self.entries)),
            dict(sorted(self.failed.items())),
        )


def _require_unchanged(work: Work) -> None:
    """An output of older content must not replace that of a run which saw the newer one."""
    found = signature(work.shard.path)
    if found not in (None, work.digest.signature):
        raise ShardError(
            f"{work.shard.name} changed while it was scored",
            "input that holds still",
            "run again to score what is there now",
        )


def _require_complete(work: Work) -> None:
    """Its parts were there by their names; they may be damaged, or cleared by a rank that has published meanwhile."""
    if not work.progress.is_complete:
        raise VanishedError(
            f"parts of {work.shard.name} were damaged or removed after they were written",
            "a disk that keeps what it took",
            "run all ranks again: these parts will be scored again",
        )


def committed_bytes(work: Work) -> int:
    """Of what is this rank's of the shard's size: what is committed (about: there may be a gap before the last)."""
    if work.parts is not None and work.layout is not None:
        done = sum(index in work.progress.parts for index in work.parts)
        return work.shard.size_bytes * done // work.layout.part_count
    return max((_bytes_before(work, end, was_last) for end, was_last in work.progress.done.values()), default=0)


def bytes_between(work: Work, part: ScoredPart) -> int:
    """Of the shard's size: what ``part`` adds."""
    if work.parts is not None and work.layout is not None:
        return work.shard.size_bytes // work.layout.part_count
    before = work.progress.done.get(part.index - 1)
    start = 0 if before is None else _bytes_before(work, before[0], was_last=False)
    return _bytes_before(work, part.end, part.is_last) - start


def _bytes_before(work: Work, end: Position, was_last: bool) -> int:
    """Exact or, where nothing says so, nothing yet."""
    size = work.shard.size_bytes
    if was_last:
        return size
    if work.record_count:
        return min(size, size * end.row_index // work.record_count)
    return 0 if work.shard.compression else min(size, end.byte_offset)
