"""CSV and TSV: exact rows, offsets and rejects for everything that a dump may do to them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent import schema
from batchsent.errors import ShardError, UsageError
from batchsent.records import Position, Shard
from batchsent.stages.reader import delimited, raw_part, text_stream
from batchsent.stages.reader.delimited import read_delimited, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from batchsent.stages.reader.raw_part import RawPart

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}

Row = tuple[int, int, str | None, str | None, str | None]
"""row_index, byte_offset, text, reason, detail"""


def shard_of(folder: Path, content: bytes, name: str = "reviews.csv") -> Shard:
    path = folder / name
    path.write_bytes(content)
    compression = path.suffix if path.suffix in COMPRESS else ""
    return Shard(name, str(path), Path(name.removesuffix(compression)).suffix, compression, len(content))


def iterate(shard: Shard, **options: Any) -> Iterator[RawPart]:
    defaults: dict[str, Any] = {
        "encoding": "utf-8",
        "delimiter": None,
        "text_column": "text",
        "kept": (),
        "rows_per_part": 1000,
        "limit": None,
        "start": Position(),
    }
    return read_delimited(shard, **(defaults | options))


def parts_of(shard: Shard, **options: Any) -> list[RawPart]:
    return list(iterate(shard, **options))


def rows_of(parts: Sequence[RawPart]) -> list[Row]:
    return [tuple(row.values())[:5] for part in parts for row in part.records.to_pylist()]


def texts_of(parts: Sequence[RawPart]) -> list[str | None]:
    return [row[2] for row in rows_of(parts)]


def read(folder: Path, content: bytes, **options: Any) -> list[Row]:
    return rows_of(parts_of(shard_of(folder, content), **options))


def test_rows_offsets_and_kept_columns(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b'id,text,stars\n7,good,5\n8,"a ""b"", c",\n9, bad ,1\n')
    (part,) = parts_of(shard, kept=("stars", "id"))
    assert part.records.schema == pa.schema(
        [*schema.READ_FIELDS, pa.field("kept.stars", pa.string()), pa.field("kept.id", pa.string())]
    )
    assert [tuple(row.values()) for row in part.records.to_pylist()] == [
        (0, 14, "good", None, None, "5", "7"),
        (1, 23, 'a "b", c', None, None, "", "8"),
        (2, 39, " bad ", None, None, "1", "9"),
    ]
    assert (part.end, part.is_last, part.kept_kinds) == (Position(3, 49), True, {})


def test_the_text_itself_may_be_kept(tmp_path: Path) -> None:
    (part,) = parts_of(shard_of(tmp_path, b"id,text\n1,good\n"), kept=("text",))
    assert part.records["kept.text"].to_pylist() == ["good"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("final", [True, False])
def test_line_ends(tmp_path: Path, end: str, final: bool) -> None:
    content = end.join(["id,text", "1,good", "", '2,"x', 'y"', "", "3,bad"]) + (end if final else "")
    width = len(end)
    assert read(tmp_path, content.encode()) == [
        (0, 7 + width, "good", None, None),
        (1, 13 + 3 * width, f"x{end}y", None, None),
        (2, 19 + 6 * width, "bad", None, None),
    ]


def test_mixed_line_ends(tmp_path: Path) -> None:
    content = b'id,text\r1,a\r\n2,b\n\r\n\n\r3,"c\r\r\n\n"\r4,d'
    assert read(tmp_path, content) == [
        (0, 8, "a", None, None),
        (1, 13, "b", None, None),
        (2, 21, "c\r\r\n\n", None, None),
        (3, 31, "d", None, None),
    ]


def test_a_quoted_line_end_at_every_offset_around_a_buffer_boundary(tmp_path: Path) -> None:
    # 8192: what TextIOWrapper reads at a time. pyarrow.csv loses a byte here (apache/arrow issue 51368).
    for filler in range(8192 - 24, 8192 + 4):
        text = "x" * filler + "\r\ny"
        content = f'id,text\r\n1,"{text}"\r\n2,good\r\n'.encode()
        assert read(tmp_path, content) == [
            (0, 9, text, None, None),
            (1, 15 + len(text), "good", None, None),
        ]


def test_line_ends_across_every_block_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'id,text\r\n1,"a\r\nb"\r\n2,"\r\n"\r\n3,c\r\n'
    expected = [(0, 9, "a\r\nb", None, None), (1, 19, None, "empty_text", None), (2, 27, "c", None, None)]
    for size in range(1, 12):
        monkeypatch.setattr(text_stream, "BLOCK_BYTES", size)
        for compression, compress in COMPRESS.items():
            shard = shard_of(tmp_path, compress(content), "a.csv" + compression)
            assert rows_of(parts_of(shard)) == expected


def test_characters_that_python_would_take_for_line_ends(tmp_path: Path) -> None:
    text = "a\x0bb\x0cc\x1cd\x85e\u2028f\x00g"
    assert texts_of(parts_of(shard_of(tmp_path, f"id,text\n1,{text}\n".encode()))) == [text]
    shard = shard_of(tmp_path, b"id,text\n1,a\x85b\n")
    assert texts_of(parts_of(shard, encoding="latin-1")) == ["a\x85b"]


def test_byte_order_mark(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b'\xef\xbb\xbf"id",text\n1,good\n')
    assert read_header(shard, "utf-8", None) == ("id", "text")
    assert rows_of(parts_of(shard)) == [(0, 13, "good", None, None)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf_16_and_32(tmp_path: Path, encoding: str, mark: str) -> None:
    mark = "" if encoding in ("utf-16", "utf-32") else mark
    shard = shard_of(tmp_path, f'{mark}id,text\r\n1,"schön,\r\n🎬"\r\n2,上\r\n'.encode(encoding))
    assert read_header(shard, encoding, None) == ("id", "text")
    assert texts_of(parts_of(shard, encoding=encoding)) == ["schön,\r\n🎬", "上"]


def test_utf_16_without_its_mark(tmp_path: Path) -> None:
    native = shard_of(tmp_path, "id,text\n1,good\n".encode("utf-16").removeprefix("\ufeff".encode("utf-16-le")))
    assert texts_of(parts_of(native, encoding="utf-16-le")) == ["good"]
    with pytest.raises(ShardError, match="column 'text' is 0 times"):
        parts_of(native, encoding="utf-16-be")
    with pytest.raises(ShardError, match="column 'text' is 0 times"):
        parts_of(native)  # as UTF-8 it is ASCII with NULs


def test_latin_1(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, "id,texté,text\n1,à,schön\n".encode("latin-1"))
    assert read_header(shard, "latin-1", None) == ("id", "texté", "text")
    (part,) = parts_of(shard, encoding="latin-1", kept=("texté",))
    assert (texts_of([part]), part.records["kept.texté"].to_pylist()) == (["schön"], ["à"])
    with pytest.raises(ShardError, match=r"the header of reviews.csv has byte 0xE9; .*--encoding"):
        read_header(shard, "utf-8", None)


@pytest.mark.parametrize("encoding", ["gb18030", "gbk"])
def test_gb18030_whose_second_bytes_look_like_ascii(tmp_path: Path, encoding: str) -> None:
    letter, bar = b"\x81\x41".decode(encoding), b"\x81\x7c".decode(encoding)
    text = f"{bar}{letter}好"
    assert b"|" in text.encode(encoding)
    content = f"id|text|{bar}\n1|{text}|x\n2|{letter}|{bar}\n".encode(encoding)
    shard = shard_of(tmp_path, content)
    assert read_header(shard, encoding, "|") == ("id", "text", bar)
    (part,) = parts_of(shard, encoding=encoding, delimiter="|", kept=(bar,))
    assert (texts_of([part]), part.records["kept." + bar].to_pylist()) == ([text, letter], ["x", bar])


def test_invalid_bytes_reject_their_row(tmp_path: Path) -> None:
    content = b"id,text,note\n1,gut,x\n2,sch\xf6n,x\n3,gut,\xc3\n4,sch\xc3\xb6n,\xc3\xa9\n"
    (part,) = parts_of(shard_of(tmp_path, content), kept=("id", "note"))
    assert rows_of([part]) == [
        (0, 13, "gut", None, None),
        (1, 21, None, "undecodable", "byte 0xF6 in column 'text'"),
        (2, 31, None, "undecodable", "byte 0xC3 in column 'note'"),
        (3, 39, "schön", None, None),
    ]
    assert part.records["kept.id"].to_pylist() == ["1", None, None, "4"]
    assert part.records["kept.note"].to_pylist() == ["x", None, None, "é"]


@pytest.mark.parametrize("sequence", [b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82"])
def test_what_is_no_utf_8(tmp_path: Path, sequence: bytes) -> None:
    rows = read(tmp_path, b"id,text\n1,a" + sequence + b"\n2,b\n")
    assert [(row[2], row[3]) for row in rows] == [(None, "undecodable"), ("b", None)]
    assert rows[0][4] == f"byte 0x{sequence[0]:02X} in column 'text'"


def test_a_byte_that_a_single_byte_encoding_leaves_undefined(tmp_path: Path) -> None:
    rows = read(tmp_path, b"id,text\n1,\x81\n2,\x80\n", encoding="cp1252")
    assert rows[0][2:] == (None, "undecodable", "byte 0x81 in column 'text'")
    assert rows[1][2] == "€"


def test_what_cannot_be_transcoded(tmp_path: Path) -> None:
    rows = read(tmp_path, b"id,text\n1,\xff\n2,\x81\n3,b\n", encoding="gb18030")
    assert [row[2:] for row in rows] == [
        (None, "undecodable", "bytes that are not gb18030 in column 'text'"),
        (None, "undecodable", "bytes that are not gb18030 in column 'text'"),
        ("b", None, None),
    ]


def test_nul_is_a_character(tmp_path: Path) -> None:
    assert read(tmp_path, b'id,text\n1,a\0b\n2,"\0"\n') == [(0, 8, "a\0b", None, None), (1, 14, "\0", None, None)]


@pytest.mark.parametrize("text", ["NA", "null", "NULL", "NaN", "None", "#N/A", "=cmd|'/c calc'!A1", "0", "\\N"])
def test_words_that_others_take_for_nothing_are_text(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"id,text\n1,{text}\n".encode()) == [(0, 8, text, None, None)]


@pytest.mark.parametrize("blank", ["", '""', " ", '" \t"', "\u3000", '"\r\n"'])
def test_blank_text_is_rejected_but_its_row_is_kept(tmp_path: Path, blank: str) -> None:
    (part,) = parts_of(shard_of(tmp_path, f"id,text\n1,{blank}\n2,b\n".encode()), kept=("id", "text"))
    assert rows_of([part])[0] == (0, 8, None, "empty_text", None)
    assert part.records["kept.id"].to_pylist() == ["1", "2"]
    assert part.records["kept.text"].to_pylist()[0] == blank.strip('"')


def test_ragged_rows(tmp_path: Path) -> None:
    (part,) = parts_of(shard_of(tmp_path, b"id,text\n1\n2,b\n3,c,d\n,\n4,e,\n \n"), kept=("id",))
    assert rows_of([part]) == [
        (0, 8, None, "field_count", "1 field, the header has 2"),
        (1, 10, "b", None, None),
        (2, 14, None, "field_count", "3 fields, the header has 2"),
        (3, 20, None, "empty_text", None),
        (4, 22, None, "field_count", "3 fields, the header has 2"),
        (5, 27, None, "field_count", "1 field, the header has 2"),
    ]
    assert part.records["kept.id"].to_pylist() == [None, "2", None, "", None, None]


def test_one_column(tmp_path: Path) -> None:
    assert read(tmp_path, b'text\ngood\n\n""\n  \nbad') == [
        (0, 5, "good", None, None),
        (1, 11, None, "empty_text", None),
        (2, 14, None, "empty_text", None),
        (3, 17, "bad", None, None),
    ]


def test_a_quote_inside_an_unquoted_field_is_a_character(tmp_path: Path) -> None:
    assert read(tmp_path, b'id,text\n1,5" screen "ok"\n2, "b"\n3,b"\n') == [
        (0, 8, '5" screen "ok"', None, None),
        (1, 25, ' "b"', None, None),
        (2, 32, 'b"', None, None),
    ]


MALFORMED = [
    b'2,"a"b',  # text after a closing quote
    b'2,"a" ',
    b'2,"say \\"hi\\" now"',  # backslash escapes
    b'2,"a" "b"',
    b'"2"x,"a"',
    b'2,"a","b"c"',
    b'2,"a"b,"c"',
    b'2,"a"\xff',
]


@pytest.mark.parametrize("line", MALFORMED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_malformed_quotes_that_surely_end_with_their_line(tmp_path: Path, line: bytes, end: bytes) -> None:
    content = end.join([b"id,text", b"1,a", line, b'3,"c', b'd"', b"4,e"])
    (part,) = parts_of(shard_of(tmp_path, content), kept=("id",))
    width, begin = len(end), 10 + 2 * len(end)
    assert rows_of([part]) == [
        (0, 7 + width, "a", None, None),
        (1, begin, None, "malformed_quotes", "text after a closing quote"),
        (2, begin + len(line) + width, "c" + end.decode() + "d", None, None),
        (3, begin + len(line) + 6 + 3 * width, "e", None, None),
    ]
    assert part.records["kept.id"].to_pylist() == ["1", None, "3", "4"]


def test_malformed_quotes_in_the_last_line(tmp_path: Path) -> None:
    assert read(tmp_path, b'id,text\n1,"a"b')[0][3] == "malformed_quotes"
    assert read(tmp_path, b'id,text\n1,"a"b\n')[0][3] == "malformed_quotes"


@pytest.mark.parametrize(
    "lines",
    [
        b'2,"a"b,"c\n3,d\n',  # read leniently, the second quote opens a field that goes on
        b'2,"a\n3,"b"\n',  # an unclosed quote that the next quoted field closes
        b'2,"a\nb"c\n',
        b'2,"say \\"hi\\"\nmore",x\n',  # a backslash escape in a field of two lines
    ],
)
def test_malformed_quotes_that_may_have_swallowed_rows(tmp_path: Path, lines: bytes) -> None:
    with pytest.raises(ShardError) as caught:
        read(tmp_path, b"id,text\n1,secret\n" + lines + b"4,e\n")
    assert caught.value.args == (
        "record 1 of reviews.csv, at byte 17, has malformed quotes and may have swallowed others",
        "fields quoted as in RFC 4180",
        "repair the file there",
    )


@pytest.mark.parametrize("tail", [b'2,"b', b'2,"b\n', b'2,"b\n3,c\n4,d\n', b'2,"', b'"', b'2,"b""', b'2,"b""\n'])
@pytest.mark.parametrize("compression", COMPRESS)
def test_a_quote_that_meets_the_end_of_the_file_fails_the_shard(tmp_path: Path, tail: bytes, compression: str) -> None:
    shard = shard_of(tmp_path, COMPRESS[compression](b"id,text\n1,a\n" + tail), "a.csv" + compression)
    with pytest.raises(
        ShardError, match=f"^record 1 of a.csv{compression}, at byte 12, has a quoted field that never ends"
    ):
        parts_of(shard)


def test_parts_before_a_lost_quote_were_read(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b'id,text\n1,a\n2,b\n3,c\n4,"d\n5,e\n')
    parts = iterate(shard, rows_per_part=2)
    first = next(parts)
    assert (texts_of([first]), first.end) == (["a", "b"], Position(2, 16))
    with pytest.raises(ShardError, match=r"record 3 of reviews.csv, at byte 20"):
        next(parts)
    with pytest.raises(ShardError, match=r"record 3 of reviews.csv, at byte 20"):
        parts_of(shard, start=first.end)


def test_no_content_in_errors_and_details(tmp_path: Path) -> None:
    content = b'id,text\n1,"secret"secret\nsecret,secret,secret\n4,secret\xff\n5,"secret\nsecret'
    shard = shard_of(tmp_path, content)
    assert "secret" not in str([row[4] for row in rows_of(parts_of(shard, limit=3))])
    with pytest.raises(ShardError) as caught:
        parts_of(shard)
    assert "secret" not in str(caught.value)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    limit_of_the_process = csv.field_size_limit()
    monkeypatch.setattr(delimited, "RECORD_LIMIT_BYTES", 100)
    monkeypatch.setattr(delimited, "PART_LIMIT_BYTES", 400)
    yield
    csv.field_size_limit(limit_of_the_process)


@pytest.mark.usefixtures("small_limits")
def test_the_largest_field(tmp_path: Path) -> None:
    text = "x" * 97
    assert read(tmp_path, f"id,text\n1,{text}\n2,b\n".encode())[0][2] == text
    spread = "x" * 49 + "\n" + "y" * 50
    assert read(tmp_path, f'id,text\n1,"{spread}"\n2,b\n'.encode())[0][2] == spread


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_line_beyond_the_limit(tmp_path: Path, end: str) -> None:
    content = f"id,text\n1,a\n2,{'x' * 99}{end}".encode()
    with pytest.raises(ShardError, match=r"record 1 of reviews.csv, at byte 12, has a line of more than 100 bytes"):
        read(tmp_path, content)


@pytest.mark.usefixtures("small_limits")
def test_a_quoted_field_beyond_the_limit(tmp_path: Path) -> None:
    content = b'id,text\n1,a\n2,"b\n' + b"3,c\n" * 40
    with pytest.raises(ShardError, match=r"record 1 of .*, at byte 12, has a quoted field of more than 100 bytes"):
        read(tmp_path, content)


@pytest.mark.usefixtures("small_limits")
def test_a_record_beyond_the_limit_of_a_part(tmp_path: Path) -> None:
    row = ",".join(['"' + "x" * 40 + "\n" + "y" * 40 + '"'] * 6)
    with pytest.raises(ShardError, match=r"record 0 of reviews.csv, at byte 5, has more than 400 bytes"):
        read(tmp_path, f"text\n{row}\n".encode())


@pytest.mark.usefixtures("small_limits")
def test_a_header_beyond_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"^the header of reviews.csv, at byte 0, has a line of more"):
        read_header(shard_of(tmp_path, b"x" * 200), "utf-8", None)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", ()),
        (b"\n\r\n\n", ()),
        (b"\xef\xbb\xbf", ()),
        (b"id,text", ("id", "text")),
        (b"\n\nid,text\n", ("id", "text")),
        (b" id , text\n", (" id ", " text")),
        (b"id,id,\n", ("id", "id", "")),
        (b'"a\nb","c ""d"""\r\n', ("a\nb", 'c "d"')),
        (b"Text\n", ("Text",)),
    ],
)
def test_headers(tmp_path: Path, content: bytes, names: tuple[str, ...]) -> None:
    assert read_header(shard_of(tmp_path, content), "utf-8", None) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'id,"text\n1,a\n', "the header of reviews.csv, at byte 0, has a quoted field that never ends"),
        (b'\nid,"text"x\n1,a\n', "the header of reviews.csv has malformed quotes"),
        (b"id,te\xfft\n", "the header of reviews.csv has byte 0xFF"),
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ShardError) as caught:
        read_header(shard_of(tmp_path, content), "utf-8", None)
    assert caught.value.args[0] == message


