"""The compressions of the text formats: a file's bytes as they were before, or an error that says what is wrong."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pyarrow as pa

from batchsent.errors import ShardError
from batchsent.objects.reading import ObjectFile
from batchsent.records import Shard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 256 * 1024
_SMALL_BLOCK_BYTES = 16 * 1024  # what is lost where a stream breaks off is less than that
_XZ_MEMORY_BYTES = 256 * 1024 * 1024  # xz -9 needs 65 MiB; a forged header may ask for 4 GiB

_MAGIC = {
    ".gz": (b"\x1f\x8b", "gzip"),
    ".zst": (b"\x28\xb5\x2f\xfd", "zstd"),
    ".bz2": (b"BZh", "bzip2"),
    ".xz": (b"\xfd7zXZ\x00", "xz"),
    ".parquet": (b"PAR1\x15", "Parquet"),  # "PAR1" alone could be a header; a Thrift struct follows it
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")  # follow "BZh9", which alone could be a header
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


class _Concatenated(io.RawIOBase):
    """bzip2 or xz streams, one behind the other.

    The files of bz2 and lzma take a damaged second stream for the end of the file, and rows would be lost
    in silence; pbzip2 and pixz write many streams.
    """

    def __init__(self, file: BinaryIO, compression: str) -> None:
        self._file, self._compression = file, compression
        self._decompressor = self._new_decompressor()

    def _new_decompressor(self) -> bz2.BZ2Decompressor | lzma.LZMADecompressor:
        if self._compression == ".bz2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        data = b""
        while not data:
            fresh = b""
            if self._decompressor.eof:
                fresh = self._start_of_next_stream()
                if not fresh:
                    return 0
                self._decompressor = self._new_decompressor()
            elif self._decompressor.needs_input and not (fresh := self._file.read(BLOCK_BYTES)):
                raise EOFError
            data = self._decompressor.decompress(fresh, len(target))
        target[: len(data)] = data
        return len(data)

    def _start_of_next_stream(self) -> bytes:
        rest = self._decompressor.unused_data.lstrip(b"\0")  # zeros: the padding that xz allows
        while not rest and (block := self._file.read(BLOCK_BYTES)):
            rest = block.lstrip(b"\0")
        return rest

    def close(self) -> None:
        self._file.close()
        super().close()


def open_decompressed(shard: Shard) -> BinaryIO:
    match shard.compression:
        case "":
            return _open_file(shard)
        case ".gz":
            return cast("BinaryIO", gzip.open(open_object(shard) if shard.version else shard.path, "rb"))
        case ".zst":
            return cast("BinaryIO", pa.CompressedInputStream(_zstd_source(shard), "zstd"))
        case _:
            raw = _Concatenated(_open_file(shard), shard.compression)
            return cast("BinaryIO", io.BufferedReader(raw, BLOCK_BYTES))


def decompressed_head(shard: Shard, size_bytes: int) -> tuple[int, Iterator[bytes]]:
    """How many bytes the shard begins with, ``size_bytes`` at most, and what they are without their compression."""
    with _open_file(shard) as file:
        head = file.read(size_bytes)
    return len(head), _decompressed(head, shard.compression)


def _decompressed(head: bytes, compression: str) -> Iterator[bytes]:
    """Block by block, up to where ``head`` was cut off, or is damaged."""
    raw = io.BytesIO(head)
    match compression:
        case "":
            stream: Any = raw
        case ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        case ".zst":
            stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        case _:
            stream = _Concatenated(raw, compression)
    with contextlib.suppress(*READ_ERRORS):
        while block := stream.read(_SMALL_BLOCK_BYTES):
            yield block


def _open_file(shard: Shard) -> BinaryIO:
    if not shard.version:
        return Path(shard.path).open("rb")
    return cast("BinaryIO", io.BufferedReader(open_object(shard), BLOCK_BYTES))


def _zstd_source(shard: Shard) -> pa.NativeFile:
    return pa.PythonFile(open_object(shard), "r") if shard.version else pa.OSFile(shard.path, "rb")


def open_object(shard: Shard) -> ObjectFile:
    """The shard where it lies in its store, with the content that it had when it was listed."""
    changed = ShardError(
        f"{shard.name} changed or went away while it was scored",
        "input that holds still",
        "run again to score what is there now",
    )
    try:
        return ObjectFile(shard.path, changed, shard.version)
    except FileNotFoundError:
        raise changed from None


def check_content(shard: Shard) -> None:
    """Refuse a file whose first bytes say that its extension is wrong."""
    with _open_file(shard) as file:
        head = file.read(16)
    if shard.compression:
        if not head:  # gzip and zstd would call it a file of no records
            raise EOFError
        return
    kind = shard.format.removeprefix(".").upper()
    for extension, (magic, name) in _MAGIC.items():
        if head.startswith(magic) and (extension != ".bz2" or head[4:].startswith(_BZIP2_BLOCKS)):
            is_parquet = extension == ".parquet"
            raise ShardError(
                f"{shard.name} is {'a Parquet file' if is_parquet else f'{name}-compressed'}",
                f"plain {kind}",
                f"rename it to {shard.output_stem if is_parquet else shard.name}{extension}",
            )


def unreadable(shard: Shard, error: Exception) -> ShardError:
    # Not a system call's words, which hold a path, nor gzip's, which may hold content.
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        reason = error.strerror
    elif isinstance(error, gzip.BadGzipFile):
        reason = "it is not gzip-compressed, or damaged"
    elif isinstance(error, EOFError):
        reason = "it ends before its compressed stream does"
    else:
        reason = str(error)
    return ShardError(f"{shard.name} cannot be read: {reason}", "a whole file", "copy it again")
