"""An object as a file that is read where it lies: by ranges, a block at a time, always the same content.

S3 is asked for the content that the object had when it was opened (``If-Match`` with its ETag), so bytes of two
versions never mix; for other stores the reader looks again after every part, as it does for files. What comes back
shorter than it was asked for is an error, never the end of the file.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any

from batchsent.errors import BatchsentError, StorageError
from batchsent.objects.access import file_system, signature, signature_of, translated

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 4 << 20
"""Of one request: few a part, and little that is read in vain at the ends of a range."""
BLOCK_COUNT = 64
"""Kept a file: a Parquet file is read in as many places as there are columns."""


class _Latest(threading.local):
    """The file that was opened last: a shard is opened again and again while it is looked into, and then read."""

    key = ""
    handle: Any = None


_latest = _Latest()


class ObjectFile(io.RawIOBase):
    """Reads an object. ``changed`` is raised where it has another version than ``version``, or gets one meanwhile.

    Raises FileNotFoundError if there is none, StorageError if the store does not answer.
    """

    def __init__(self, uri: str, changed: BatchsentError, version: str = "", *, is_read_once: bool = False) -> None:
        self.name = uri
        self._changed = changed
        self._position = 0
        self._handle = _opened(uri, version, 1 if is_read_once else BLOCK_COUNT)
        self.signature = signature_of(self._handle.details)
        self.size_bytes = self.signature.size_bytes
        if version and self.signature.version != version:
            raise changed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        count = min(len(target), max(0, self.size_bytes - self._position))
        data = self._range(self._position, self._position + count)
        if len(data) != count:
            raise StorageError(
                f"{self.name} gave {len(data)} bytes at {self._position}", f"{count}", "run again to resume"
            )
        target[:count] = data
        self._position += count
        return count

    def _range(self, start: int, stop: int) -> bytes:
        if start == stop:
            return b""
        try:
            with translated(self.name):
                self._handle.seek(start)
                data: bytes = self._handle.read(stop - start)
        except (FileNotFoundError, StorageError):
            # The libraries have several words for content that is not there any more; the store has one.
            if signature(self.name) != self.signature:
                raise self._changed from None
            raise
        return data


def _opened(uri: str, version: str, block_count: int) -> Any:
    key = f"{uri} {version}"
    if version and _latest.key == key:
        return _latest.handle
    handle = _open(uri, block_count)
    if version:
        _latest.key, _latest.handle = key, handle
    return handle


def _open(uri: str, block_count: int) -> Any:
    with translated(uri):
        handle = file_system(uri).open(
            uri,
            "rb",
            block_size=BLOCK_BYTES,
            cache_type="blockcache",
            cache_options={"maxblocks": block_count},
        )
    if handle.details["type"] != "file":  # a name below which others are: it would read as an empty file
        raise FileNotFoundError(uri)
    return handle