def test_wanted_columns_must_stand_once(tmp_path: Path) -> None:
    twice = shard_of(tmp_path, b"text,id,id,text \na,1,2,b\n")
    assert texts_of(parts_of(twice)) == ["a"]  # a double that nobody asked for is no harm
    assert texts_of(parts_of(twice, text_column="text ")) == ["b"]
    with pytest.raises(ShardError, match=r"column 'id' is 2 times in the header of reviews.csv"):
        parts_of(twice, kept=("id",))
    with pytest.raises(ShardError, match="column 'id' is 2 times"):
        parts_of(twice, text_column="id")
    with pytest.raises(ShardError, match="column 'Text' is 0 times"):
        parts_of(twice, text_column="Text")


@pytest.mark.parametrize(
    ("content", "end"), [(b"", 0), (b"\n\n", 2), (b"id,text", 7), (b"id,text\n", 8), (b"id,text\n\n\r\n", 11)]
)
def test_no_records_give_one_empty_part(tmp_path: Path, content: bytes, end: int) -> None:
    (part,) = parts_of(shard_of(tmp_path, content), kept=("id",))
    assert (part.records.num_rows, part.end, part.is_last) == (0, Position(0, end), True)
    assert part.records.schema.names[-2:] == ["detail", "kept.id"]


