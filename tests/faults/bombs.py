"""Small files that want to be large, and footers that lie: bytes, and what has to come of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Bomb:
    """``failure`` is part of the message that refuses the shard; None if its ``row_count`` rows are scored."""

    name: str
    make: Callable[[], bytes]
    failure: str | None
    row_count: int = 0
    reject_count: int = 0
    options: tuple[str, ...] = ()


def _parquet(columns: dict[str, pa.Array[Any]], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd", **options)
    return file.getvalue()


def _repeated(value_bytes: int, rows: int) -> bytes:
    """One long value, ``rows`` times: a dictionary and as many ones."""
    value = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["good " * (value_bytes // 5)]))
    # Without Arrow's schema, which would have it read as a dictionary.
    return _parquet({"text": value}, dictionary_pagesize_limit=GIB, store_schema=False)


def _long(value_bytes: int, rows: int) -> bytes:
    return _parquet({"text": pa.array(["good " * (value_bytes // 5)] * rows, pa.large_string())}, use_dictionary=False)


def _varint(number: int, length: int | None = None) -> bytes:
    """As Thrift's compact protocol writes an integer that is not negative; padded to ``length`` bytes."""
    number <<= 1
    length = length or (max(1, number.bit_length()) + 6) // 7
    groups = [number >> 7 * index & 0x7F for index in range(length)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _forged(content: bytes, old: int, new: int, which: slice = slice(None)) -> bytes:
    """Another number in the footer, in ``which`` of its places."""
    length = len(_varint(old))
    assert len(_varint(new)) <= length, "there is no room for it"
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    places, at = [], footer
    while (at := content.find(_varint(old), at)) >= 0:
        places.append(at)
        at += 1
    assert places[which]
    changed = bytearray(content)
    for at in places[which]:
        changed[at : at + length] = _varint(new, length)
    return bytes(changed)


GROUP_ROWS, TOTAL_ROWS = 131, 3 * 131


def _groups() -> bytes:
    text, ids = pa.array(["good", "bad", "fine"] * GROUP_ROWS), pa.array(range(TOTAL_ROWS))
    return _parquet({"text": text, "id": ids}, row_group_size=GROUP_ROWS)


def _lying_about_its_size() -> bytes:
    content = _long(2 * MIB, 300)
    size = pq.read_metadata(io.BytesIO(content)).row_group(0).column(0).total_uncompressed_size
    return _forged(content, size, 1000)


def forged_counts() -> tuple[bytes, list[bytes]]:
    """A file, and the same with footers that count more or fewer rows, in one place or in all."""
    whole = _groups()
    forged = [
        _forged(whole, number, new, slice(place, place + 1))
        for number, places in ((GROUP_ROWS, 15), (TOTAL_ROWS, 1))
        for place in range(places)
        for new in (64, number - 1, number + 1, 2 * number, 8191)
    ]
    more = _forged(_forged(whole, GROUP_ROWS, GROUP_ROWS + 7), TOTAL_ROWS, TOTAL_ROWS + 21)
    return whole, [*forged, more]


def _deep(depth: int) -> bytes:
    nested = b"[" * depth + b"]" * depth
    return b'{"text": "good"}\n{"text": "bad", "x": ' + nested + b"}\n" + b'{"text": "good"}\n' * 98


def _one_letter(compress: Callable[[bytes], bytes], head: bytes) -> bytes:
    """4 GiB of one letter behind a header, in many streams."""
    return compress(head) + compress(b"a" * (64 * MIB)) * 64


def _zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


TOO_LARGE = "holds more than 256 MiB; expected at most that, where its footer says 64 MiB or less"
TOO_LONG = "has a line of more than 16777216 bytes"


def bombs() -> list[Bomb]:
    """Deterministic, and made only when they are asked for."""
    # Every second character is a token.
    dense = b"text\n" + b"".join(b'"%d' % index + b", a" * (5 * MIB) + b'"\n' for index in range(4))
    million = b"text," + b"".join(b"c%d," % index for index in range(1_000_000)) + b"x\n1\n"
    zipped: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("gz", gzip.compress),
        ("zst", _zstd),
        ("bz2", bz2.compress),
        ("xz", partial(lzma.compress, preset=0)),
    ]
    return [
        Bomb("b.parquet", partial(_repeated, 1 * MIB, 100_000), TOO_LARGE),
        Bomb("b.parquet", partial(_repeated, 8 * MIB, 5_000), TOO_LARGE),
        Bomb("b.parquet", partial(_repeated, 100 * MIB, 2_000), "needs more memory than the reader may use"),
        Bomb("b.parquet", _lying_about_its_size, TOO_LARGE),
        Bomb("b.parquet", partial(_long, 15 * MIB, 20), None, row_count=20),
        Bomb("b.parquet", partial(_long, 60 * MIB, 2), "has a text of more than 16777216 bytes"),
        Bomb("b.parquet", partial(_long, GIB, 1), "more than"),
        *(
            Bomb(f"b.{kind}.{extension}", partial(_one_letter, compress, head), TOO_LONG)
            for extension, compress in zipped
            for kind, head in (("csv", b"text\n"), ("jsonl", b'{"text": "'))
        ),
        Bomb("b.csv", lambda: dense, None, row_count=4),
        Bomb("b.csv", lambda: million, "has 1000002 columns; expected at most 10000"),
        Bomb("b.csv", lambda: million, "has 1000002 columns; expected at most 10000", options=("--keep-all",)),
        Bomb("b.csv", lambda: b"text\n" + b"," * (15 * MIB) + b"\ngood\n", None, row_count=1, reject_count=1),
        Bomb("b.jsonl", partial(_deep, 900), None, row_count=100),
        Bomb("b.jsonl", partial(_deep, 100_000), None, row_count=99, reject_count=1),
        Bomb("b.jsonl", partial(_deep, 7 * MIB), None, row_count=99, reject_count=1),
    ]
