"""The output directory in an object store: the methods of ``storage.LocalStore``, by its own protocol.

An object appears whole or not at all, by one put, and there is no rename: what ``write`` writes goes into a local
temporary first, so that an exception leaves nothing behind, and is put when it is complete. (The writers of pyarrow
and of the stores' libraries publish a truncated object when an exception leaves their ``with`` block.) Whether a put
whose answer was an error, or was lost, has been done is asked of the store; nothing is deleted on doubt.

No locks. Two runs at once write the same bytes under the same names, and what must be created once is created by a
put that fails where the name is taken (``If-None-Match: *``).
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import IO, BinaryIO, cast

from batchsent.errors import StorageError, UsageError
from batchsent.objects import access
from batchsent.objects.reading import BLOCK_BYTES, ObjectFile
from batchsent.objects.spool import Spool
from batchsent.objects.uris import normalized
from batchsent.records import Signature
from batchsent.shares import ALONE, Share
from batchsent.storage import Published

log = logging.getLogger(__name__)


class ObjectStore:
    """DIR in an object store."""

    has_locks = False
    requests_at_once = access.REQUESTS_AT_ONCE

    def __init__(self, root: str) -> None:
        """Raises UsageError for a URI that is none, NotAvailableError without the store's library."""
        self.root = normalized(root, "DIR")
        access.file_system(self.root)

    def create(self) -> None:
        """Nothing: there are no folders. Whether these credentials may write shows when ``config.json`` is put."""

    @contextlib.contextmanager
    def lock(self, share: Share = ALONE) -> Iterator[None]:
        """Nothing can be held: say so, once, and go on."""
        if share.rank == 0:
            log.warning("%s is in an object store, which has no locks; see that no second run writes to it", self.root)
        yield

    def turn(self, check: Callable[[], None]) -> AbstractContextManager[None]:  # noqa: ARG002 - as LocalStore
        """Nothing to wait for: what only one may create, only one put creates."""
        return contextlib.nullcontext()

    def is_locked(self, rank: int | None = None) -> bool:  # noqa: ARG002 - as LocalStore
        """Never: see ``has_locks``."""
        return False

    def publish(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        replace: bool = True,
        before_rename: Callable[[], None] = lambda: None,
    ) -> Published:
        """Make ``name`` hold what ``write`` writes, all or nothing.

        With ``replace=False`` a name that holds something else is left and FileExistsError raised. ``before_rename``
        is called when all is written, right before the put, and may raise.
        """
        with Spool() as spool:
            write(cast(IO[bytes], spool))
            spool.complete()
            before_rename()
            version = self._put(name, spool, replace=replace)
            return Published(name, spool.sha256, spool.size_bytes, Signature(spool.size_bytes, 0, 0, 0, version))

    def publish_bytes(self, name: str, data: bytes, *, replace: bool = True) -> Published:
        """:meth:`publish` of bytes that are at hand."""
        return self.publish(name, lambda handle: handle.write(data), replace=replace)

    def _put(self, name: str, spool: Spool, *, replace: bool) -> str:
        """Returns the version of the object that holds just these bytes; '' where the store's word is no proof."""
        uri, system = self.path(name), access.file_system(self.root)
        mode = "overwrite" if replace else "create"
        try:
            with access.translated(uri, "written"):
                if spool.path is None:
                    answer = system.pipe_file(uri, spool.data, mode=mode)
                else:
                    answer = system.put_file(spool.path, uri, mode=mode, chunksize=spool.chunk_bytes)
        except (FileExistsError, FileNotFoundError, StorageError) as error:
            # It may have been done nevertheless: the answer was lost, and a second try met the first one's object, or
            # no pieces any more.
            found = access.details(uri)
            if found is not None and self._holds(uri, found, spool):
                return access.version_of(found)
            if found is not None and not replace:
                raise FileExistsError(uri) from None
            if isinstance(error, StorageError):
                raise
            raise _not_put(uri, error, spool) from error
        if isinstance(answer, dict) and answer.get("ETag"):
            return access.version_of(answer)
        found = access.details(uri)
        return access.version_of(found) if found is not None and spool.is_hash_of(found) else ""

    def _holds(self, uri: str, found: dict[str, object], spool: Spool) -> bool:
        """Whether an object has the bytes of ``spool``: by the store's own hash, or else by reading it."""
        if found["size"] != spool.size_bytes:
            return False
        if spool.is_hash_of(found):
            return True
        try:
            with open_object(uri) as stream:
                return spool.equals(stream)
        except FileNotFoundError:
            return False

    def open(self, name: str) -> BinaryIO:
        """Open for reading. Raises FileNotFoundError."""
        return open_object(self.path(name))

    def read_bytes(self, name: str) -> bytes | None:
        """The content, or None if there is no such name."""
        try:
            return access.read(self.path(name))
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Whether ``name`` is an object."""
        return self.signature(name) is not None

    def signature(self, name: str) -> Signature | None:
        """Size and version; None if there is no such name."""
        return access.signature(self.path(name))

    def modified_seconds(self, name: str) -> float | None:
        """When ``name`` was written, in seconds since 1970; None if there is no such name."""
        found = access.details(self.path(name))
        if found is None:
            return None
        written: datetime = found.get("LastModified") or found["mtime"]
        return written.timestamp()

    def folders(self, folder: str) -> Sequence[str]:
        """Names of the folders right in ``folder``, sorted; empty if there is no such folder."""
        return access.right_in(self.path(folder))[0]

    def list(self, folder: str) -> list[str]:
        """Names of the objects right in ``folder``, sorted; empty if there is no such folder."""
        return access.right_in(self.path(folder))[1]

    def below(self, folder: str) -> Iterator[str]:
        """Names of all objects below ``folder``, relative to it."""
        yield from access.below(self.path(folder))

    def outputs(self, folder: str = "") -> Iterator[str]:
        """Names of every Parquet file in DIR, or below ``folder`` of it, that is not internal or hidden."""
        for name in access.below(self.path(folder)):
            if name.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in name.split("/")):
                yield f"{folder}/{name}" if folder else name

    def remove(self, name: str) -> None:
        """Remove ``name``; nothing happens if it is not there."""
        uri = self.path(name)
        try:
            with access.translated(uri, "removed"), contextlib.suppress(FileNotFoundError):
                access.file_system(uri).rm_file(uri)
        except StorageError:
            if access.details(uri) is not None:  # else it was done, and the answer lost
                raise

    def remove_tree(self, folder: str) -> None:
        """Remove all below ``folder``. What another run puts there meanwhile stays."""
        uri = self.path(folder)
        names = [f"{uri}/{name}" for name in access.below(uri)]
        # The libraries take a list of names, for patterns: those that look like one go one by one.
        plain = [name for name in names if not set(name) & set("*?[]")]
        system = access.file_system(uri)
        if plain:
            # A bulk deletion says nothing of what it could not delete, so the list afterwards counts.
            with access.translated(uri, "removed"), contextlib.suppress(FileNotFoundError):
                system.rm(plain)
        for name in set(names) - set(plain):
            with access.translated(name, "removed"), contextlib.suppress(FileNotFoundError):
                system.rm_file(name)
        left = {f"{uri}/{name}" for name in access.below(uri)} & set(names) if names else set()
        if left:
            raise StorageError(
                f"{len(left)} of {len(names)} objects below {uri} were not removed", "none left", "run again"
            )

    def remove_orphans(self) -> int:
        """Nothing is written in place. (What an upload in pieces left is the bucket's lifecycle rule to clear.)"""
        return 0

    def make_durable(self, names: Iterable[str], trees: Iterable[str] = ()) -> None:
        """Nothing: a put that was answered is durable."""

    def size_bytes(self, folder: str) -> int:
        """Of all objects below ``folder``."""
        return sum(int(details["size"]) for details in access.below(self.path(folder)).values())

    def free_bytes(self) -> int:
        """Without a limit."""
        return sys.maxsize

    def path(self, name: str) -> str:
        """The URI of ``name``. Raises UsageError for one that tools would take for another place."""
        parts = name.split("/")
        if name and any(part in ("", ".", "..") for part in parts):
            raise UsageError(
                f"{name!r} is no name in {self.root}", "names without empty parts, '.' and '..'", "rename the input"
            )
        return f"{self.root}/{name}" if name else self.root


def _not_put(uri: str, error: Exception, spool: Spool) -> Exception:
    if isinstance(error, FileExistsError):
        return StorageError(f"{uri} was there, and went", "one run at a time", "run again")
    if spool.path is None:
        return UsageError(f"{uri} cannot be written", "a bucket that exists", "create it, or check --output")
    return StorageError(f"{uri} could not be written (its pieces are gone)", "a store that keeps them", "run again")


def open_object(uri: str, *, is_read_once: bool = False) -> BinaryIO:
    """See ``stores.open_file``."""
    changed = StorageError(f"{uri} changed while it was read", "one run at a time", "run again to resume")
    return cast(BinaryIO, io.BufferedReader(ObjectFile(uri, changed, is_read_once=is_read_once), BLOCK_BYTES))