def test_delimiters(tmp_path: Path) -> None:
    tabs = shard_of(tmp_path, b"id\ttext\n1\ta,b\n", "a.tsv")
    assert (read_header(tabs, "utf-8", None), texts_of(parts_of(tabs))) == (("id", "text"), ["a,b"])
    other = shard_of(tmp_path, b"id;text\n1;a,b\n")
    assert texts_of(parts_of(other, delimiter=";")) == ["a,b"]
    with pytest.raises(ShardError, match="column 'text' is 0 times"):
        parts_of(other)  # the wrong delimiter
    backslash = shard_of(tmp_path, b'id\\text\n1\\"a"b\n')
    assert rows_of(parts_of(backslash, delimiter="\\"))[0][3] == "malformed_quotes"
    for wrong in ("", ";;", "é", '"', "\n", "\r"):
        with pytest.raises(UsageError, match="--delimiter"):
            read_header(other, "utf-8", wrong)


def test_parts_end_at_their_rows(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b"id,text\n1,a\n\n2,b\n3\n4,d\n")
    parts = parts_of(shard, rows_per_part=2)
    assert [(part.records.num_rows, part.end, part.is_last) for part in parts] == [
        (2, Position(2, 17), False),
        (2, Position(4, 23), False),
        (0, Position(4, 23), True),  # whether more follows is not known before it is read
    ]


