"""A text shard as a stream of bytes in which every byte below 128 is the ASCII character that it looks like.

Delimiters, quotes and line ends can then be found in bytes, and a field that does not decode costs its record
and nothing else. Knows compression, encodings and byte order marks; does not know what a record is.
"""

from __future__ import annotations

import codecs
import io
from encodings import aliases
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, cast

from batchsent.errors import ShardError, UsageError, WrongSettingError
from batchsent.records import Shard
from batchsent.stages.reader.decompression import (
    BLOCK_BYTES,
    READ_ERRORS,
    check_content,
    decompressed_head,
    open_decompressed,
    unreadable,
)
from batchsent.suggestions import did_you_mean

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RECORD_LIMIT_BYTES = 16 * 1024 * 1024
"""Of a field, and of a physical line."""

_MEASURED_BYTES = 4 << 20
"""Of a file, to see what a stored byte becomes."""
_PARSED_LIMIT_BYTES = 256 << 20
"""So much of them: of a bomb it is enough."""

_WIDE_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # first: it begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDECODABLE = "batchsent.undecodable"


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    # A lone surrogate is no valid UTF-8, so that the record is rejected where its fields are decoded.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_UNDECODABLE, _mark_undecodable)


@cache
def _codec(encoding: str) -> codecs.CodecInfo:
    try:
        codec = codecs.lookup(encoding)
        b"a".decode(encoding)  # rot13 and its like are codecs, but not of text
    except UnicodeDecodeError:
        pass  # UTF-16 needs two bytes
    except (LookupError, ValueError):
        known = aliases.aliases.keys() | set(aliases.aliases.values())
        remedy = did_you_mean(encoding, known, "choose one, such as latin-1")
        raise UsageError(f"--encoding {encoding!r} is unknown", "a text encoding of Python", remedy) from None
    return codec


@cache
def _is_single_byte(encoding: str) -> bool:
    """Whether the encoding is ASCII below 128, and one byte a character above."""
    decoder_class = _codec(encoding).incrementaldecoder
    for value in range(256):
        try:
            text = decoder_class().decode(bytes([value])) if decoder_class else ""
        except UnicodeError:
            if value < 128:
                return False
            continue  # a byte that the encoding leaves undefined
        # Nothing decoded means that more bytes decide: a lead byte or a shift.
        if len(text) != 1 or (value < 128 and ord(text) != value):
            return False
    return True


def _is_utf8(encoding: str) -> bool:
    return _codec(encoding).name in ("utf-8", "utf-8-sig")


def _is_transcoded(encoding: str) -> bool:
    return not _is_utf8(encoding) and not _is_single_byte(encoding)


def field_encoding(encoding: str) -> str:
    """The codec of the bytes that :func:`open_text` gives: ``encoding`` itself if it is a single-byte one."""
    return _codec(encoding).name if _is_single_byte(encoding) else "utf-8"


def undecodable_detail(error: UnicodeDecodeError, encoding: str) -> str:
    """What a reject says of bytes that did not decode as :func:`field_encoding`."""
    if _is_transcoded(encoding):
        return f"bytes that are not {encoding}"
    return f"byte 0x{error.object[error.start]:02X}"


def open_text(shard: Shard, encoding: str) -> BinaryIO:
    """The shard decompressed and ASCII-transparent, behind its byte order mark.

    Offsets (``tell``) are offsets in that stream, the mark included. Raises ShardError, here and in every
    read, for a file that is missing, damaged, cut short or not what its name says; UsageError for an unknown
    encoding.
    """
    _codec(encoding)
    try:
        source = _Source(shard, encoding)
    except READ_ERRORS as error:
        raise unreadable(shard, error) from error
    return cast("BinaryIO", io.BufferedReader(source, BLOCK_BYTES))


def skip_to(stream: BinaryIO, offset: int) -> None:
    """Move a stream that was just opened on to ``offset``: a seek in a plain file, else by reading."""
    if stream.seekable():
        size = stream.seek(0, io.SEEK_END)
        at = stream.seek(min(offset, size))
    else:
        at = stream.tell()
        while at < offset and (block := stream.read(min(BLOCK_BYTES, offset - at))):
            at += len(block)
    if at < offset:
        raise ShardError(
            f"{stream.name} ends at byte {at}",
            f"at least the {offset} bytes that were read before",
            "run again with --restart if it changed",
        )


def is_stored_as_parsed(shard: Shard, encoding: str) -> bool:
    """Whether an offset in :func:`open_text`'s stream is one in the file."""
    return not shard.compression and not _is_transcoded(encoding)


def expansion_of(shard: Shard, encoding: str) -> float:
    """Bytes that :func:`open_text` gives for one of the file, in its beginning."""
    if is_stored_as_parsed(shard, encoding):
        return 1.0
    stored, blocks = decompressed_head(shard, _MEASURED_BYTES)
    decoder_class = _codec(encoding).incrementaldecoder
    decoder = decoder_class(_UNDECODABLE) if decoder_class and _is_transcoded(encoding) else None
    parsed = 0
    for block in blocks:
        parsed += len(decoder.decode(block).encode("utf-8", "surrogatepass") if decoder else block)
        if parsed >= _PARSED_LIMIT_BYTES:
            break
    return parsed / stored if parsed else 1.0


class _Source(io.RawIOBase):
    """Decompresses and transcodes, block by block, and turns every failure into a ShardError."""

    def __init__(self, shard: Shard, encoding: str) -> None:
        self.name = shard.name
        self._shard, self._encoding = shard, encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ended = False
        self._delivered = 0
        check_content(shard)
        self._file = open_decompressed(shard)
        try:
            decoder_class = _codec(encoding).incrementaldecoder
            if decoder_class and _is_transcoded(encoding):
                self._decoder = decoder_class(_UNDECODABLE)
            self._pending = self._next_block()
            if self._pending.startswith(codecs.BOM_UTF8):
                self._pending = self._pending[len(codecs.BOM_UTF8) :]
                self._delivered = len(codecs.BOM_UTF8)
            elif _is_utf8(encoding):
                _refuse_wide_encoding(shard, self._pending)
        except BaseException:
            self._file.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not self._shard.compression and self._decoder is None

    def tell(self) -> int:
        return self._delivered

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("seek in a compressed or transcoded shard")
        try:
            self._delivered = self._file.seek(offset, whence)
        except OSError as error:
            raise unreadable(self._shard, error) from error
        self._pending, self._ended = b"", False
        return self._delivered

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._pending and not self._ended:
            self._pending = self._next_block()
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._pending))
        target[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        self._delivered += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _next_block(self) -> bytes:
        try:
            block = self._file.read(BLOCK_BYTES)
        except READ_ERRORS as error:
            raise unreadable(self._shard, error) from error
        self._ended = not block
        if self._decoder is None:
            return block
        try:
            return self._decoder.decode(block, self._ended).encode("utf-8", "surrogatepass")
        except UnicodeError as error:  # a codec that does not ask the error handler, as idna
            raise WrongSettingError(
                f"{self.name} is not {self._encoding}", "text in that encoding", "pass the right --encoding"
            ) from error


def _refuse_wide_encoding(shard: Shard, start: bytes) -> None:
    for mark, name in _WIDE_BYTE_ORDER_MARKS:
        if start.startswith(mark):
            raise ShardError(
                f"{shard.name} begins with the byte order mark of {name.upper()}",
                "UTF-8",
                f"pass --encoding {name}",
            )
