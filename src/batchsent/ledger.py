"""Which shards of a run are finished, which are being scored and which failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, ShardEntry, Work
from batchsent.digests import DigestCache
from batchsent.errors import LockedError, ShardError, VanishedError
from batchsent.identity import Identity
from batchsent.records import Position, ScoredPart, Shard
from batchsent.stages.committer import commit_shard
from batchsent.stages.writer import write_part
from batchsent.stores import Store, signature

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
        self.listed: dict[str, ShardEntry] = checkpoint.listed_shards(store)
        """What the manifest that is there lists; it may be older than the input."""
        self._works: dict[str, Work] = {}
        self.entries: dict[str, ShardEntry] = {}
        self.failed: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self, shard: Shard, record_count: int | None) -> Work | None:
        """What is left of ``shard``; None if it is finished and its files are intact.

        Raises OSError if the shard cannot be read, ShardError if it changes meanwhile.
        """
        digest = self._digests.of_shard(shard)
        unit = checkpoint.unit_of(self._identity, shard.name, digest)
        if self._finished(shard, unit):
            return None
        progress = checkpoint.load_progress(self._store, unit, self._check)
        work = Work(shard, digest, unit, progress, record_count)
        self._works[unit] = work
        return work

    def is_finished(self, shard: Shard) -> bool:
        """Whether the shard's files are there, intact, and of its content as it is now."""
        try:
            digest = self._digests.of_shard(shard)
        except (OSError, ShardError):
            return False
        return self._finished(shard, checkpoint.unit_of(self._identity, shard.name, digest))

    def _finished(self, shard: Shard, unit: str) -> bool:
        for entry in (self.listed.get(shard.name), checkpoint.load_entry(self._store, unit)):
            if entry is not None and entry.unit == unit and all(map(self._digests.is_intact, entry.files)):
                self.entries[shard.name] = entry
                return True
        return False

    def commit(self, part: ScoredPart) -> None:
        """Make ``part`` durable, and its shard too if this was the last of it that was missing."""
        work = self._works[part.unit]
        work.progress.add(write_part(self._store, part))
        if work.progress.is_complete:
            self.finish(work)

    def finish(self, work: Work) -> None:
        """Write the files of a shard whose parts are all there."""
        try:
            _require_unchanged(work)
            entry, files = commit_shard(self._store, self._identity, work, self._check)
        except ShardError as error:
            self.fail(work.shard, error)
            return
        except (LockedError, VanishedError):
            # Where locks do not work another run may have published the shard meanwhile, and cleared its parts.
            # After any other error what is there may not be durable, however intact it looks.
            self.listed = checkpoint.listed_shards(self._store)
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


def committed_bytes(work: Work) -> int:
    """Of the shard's size: what its committed parts cover (about: there may be a gap before the last)."""
    return max((_bytes_before(work, end, was_last) for end, was_last in work.progress.done.values()), default=0)


def bytes_between(work: Work, part: ScoredPart) -> int:
    """Of the shard's size: what ``part`` adds."""
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