def test_parts_end_at_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_part, "PART_LIMIT_BYTES", 10)
    content = b"id,text\n" + b"".join(b"%d,%s\n" % (i, b"x" * (i * 3 % 17 + 1)) for i in range(40)) + b"\n" * 30
    shard = shard_of(tmp_path, content)
    parts = parts_of(shard)
    begin = 8
    for part in parts[:-1]:
        offsets = part.records["byte_offset"].to_pylist()
        assert all(offset - begin < 10 for offset in offsets)
        assert part.end.byte_offset - begin >= 10
        begin = part.end.byte_offset
    assert [row[0] for row in rows_of(parts)] == list(range(40))


def test_the_limit_counts_rejected_rows_too(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b'id,text\n1\n2,b\n3,"c"c\n4,d\n5,"never read')
    for rows_per_part in (1, 2, 3, 4, 5):
        parts = parts_of(shard, limit=4, rows_per_part=rows_per_part)
        assert [row[2] for row in rows_of(parts)] == [None, "b", None, "d"]
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) == -(-4 // rows_per_part)
    (rest,) = parts_of(shard, limit=4, start=Position(4, 25))
    assert (rest.records.num_rows, rest.is_last) == (0, True)


MANY = "\ufeffid,text,note\r\n" + "".join(
    {
        0: f'{i},"schön {i}\r\nzwei",x\r\n',
        1: f"{i},plain {i},\r\n\r\n",
        2: f"{i},too few\n",
        3: f'{i},"a"b,c\r',
        4: f"{i},,leer\r\n",
    }[i % 5]
    for i in range(60)
)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "gb18030"])
def test_resume_from_the_end_of_every_part(
    tmp_path: Path, compression: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_part, "PART_LIMIT_BYTES", 150)
    content = (MANY if encoding.startswith("utf-8") else MANY[1:]).encode(encoding)
    shard = shard_of(tmp_path, COMPRESS[compression](content), "a.csv" + compression)
    for limit in (None, 33):
        options: dict[str, Any] = {"encoding": encoding, "rows_per_part": 7, "kept": ("id", "note"), "limit": limit}
        parts = parts_of(shard, **options)
        assert len(parts) > 4
        for i, part in enumerate(parts[:-1]):
            assert parts_of(shard, start=part.end, **options) == parts[i + 1 :]
        assert [row[0] for row in rows_of(parts)] == list(range(limit or 60))


