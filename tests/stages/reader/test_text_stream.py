"""The stream under the text readers: compression, encodings, byte order marks, and every way to be damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import ShardError, UsageError
from batchsent.records import Shard
from batchsent.stages.reader import decompression, text_stream
from batchsent.stages.reader.text_stream import field_encoding, open_text, skip_to, undecodable_detail

if TYPE_CHECKING:
    from collections.abc import Callable


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
COMPRESSED = [compression for compression in COMPRESS if compression]


def shard_of(folder: Path, content: bytes, name: str = "reviews.csv") -> Shard:
    path = folder / name
    path.write_bytes(content)
    compression = path.suffix if path.suffix in COMPRESSED else ""
    data_format = Path(name.removesuffix(compression)).suffix
    return Shard(name, str(path), data_format, compression, len(content))


def read_all(shard: Shard, encoding: str = "utf-8") -> bytes:
    with open_text(shard, encoding) as stream:
        return stream.read()


SAMPLE = b"id,text\n" + b"".join(b"%d,line %d\n" % (i, i * i) for i in range(60_000))


@pytest.mark.parametrize("compression", COMPRESS)
def test_reads_every_compression(tmp_path: Path, compression: str) -> None:
    assert len(SAMPLE) > 2 * decompression.BLOCK_BYTES
    assert read_all(shard_of(tmp_path, COMPRESS[compression](SAMPLE), "a.csv" + compression)) == SAMPLE


@pytest.mark.parametrize("compression", COMPRESSED)
def test_reads_files_of_many_streams(tmp_path: Path, compression: str) -> None:
    packed = b"".join(COMPRESS[compression](SAMPLE[i : i + 70_000]) for i in range(0, len(SAMPLE), 70_000))
    assert read_all(shard_of(tmp_path, packed, "a.csv" + compression)) == SAMPLE


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("streams", [1, 2])
def test_every_cut_of_a_compressed_file_is_noticed(tmp_path: Path, compression: str, streams: int) -> None:
    stream = COMPRESS[compression](b"id,text\n1,good film\n2,bad film\n")
    whole = stream * streams
    for size in range(len(whole)):
        if size == len(stream):
            continue  # a file of one stream, and a whole one
        shard = shard_of(tmp_path, whole[:size], "a.csv" + compression)
        with pytest.raises(ShardError, match=r"^a\.csv\.\w+ cannot be read: "):
            read_all(shard)


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_far_into_the_file_is_noticed_while_reading(tmp_path: Path, compression: str, share: float) -> None:
    noise = random.Random(0).randbytes(350_000).hex().encode()  # long enough that opening does not meet the cut
    packed = COMPRESS[compression](noise)
    shard = shard_of(tmp_path, packed[: int(len(packed) * share)], "a.csv" + compression)
    with pytest.raises(ShardError, match="cannot be read"):
        read_all(shard)


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("damage", ["trailing", "first byte of the second stream"])
def test_what_follows_a_stream_is_never_ignored(tmp_path: Path, compression: str, damage: str) -> None:
    stream = COMPRESS[compression](SAMPLE)
    second = b"good film" if damage == "trailing" else bytes([stream[0] ^ 1]) + stream[1:]
    with pytest.raises(ShardError, match="cannot be read") as caught:
        read_all(shard_of(tmp_path, stream + second, "a.csv" + compression))
    assert "good" not in str(caught.value)


def test_padding_of_xz_is_no_damage(tmp_path: Path) -> None:
    packed = lzma.compress(b"a\n") + bytes(8) + lzma.compress(b"b\n") + bytes(4)
    assert read_all(shard_of(tmp_path, packed, "a.csv.xz")) == b"a\nb\n"


@pytest.mark.parametrize("compression", COMPRESSED)
def test_flipped_bits_never_pass_for_the_file(tmp_path: Path, compression: str) -> None:
    packed = COMPRESS[compression](SAMPLE[:5000])
    for position in range(0, len(packed), max(1, len(packed) // 60)):
        damaged = bytearray(packed)
        damaged[position] ^= 0x10
        try:
            # Header fields that mean nothing (time, flags), and zstd frames without a checksum, may be flipped.
            content = read_all(shard_of(tmp_path, bytes(damaged), "a.csv" + compression))
        except ShardError:
            continue
        assert content == SAMPLE[:5000] or compression == ".zst"


@pytest.mark.parametrize("compression", COMPRESSED)
def test_plain_text_under_a_compressed_name(tmp_path: Path, compression: str) -> None:
    shard = shard_of(tmp_path, b"id,text\n1,good film\n", "a.csv" + compression)
    with pytest.raises(ShardError, match="cannot be read") as caught:
        read_all(shard)
    assert "id" not in str(caught.value).replace("Invalid", "")


@pytest.mark.parametrize(("compression", "name"), [(".gz", "gzip"), (".zst", "zstd"), (".bz2", "bzip2"), (".xz", "xz")])
@pytest.mark.parametrize("content", [b"", SAMPLE])
def test_a_compressed_file_under_a_plain_name(tmp_path: Path, compression: str, name: str, content: bytes) -> None:
    shard = shard_of(tmp_path, COMPRESS[compression](content), "reviews.csv")
    with pytest.raises(ShardError) as caught:
        open_text(shard, "utf-8")
    assert caught.value.args == (
        f"reviews.csv is {name}-compressed",
        "plain CSV",
        f"rename it to reviews.csv{compression}",
    )


def test_a_parquet_file_under_a_plain_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "x.parquet")
    shard = shard_of(tmp_path, (tmp_path / "x.parquet").read_bytes(), "reviews.jsonl")
    with pytest.raises(ShardError) as caught:
        open_text(shard, "utf-8")
    assert caught.value.args == (
        "reviews.jsonl is a Parquet file",
        "plain JSONL",
        "rename it to reviews.parquet",
    )


@pytest.mark.parametrize("header", [b"BZh9,text\n", b"PAR1,text\n", b"PK,text\n"])
def test_a_header_that_begins_like_a_magic_number_is_text(tmp_path: Path, header: bytes) -> None:
    assert read_all(shard_of(tmp_path, header)) == header


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "UTF8"])
@pytest.mark.parametrize("wide", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_wide_text_read_as_utf8(tmp_path: Path, encoding: str, wide: str, order: str) -> None:
    shard = shard_of(tmp_path, "\ufeffid,text\n".encode(f"{wide}-{order}"))
    with pytest.raises(ShardError, match=f"--encoding {wide}$"):
        open_text(shard, encoding)


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16-le", "utf-16-be", "gb18030"])
def test_a_byte_order_mark_is_skipped_and_counted(tmp_path: Path, compression: str, encoding: str) -> None:
    raw = "utf-8" if encoding == "latin-1" else encoding.removesuffix("-sig")
    content = "\ufeffid,text\n".encode(raw)
    name = "a.csv" + compression
    with open_text(shard_of(tmp_path, COMPRESS[compression](content), name), encoding) as stream:
        assert stream.tell() == 3
        assert stream.readline() == b"id,text\n"
        assert stream.tell() == 11


def test_a_codec_that_eats_its_byte_order_mark_leaves_nothing_to_count(tmp_path: Path) -> None:
    with open_text(shard_of(tmp_path, "id\n".encode("utf-16")), "utf-16") as stream:
        assert (stream.tell(), stream.read()) == (0, b"id\n")


def test_only_one_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert read_all(shard_of(tmp_path, "\ufeff\ufeffid\n".encode())) == "\ufeffid\n".encode()


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "koi8-r", "iso8859-15", "cp1251", "cp437", "mac-roman", "ascii", "tis-620"]
)
def test_single_byte_encodings_pass_unchanged(tmp_path: Path, encoding: str) -> None:
    content = bytes(range(256))
    assert read_all(shard_of(tmp_path, content), encoding) == content
    decoded = b"abc".decode(field_encoding(encoding))
    assert (decoded, field_encoding(encoding) == "utf-8") == ("abc", False)


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-16",
        "utf-16-be",
        "utf-32",
        "utf-7",
        "gb18030",
        "gbk",
        "gb2312",
        "big5",
        "big5hkscs",
        "shift_jis",
        "cp932",
        "euc-jp",
        "euc-kr",
        "johab",
        "hz",
        "iso2022_jp",
        "cp037",
        "cp500",
    ],
)
def test_other_encodings_become_utf8(tmp_path: Path, encoding: str) -> None:
    text = 'id,text\r\n1,"plain, text"\n' * 3000
    if encoding not in ("cp037", "cp500"):
        text += "二三\n"
    shard = shard_of(tmp_path, text.encode(encoding))
    assert read_all(shard, encoding).decode() == text
    assert field_encoding(encoding) == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-be", "gb18030"])
def test_characters_across_blocks(tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "BLOCK_BYTES", 7)
    text = "a好🎬é\n" * 50
    assert read_all(shard_of(tmp_path, text.encode(encoding)), encoding).decode() == text


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gb18030", b"a,\xff\nb,\x81\nc,d\n"),  # a lead byte must not take the line end with it
        ("shift_jis", b"a,\xff\nb,\x81\nc,d\n"),
        ("utf-16-le", "a,\ud800\nb,\udc00\nc,d\n".encode("utf-16-le", "surrogatepass")),
    ],
)
def test_what_cannot_be_transcoded_spoils_its_line_only(tmp_path: Path, encoding: str, content: bytes) -> None:
    lines = read_all(shard_of(tmp_path, content), encoding).split(b"\n")
    assert [line[:2] for line in lines] == [b"a,", b"b,", b"c,", b""]
    assert lines[2] == b"c,d"
    for line in lines[:2]:
        with pytest.raises(UnicodeDecodeError) as caught:
            line.decode(field_encoding(encoding))
        assert undecodable_detail(caught.value, encoding) == f"bytes that are not {encoding}"


def test_half_a_character_at_the_end_is_not_lost(tmp_path: Path) -> None:
    content = read_all(shard_of(tmp_path, "ab".encode("utf-16-le") + b"c"), "utf-16-le")
    assert content[:2] == b"ab"
    with pytest.raises(UnicodeDecodeError):
        content.decode()


@pytest.mark.parametrize("encoding", ["no-such", "rot13", "hex", "base64", "undefined", "a\0b", ""])
def test_an_unknown_encoding_is_a_usage_error(tmp_path: Path, encoding: str) -> None:
    shard = shard_of(tmp_path, b"id\n")
    with pytest.raises(UsageError, match="--encoding"):
        open_text(shard, encoding)
    with pytest.raises(UsageError, match="--encoding"):
        field_encoding(encoding)


def test_a_codec_without_an_error_handler_fails_the_shard(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="is not idna"):
        read_all(shard_of(tmp_path, b"xn--\xff.com\n" * 10), "idna")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ShardError, match=f"x.csv cannot be read: {reason}") as caught:
            open_text(Shard("x.csv", str(path), ".csv", "", 0), "utf-8")
        assert str(tmp_path) not in str(caught.value)


def test_an_empty_file(tmp_path: Path) -> None:
    assert read_all(shard_of(tmp_path, b"")) == b""
    assert read_all(shard_of(tmp_path, gzip.compress(b""), "a.csv.gz")) == b""
    assert read_all(shard_of(tmp_path, b""), "utf-16") == b""


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_skip_to_any_offset(tmp_path: Path, compression: str, encoding: str) -> None:
    text = SAMPLE.decode()[:400_000]
    shard = shard_of(tmp_path, COMPRESS[compression](text.encode(encoding)), "a.csv" + compression)
    for offset in (0, 1, 8, 262_143, 262_144, 300_001, 400_000):
        with open_text(shard, encoding) as stream:
            skip_to(stream, offset)
            assert stream.tell() == offset
            assert stream.read() == text.encode()[offset:]
    with open_text(shard, encoding) as stream, pytest.raises(ShardError, match="ends at byte 400000"):
        skip_to(stream, 400_001)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
@pytest.mark.parametrize("compression", COMPRESS)
def test_nothing_stays_open(tmp_path: Path, compression: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    name = "a.csv" + compression
    for _ in range(3):
        read_all(shard_of(tmp_path, COMPRESS[compression](SAMPLE[:5000]), name))
        with pytest.raises(ShardError):
            read_all(shard_of(tmp_path, b"\xff\xfe" + COMPRESS[compression](SAMPLE[:5000]), name))
        with pytest.raises(ShardError):
            read_all(shard_of(tmp_path, COMPRESS[compression or ".xz"](SAMPLE[:5000])[:-9], name))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
