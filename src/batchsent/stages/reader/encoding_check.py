"""Whether a text shard is in the encoding that was asked for, and which one it looks like if it is not.

A few bytes that do not decode cost their records. A file of another encoding would lose nearly all of them that way,
so it is refused as a whole, with a guess that can be tried.
"""

from __future__ import annotations

from contextlib import closing

from batchsent.errors import ShardError, WrongSettingError
from batchsent.records import Shard
from batchsent.stages.reader.decompression import READ_ERRORS, open_decompressed, unreadable
from batchsent.stages.reader.text_stream import field_encoding, open_text

SAMPLE_BYTES = 1 << 20
_FEW_LINES = 10
"""So few that do not decode are damage, unless they are most of the file."""
_TOO_FEW_BYTES = 256
"""For a guess: of 100 on as many, one is wrong; of 100 on half as many, four."""
_ENOUGH_BYTES = 64 * 1024
_NARROW = ["utf_8", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1252", "latin_1", "cp1251", "koi8_r"]
_WIDE = ["utf_16", "utf_16_le", "utf_16_be", "utf_32"]
"""What dumps come in. Of all that Python knows, too many look alike for a guess to be right."""


def require_encoding(shard: Shard, encoding: str) -> None:
    """Raise WrongSettingError if the beginning of the shard is text of another encoding."""
    with open_text(shard, encoding) as stream:
        sample = stream.read(SAMPLE_BYTES)
    found = _not_decoding(sample, field_encoding(encoding))
    if found is None:
        return
    guess = _guess(shard)
    raise WrongSettingError(
        f"{shard.name} is not {encoding.upper()}: {found} "
        f"({f'it looks like {guess.upper()}' if guess else 'no guess what it is'})",
        f"text in {encoding}",
        f"pass --encoding {guess or 'NAME'}",
    )


def found_encoding(shard: Shard) -> str:
    """What the shard is written in, as far as its beginning tells: '' where that is ASCII, which most encodings hold.

    Raises ShardError if there is no guess.
    """
    try:
        require_encoding(shard, "utf-8")
    except ShardError:
        guess = _guess(shard)
        if guess is None:
            raise
        require_encoding(shard, guess)
        return guess
    with open_text(shard, "utf-8") as stream:
        return "" if stream.read(SAMPLE_BYTES).isascii() else "utf-8"


def _not_decoding(sample: bytes, codec: str) -> str | None:
    """What says that the sample is of another encoding, if something does."""
    # ASCII in UTF-16 has one NUL a character, and is ASCII otherwise.
    if (nul_count := sample.count(0)) * 3 > len(sample):
        return f"{nul_count} of {len(sample)} bytes are NUL"
    lines = sample.splitlines()
    if len(sample) == SAMPLE_BYTES:
        lines.pop()  # cut, maybe within a character
    others = [line for line in lines if not line.isascii()]
    undecodable = sum(not _decodes(line, codec) for line in others)
    if undecodable * 2 <= len(others) or undecodable <= min(_FEW_LINES - 1, len(lines) // 2):
        return None
    return f"{undecodable} of {len(others)} lines with other characters than ASCII do not decode"


def _decodes(line: bytes, codec: str) -> bool:
    try:
        line.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _guess(shard: Shard) -> str | None:
    """Python's name of the encoding that the shard looks like."""
    from charset_normalizer import from_bytes

    try:
        with closing(open_decompressed(shard)) as file:
            sample = file.read(SAMPLE_BYTES)
    except READ_ERRORS as error:
        raise unreadable(shard, error) from error
    if 0 in sample:  # in a line end or a digit of UTF-16, if nowhere else
        telling, candidates = sample[:_ENOUGH_BYTES], _WIDE + _NARROW
    else:
        telling, candidates = _lines_beyond_ascii(sample), _NARROW
        if len(telling) < _TOO_FEW_BYTES:
            return None
    match = from_bytes(telling, cp_isolation=candidates, enable_fallback=False).best()
    return None if match is None else match.encoding.replace("_", "-")


def _lines_beyond_ascii(sample: bytes) -> bytes:
    """As many whole lines as are enough. Not for UTF-16, where what looks like a line's end may be half a character."""
    telling = bytearray()
    for line in sample.splitlines(keepends=True)[:-1]:  # the last may be cut
        if not line.isascii():
            telling += line
        if len(telling) > _ENOUGH_BYTES:
            break
    return bytes(telling)
