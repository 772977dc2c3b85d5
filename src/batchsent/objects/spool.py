"""What is to become an object, complete and hashed before the store sees a byte of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Self

from batchsent.errors import StorageError
from batchsent.storage import hash_stream

MEMORY_BYTES = 16 << 20
"""Kept in memory up to here, and then put in one request."""
CHUNK_BYTES = 16 << 20
"""Of one request where there are several: some are under way at once, and each is in memory."""
_CHUNK_LIMIT = 10_000
"""Requests of an upload in pieces, at most; S3's limit."""


class Spool:
    """A binary file that only grows: in memory while it is small, then in the system's folder of temporaries."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._chunks = [hashlib.md5(usedforsecurity=False)]
        """Of each piece of CHUNK_BYTES."""
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        # pyarrow hands over buffers of its own.
        view = memoryview(data).cast("B")
        self._hash(view)
        self.size_bytes += view.nbytes
        with _translated():
            if self._file is None and self.size_bytes > MEMORY_BYTES:
                self._file = tempfile.NamedTemporaryFile(prefix="batchsent-")  # noqa: SIM115 - closed by __exit__
                self._file.write(self._memory)
                self._memory = bytearray()
            if self._file is None:
                self._memory += view
            else:
                self._file.write(view)
        return view.nbytes

    def _hash(self, view: memoryview) -> None:
        self._sha256.update(view)
        self._md5.update(view)
        at = self.size_bytes
        while view.nbytes:
            piece = view[: CHUNK_BYTES - at % CHUNK_BYTES]
            self._chunks[-1].update(piece)
            at, view = at + piece.nbytes, view[piece.nbytes :]
            if at % CHUNK_BYTES == 0:
                self._chunks.append(hashlib.md5(usedforsecurity=False))

    def complete(self) -> None:
        """All is written: whoever reads the file finds it."""
        if self._file is not None:
            with _translated():
                self._file.flush()

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._sha256.hexdigest()

    @property
    def data(self) -> bytes:
        """The content, where it is in memory."""
        return bytes(self._memory)

    @property
    def path(self) -> str | None:
        """Where the content is, if it is not in memory."""
        return None if self._file is None else self._file.name

    @property
    def chunk_bytes(self) -> int:
        """Of one request of an upload in pieces."""
        needed = -(-self.size_bytes // _CHUNK_LIMIT)
        return max(CHUNK_BYTES, -(-needed // CHUNK_BYTES) * CHUNK_BYTES)

    def is_hash_of(self, details: dict[str, Any]) -> bool:
        """Whether the store says itself that an object has these bytes. It need not: encryption changes its hash."""
        etag = (details.get("ETag") or "").strip('"')
        whole = self._md5
        return etag in (whole.hexdigest(), self._hash_of_pieces()) or details.get("md5Hash") == _base64(whole.digest())

    def _hash_of_pieces(self) -> str:
        """S3's ETag of an upload in pieces of CHUNK_BYTES."""
        count = -(-self.size_bytes // CHUNK_BYTES)
        joined = b"".join(md5.digest() for md5 in self._chunks[:count])
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{count}"

    def equals(self, stream: BinaryIO) -> bool:
        """Whether ``stream`` holds the same."""
        return hash_stream(stream) == self.sha256

    def flush(self) -> None: ...

    def close(self) -> None:
        """Left to the store: whoever writes does not decide when the file is complete."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"a temporary file in {tempfile.gettempdir()} could not be written ({error.strerror or error})",
            "room for an output file",
            "free space or set TMPDIR, and run again to resume",
        ) from error


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