def test_a_file_that_shrank(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b"id,text\n1,a\n")
    with pytest.raises(ShardError, match=r"reviews.csv ends at byte 12"):
        parts_of(shard, start=Position(3, 30))


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_a_truncated_file_is_never_a_shorter_one(tmp_path: Path, compression: str) -> None:
    packed = COMPRESS[compression](b"id,text\n" + b"".join(b"%d,line %d\n" % (i, i * i) for i in range(2000)))
    for size in range(0, len(packed), max(1, len(packed) // 15)):
        with pytest.raises(ShardError, match="cannot be read"):
            parts_of(shard_of(tmp_path, packed[:size], "a.csv" + compression))


# Text that csv.writer can write and UTF-8 can hold; what makes trouble comes often.
FIELDS = st.text(st.one_of(st.sampled_from('",\r\n\t\0\\ aé'), st.characters(codec="utf-8")), max_size=12)


@settings(deadline=None, max_examples=300)
@given(
    rows=st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=8),
    # Python's writer leaves a lone CR unquoted where lines end with LF, and the other way round.
    style=st.sampled_from(
        [
            ("\r\n", csv.QUOTE_MINIMAL),
            ("\r\n", csv.QUOTE_ALL),
            ("\n", csv.QUOTE_ALL),
            ("\r", csv.QUOTE_ALL),
        ]
    ),
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    final=st.booleans(),
)
def test_what_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    style: tuple[str, Any],
    delimiter: str,
    encoding: str,
    final: bool,
) -> None:
    buffer, (end, quoting) = io.StringIO(newline=""), style
    writer = csv.writer(buffer, lineterminator=end, quoting=quoting, delimiter=delimiter)
    writer.writerow(["id", "text", "note"])
    writer.writerows(rows)
    content = buffer.getvalue() if final else buffer.getvalue().removesuffix(end)
    shard = shard_of(tmp_path_factory.getbasetemp(), content.encode(encoding))
    parts = parts_of(shard, encoding=encoding, delimiter=delimiter, kept=("id", "text", "note"), rows_per_part=3)
    table = pa.concat_tables(part.records for part in parts)
    kept = [table[f"kept.{name}"].to_pylist() for name in ("id", "text", "note")]
    assert list(zip(*kept, strict=True)) == rows
    assert table["text"].to_pylist() == [text if text.strip() else None for _, text, _ in rows]
    for offset, row in zip(table["byte_offset"].to_pylist(), rows, strict=True):
        rest = io.StringIO(content.encode()[offset:].decode(), newline="")
        assert tuple(next(csv.reader(rest, delimiter=delimiter))) == row


@settings(deadline=None, max_examples=300)
@given(
    content=st.lists(st.sampled_from([b'"', b",", b"\r", b"\n", b"a", b"\\", b"\xff", b"\0"]), max_size=40),
    rows_per_part=st.integers(1, 3),
)
def test_any_bytes_are_records_or_a_failed_shard(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], rows_per_part: int
) -> None:
    shard = shard_of(tmp_path_factory.getbasetemp(), b"id,text\n" + b"".join(content))
    parts: list[RawPart] = []
    try:
        parts.extend(iterate(shard, rows_per_part=rows_per_part, kept=("id",)))
    except ShardError as error:
        assert " of reviews.csv, at byte " in str(error)  # noqa: PT017
        return
    rows = rows_of(parts)
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert all((text is None) != (reason is None) for _, _, text, reason, _ in rows)
    assert sorted({row[1] for row in rows}) == [row[1] for row in rows]
    assert parts[-1].end == Position(len(rows), shard.size_bytes)
    for i, part in enumerate(parts):
        again = parts_of(shard, rows_per_part=rows_per_part, kept=("id",), start=part.end)
        assert again == parts[i + 1 :] or (part.is_last and len(rows_of(again)) == 0)
