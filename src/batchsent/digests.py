"""Hashes of files that need not be computed again: trusted while size, mtime, ctime and inode stand."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import PurePath

from batchsent.checkpoint import FileEntry
from batchsent.errors import ModelError, ShardError
from batchsent.identity import checksum_of
from batchsent.objects.uris import is_object
from batchsent.records import Shard, ShardDigest, Signature
from batchsent.storage import INTERNAL, Published, hash_stream
from batchsent.stores import Store, open_file, signature

DIGESTS = f"{INTERNAL}/digests.json"

_CLOCK_GRAIN_SECONDS = 0.02
"""Linux stamps files with the time of the last tick (4 to 10 ms): two changes within one look the same."""


Records = dict[str, tuple[Signature, str]]
"""Path → how the file looked, and its SHA-256 in hex."""


class DigestCache:
    """Path → SHA-256, trusted while size, mtime, ctime and inode stand, as git's index does.

    A file that was touched so recently that a further change would not show in its times is waited for.
    ``check`` is called while a file is hashed and may raise. Losing the cache costs a second reading, nothing else.
    """

    def __init__(self, store: Store, check: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._check = check
        self._known: Records = {}
        self.learn()
        self._told = self._known.copy()

    def learn(self) -> None:
        """Take over what DIR holds by now, of other ranks also; what this run knows itself stays."""
        try:
            checksum, recorded = json.loads(self._store.read_bytes(DIGESTS) or b"null")
            if checksum_of(recorded) == checksum:
                for path, (numbers, sha256) in recorded.items():
                    self._known.setdefault(path, (Signature(*numbers), sha256))
        except (ValueError, TypeError, AttributeError):
            return

    def news(self) -> Records:
        """What this run found out since it was asked last, for another process that will need it."""
        news = {path: record for path, record in self._known.copy().items() if self._told.get(path) != record}
        self._told |= news
        return news

    def add(self, records: Records) -> None:
        """Take over what another process found out."""
        self._known.update(records)

    def digest(self, path: str) -> ShardDigest:
        """Hash the file, or trust the record. Raises OSError, and ShardError if it does not hold still."""
        found = signature(path)
        if found is None:
            raise FileNotFoundError(path)
        known = self._remembered(path, found)
        if known is not None:
            return known
        for _ in range(3):
            age_seconds = time.time() - found.ctime_ns / 1e9
            if 0 <= age_seconds < _CLOCK_GRAIN_SECONDS:
                time.sleep(_CLOCK_GRAIN_SECONDS - age_seconds)
            with open_file(path, is_read_once=True) as stream:
                sha256 = hash_stream(stream, self._check)
            after = signature(path)
            if after == found:
                self._known[path] = (found, sha256)
                return ShardDigest(sha256, found)
            if after is None:
                raise FileNotFoundError(path)
            found = after
        raise ShardError(
            f"{PurePath(path).name} changes while it is read",
            "a finished file",
            "wait for its writer and run again",
        )

    def known(self, path: str) -> ShardDigest | None:
        """The record of a file that still looks as it did; None where it would have to be hashed, or is gone."""
        found = signature(path)
        return None if found is None else self._remembered(path, found)

    def _remembered(self, path: str, found: Signature) -> ShardDigest | None:
        known = self._known.get(path)
        return ShardDigest(known[1], found) if known is not None and known[0] == found else None

    def of_shard(self, shard: Shard) -> ShardDigest:
        """What ``shard`` holds. Of an object the listing has said it, and whoever reads it holds the store to that."""
        if shard.version:
            return ShardDigest("", Signature(shard.size_bytes, 0, 0, 0, shard.version))
        return self.digest(shard.path)

    def of_model(self, path: str) -> str:
        """SHA-256 of a file of the model, in hex. Raises ModelError."""
        try:
            return self.digest(path).sha256
        except (ShardError, OSError) as error:
            raise ModelError(
                f"{PurePath(path).name} of the model cannot be read or changes", "a model that holds still", "run again"
            ) from error

    def warm(self, path: str) -> None:
        """Hash ahead of need; what is wrong will show when it is needed."""
        if is_object(path):
            return
        with contextlib.suppress(OSError, ShardError):
            self.digest(path)

    def is_intact(self, entry: FileEntry) -> bool:
        """Whether the file in DIR holds the bytes that ``entry`` vouches for."""
        path = str(self._store.path(entry.path))
        found = signature(path)
        if found is None or found.size_bytes != entry.size_bytes:
            return False
        known = self._known.get(path)
        if known is not None and known[0] == found:
            return known[1] == entry.sha256
        try:
            return self.digest(path).sha256 == entry.sha256
        except (FileNotFoundError, ShardError):  # another run is at it, where locks do not work
            return False

    def remember(self, published: Published) -> None:
        """Record a file that this run has just published."""
        self._known[str(self._store.path(published.name))] = (published.signature, published.sha256)

    def save(self) -> None:
        """Write the record into DIR. Of two ranks that do so at once, one is in vain."""
        self.learn()
        record = {
            path: [[s.size_bytes, s.mtime_ns, s.ctime_ns, s.inode, *([s.version] if s.version else [])], sha256]
            for path, (s, sha256) in sorted(self._known.items())
            if is_object(path) or signature(path) is not None  # of objects, each look would be a request
        }
        self._store.publish_bytes(DIGESTS, json.dumps([checksum_of(record), record]).encode())
