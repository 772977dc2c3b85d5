"""DIR wherever it is: what every store can do, and which one a place is in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, BinaryIO, Protocol, TypeVar

from batchsent import storage
from batchsent.objects.uris import is_object
from batchsent.records import Signature
from batchsent.shares import Share
from batchsent.storage import LocalStore, Published

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Store(Protocol):
    """The output directory: ``storage.LocalStore`` and ``objects.store.ObjectStore`` say what their methods promise."""

    @property
    def root(self) -> Path | str:
        """Where DIR is, for messages."""

    @property
    def has_locks(self) -> bool:
        """Whether :meth:`is_locked` knows."""

    @property
    def requests_at_once(self) -> int:
        """As many are answered about as fast as one."""

    def create(self) -> None: ...
    def lock(self, share: Share = ...) -> AbstractContextManager[None]: ...
    def turn(self, check: Callable[[], None]) -> AbstractContextManager[None]: ...
    def is_locked(self, rank: int | None = None) -> bool: ...
    def publish(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        replace: bool = True,
        before_rename: Callable[[], None] = ...,
    ) -> Published: ...
    def publish_bytes(self, name: str, data: bytes, *, replace: bool = True) -> Published: ...
    def open(self, name: str) -> BinaryIO: ...
    def read_bytes(self, name: str) -> bytes | None: ...
    def exists(self, name: str) -> bool: ...
    def signature(self, name: str) -> Signature | None: ...
    def modified_seconds(self, name: str) -> float | None: ...
    def folders(self, folder: str) -> Sequence[str]: ...
    def list(self, folder: str) -> list[str]: ...
    def below(self, folder: str) -> Iterator[str]: ...
    def outputs(self, folder: str = "") -> Iterator[str]: ...
    def remove(self, name: str) -> None: ...
    def remove_tree(self, folder: str) -> None: ...
    def remove_orphans(self) -> int: ...
    def make_durable(self, names: Iterable[str], trees: Iterable[str] = ()) -> None: ...
    def size_bytes(self, folder: str) -> int: ...
    def free_bytes(self) -> int: ...
    def path(self, name: str) -> Path | str: ...


def look_at_each(store: Store, look: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """``map``, with as many looks at once as ``store`` answers. What is not wanted any more is not begun."""
    if store.requests_at_once == 1:
        yield from map(look, items)
        return
    with ThreadPoolExecutor(store.requests_at_once, "store") as pool:
        try:
            yield from pool.map(look, items)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def open_store(place: str | os.PathLike[str]) -> Store:
    """The store of ``place``, a URI of an object store or a local path."""
    if isinstance(place, str) and is_object(place):
        from batchsent.objects.store import ObjectStore

        return ObjectStore(place)
    return LocalStore(place)


def open_file(place: str, *, is_read_once: bool = False) -> BinaryIO:
    """Open a file or an object for reading, or for no more than that, from its beginning to its end.

    Raises FileNotFoundError, OSError or StorageError.
    """
    if is_object(place):
        from batchsent.objects.store import open_object

        return open_object(place, is_read_once=is_read_once)
    return Path(place).open("rb")


def signature(place: str) -> Signature | None:
    """What a file or an object looks like from outside; None if there is none."""
    if is_object(place):
        from batchsent.objects import access

        return access.signature(place)
    return storage.signature(place)
