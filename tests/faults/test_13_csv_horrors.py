"""Fault 13: everything that a CSV dump may do, through the whole job: bytes in; rows, rejects or a failed shard out."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchsent.errors import IncompleteError, InputError
from faults.inline import Inline
from faults.tally import Injections
from support import rows, write_csv

Reject = tuple[int, int, str]
"""row_index, byte_offset, reason"""


@dataclass(frozen=True)
class Case:
    """A shard, and exactly what has to come of it: ``rows`` and ``rejects``, or how its ``failure`` begins."""

    what: str
    content: bytes
    rows: tuple[tuple[int, str, str], ...] = ()
    """row_index, text and id of each scored record"""
    rejects: tuple[Reject, ...] = ()
    failure: str = ""
    is_setting_wrong: bool = False
    """Alone, it ends the run with exit 2 before DIR is used."""
    encoding: str = "utf-8"
    delimiter: str | None = None
    name: str = "r.csv"


GOOD, BAD = (0, "good", "1"), (1, "bad", "2")
LATIN = "id,text\n1,good\n2,caf\u00e9\n3,na\u00efve\n"
LATIN_ROWS = (GOOD, (1, "caf\u00e9", "2"), (2, "na\u00efve", "3"))
CHINESE = "id,text\n1,很好\n2,太慢了\n3,不错\n"
CHINESE_ROWS = ((0, "很好", "1"), (1, "太慢了", "2"), (2, "不错", "3"))
NEVER_ENDS = "has a quoted field that never ends; expected fields quoted as in RFC 4180; repair the file there"
SWALLOWED = "has malformed quotes and may have swallowed others; expected fields quoted as in RFC 4180"
LIMIT = 16 * 1024 * 1024

CASES = [
    Case("plain", b"id,text\n1,good\n2,bad\n", (GOOD, BAD)),
    # quotes
    Case(
        "quote that never closes, in the middle",
        b'id,text\n1,good\n2,"bad\n3,fine\n4,great\n',
        failure=f"record 1 of r.csv, at byte 15, {NEVER_ENDS}",
    ),
    Case(
        "quote that never closes, at the end",
        b'id,text\n1,good\n2,"bad',
        failure=f"record 1 of r.csv, at byte 15, {NEVER_ENDS}",
    ),
    Case(
        "quote that is closed by another one, rows later",
        b'id,text\n1,"good\n2,bad\n3,"fine"\n4,great\n',
        failure=f"record 0 of r.csv, at byte 8, {SWALLOWED}",
    ),
    Case(
        "one stray quote before 100,000 rows",
        b'id,text\n1,"good\n' + b"2,bad\n" * 100_000,
        failure=f"record 0 of r.csv, at byte 8, {NEVER_ENDS}",
    ),
    Case("quoted line end", b'id,text\n1,"a\nb"\n2,bad\n', ((0, "a\nb", "1"), BAD)),
    Case("quoted quotes", b'id,text\n1,"a ""good"" one"\n2,bad\n', ((0, 'a "good" one', "1"), BAD)),
    Case("quote within a field", b'id,text\n1,5" wide\n2,bad\n', ((0, '5" wide', "1"), BAD)),
    Case(
        "text after a closing quote",
        b'id,text\n1,"good" film\n2,bad\n',
        (BAD,),
        ((0, 8, "malformed_quotes"),),
    ),
    Case(
        "text after a closing quote, on the second line of a field",
        b'id,text\n1,"a\nb" film\n2,bad\n',
        failure=f"record 0 of r.csv, at byte 8, {SWALLOWED}",
    ),
    Case("backslash in a field", b"id,text\n1,a\\,good\n2,bad\n", (BAD,), ((0, 8, "field_count"),)),
    Case(
        "backslash before a quote",
        b'id,text\n1,"a \\"good\\" one"\n2,bad\n',
        (BAD,),
        ((0, 8, "malformed_quotes"),),
    ),
    Case("backslash in quotes", b'id,text\n1,"a\\b"\n2,bad\n', ((0, "a\\b", "1"), BAD)),
    Case("single quotes", b"id,text\n1,'a'\n2,bad\n", ((0, "'a'", "1"), BAD)),
    Case("doubled quotes only", b'id,text\n1,""\n2,bad\n', (BAD,), ((0, 8, "empty_text"),)),
    # line ends
    Case("CRLF", b"id,text\r\n1,good\r\n2,bad\r\n", (GOOD, BAD)),
    Case("CR", b"id,text\r1,good\r2,bad\r", (GOOD, BAD)),
    Case("mixed line ends", b"id,text\r1,good\r\n2,bad\n3,fine\r", (GOOD, BAD, (2, "fine", "3"))),
    Case("no final newline", b"id,text\n1,good\n2,bad", (GOOD, BAD)),
    Case("blank lines", b"\n\nid,text\n\n1,good\r\n\r\n\r2,bad\n\n", (GOOD, BAD)),
    Case("line of blanks", b"id,text\n1,good\n   \n2,bad\n", (GOOD, (2, "bad", "2")), ((1, 15, "field_count"),)),
    # encodings
    Case("byte order mark", b"\xef\xbb\xbfid,text\n1,good\n2,bad\n", (GOOD, BAD)),
    Case("byte order mark and quoted header", b'\xef\xbb\xbf"id","text"\n1,good\n2,bad\n', (GOOD, BAD)),
    Case("UTF-16", LATIN.encode("utf-16"), LATIN_ROWS, encoding="utf-16"),
    Case(
        "UTF-16 read as UTF-8",
        LATIN.encode("utf-16"),
        failure="r.csv begins with the byte order mark of UTF-16; expected UTF-8; pass --encoding utf-16",
    ),
    Case(
        "UTF-16 without a byte order mark, read as UTF-8",
        (LATIN * 3).encode("utf-16-le"),
        failure="r.csv is not UTF-8: 90 of 180 bytes are NUL (it looks like UTF-16-LE); expected text in utf-8; "
        "pass --encoding utf-16-le",
        is_setting_wrong=True,
    ),
    Case("Latin-1", LATIN.encode("latin-1"), LATIN_ROWS, encoding="latin-1"),
    Case(
        "Latin-1 read as UTF-8",
        LATIN.encode("latin-1") + "4,très déçu, séjour gâché à l'hôtel\n".encode("latin-1") * 20,
        failure="r.csv is not UTF-8: 22 of 22 lines with other characters than ASCII do not decode (it looks like "
        "CP1252); expected text in utf-8; pass --encoding cp1252",
        is_setting_wrong=True,
    ),
    Case("GB18030", CHINESE.encode("gb18030"), CHINESE_ROWS, encoding="gb18030"),
    Case(
        "GB18030 read as UTF-8",
        (CHINESE + "4,质量一般,物流太慢,再也不买了\n" * 20).encode("gb18030"),
        failure="r.csv is not UTF-8: 23 of 23 lines with other characters than ASCII do not decode (it looks like "
        "GB18030); expected text in utf-8; pass --encoding gb18030",
        is_setting_wrong=True,
    ),
    Case(
        "GB18030 read as UTF-8, too little for a guess",
        CHINESE.encode("gb18030"),
        failure="r.csv is not UTF-8: 3 of 3 lines with other characters than ASCII do not decode (no guess what it "
        "is); expected text in utf-8; pass --encoding NAME",
        is_setting_wrong=True,
    ),
    Case(
        "GB18030 whose second bytes are delimiters and quotes",
        'id,text\n1,"乗\u4e02|\u4e8a"\n2,bad\n'.encode("gb18030"),
        ((0, "乗\u4e02|\u4e8a", "1"), BAD),
        encoding="gb18030",
    ),
    Case("UTF-8 read as Latin-1", "id,text\n1,é\n".encode(), ((0, "Ã©", "1"),), encoding="latin-1"),
    Case(
        "bytes that do not decode, in one row",
        "id,text\n1,good\n2,caf\u00e9\n".encode() + b"3,caf\xe9\n4,bad\n",
        (GOOD, (1, "caf\u00e9", "2"), (3, "bad", "4")),
        ((2, 23, "undecodable"),),
    ),
    Case(
        "bytes that do not decode, in another column",
        b"id,text\n\xff,good\n2,bad\n",
        (BAD,),
        ((0, 8, "undecodable"),),
    ),
    Case("overlong and surrogate UTF-8", b"id,text\n1,\xc0\xaf\n2,\xed\xa0\x80\n3,bad\n4,a\n5,b\n6,c\n",
         ((2, "bad", "3"), (3, "a", "4"), (4, "b", "5"), (5, "c", "6")),
         ((0, 8, "undecodable"), (1, 13, "undecodable"))),
    Case("NUL", b"id,text\n1,a\0b\n2,bad\n", ((0, "a\0b", "1"), BAD)),
    Case("characters that look like line ends", "id,text\n1,a\x0b\x0c\x1c\x85\u2028b\n2,bad\n".encode(),
         ((0, "a\x0b\x0c\x1c\x85\u2028b", "1"), BAD)),
    # fields
    Case(
        "ragged rows",
        b"id,text\n1\n2,bad\n3,fine,5\n4,great\n,\n",
        ((1, "bad", "2"), (3, "great", "4")),
        ((0, 8, "field_count"), (2, 16, "field_count"), (4, 33, "empty_text")),
    ),
    Case("delimiter at the end of each line", b"id,text,\n1,good,\n2,bad,\n", (GOOD, BAD)),
    Case(
        "NA, null and empty",
        b'id,text\n1,NA\n2,null\n3,\n4,""\n5,   \n6,None\n7,\xc2\xa0\n',
        ((0, "NA", "1"), (1, "null", "2"), (5, "None", "6")),
        ((2, 20, "empty_text"), (3, 23, "empty_text"), (4, 28, "empty_text"), (6, 41, "empty_text")),
    ),
    Case("cells with formulas", b"id,text\n1,=cmd()\n=2+2,bad\n@x,+1\n",
         ((0, "=cmd()", "1"), (1, "bad", "=2+2"), (2, "+1", "@x"))),
    Case("longest field that is read", b"id,text\n1," + b"good " * (LIMIT // 5 - 2) + b"\n2,bad\n",
         ((0, "good " * (LIMIT // 5 - 2), "1"), BAD)),
    Case(
        "over-long line",
        b"id,text\n1," + b"a" * LIMIT + b"\n2,bad\n",
        failure="record 0 of r.csv, at byte 8, has a line of more than 16777216 bytes",
    ),
    Case(
        "over-long quoted field",
        b'id,text\n1,"' + b"good\n" * (LIMIT // 5 + 1) + b'"\n2,bad\n',
        failure="record 0 of r.csv, at byte 8, has a quoted field of more than 16777216 bytes",
    ),
    # headers
    Case("header only", b"id,text\n"),
    Case("header without a newline", b"id,text"),
    Case("empty file", b""),
    Case("nothing but blank lines", b"\n\r\n\n"),
    Case(
        "duplicate header",
        b"id,text,text\n1,good,bad\n",
        failure="column 'text' is 2 times in r.csv; one was expected; rename the others",
        is_setting_wrong=True,
    ),
    Case("duplicate header of a column that nobody wants", b"id,x,text,x\n1,,good,\n", (GOOD,)),
    Case(
        "no header",
        b"1,good\n2,bad\n",
        failure="column 'text' is not in r.csv (it has: 1, good); pass --text-column",
        is_setting_wrong=True,
    ),
    Case(
        "padded header",
        b"id, text \n1,good\n",
        failure="column 'text' is not in r.csv (it has: id, text ); did you mean --text-column ' text '?",
        is_setting_wrong=True,
    ),
    Case(
        "wrong delimiter",
        b"id;text\n1;good, but dear\n2;bad\n",
        failure="column 'text' is not in r.csv (it has: id;text); did you mean --delimiter ';'?",
        is_setting_wrong=True,
    ),
    Case(
        "wrong delimiter and quoted header",
        b'"id"\t"text"\n"1"\t"good"\n',
        failure="the header of r.csv has malformed quotes; expected fields quoted as in RFC 4180; "
        r"did you mean --delimiter '\t'?",
        is_setting_wrong=True,
    ),
    Case("semicolons", b"id;text\n1;good\n2;bad\n", (GOOD, BAD), delimiter=";"),
    Case("a TSV", b"id\ttext\n1\tgood\n2\tbad\n", (GOOD, BAD), name="r.tsv"),
    # files
    Case(
        "gzip named .csv",
        gzip.compress(b"id,text\n1,good\n"),
        failure="r.csv is gzip-compressed; expected plain CSV; rename it to r.csv.gz",
    ),
    Case("gzip", gzip.compress(b"id,text\n1,good\n2,bad\n"), (GOOD, BAD), name="r.csv.gz"),
    Case(
        "truncated gzip",
        gzip.compress(b"id,text\n" + b"".join(b"%d,good %x\n" % (i, i * i) for i in range(2000)))[:-200],
        failure="r.csv.gz cannot be read: it ends before its compressed stream does; expected a whole file",
        name="r.csv.gz",
    ),
    Case(
        "plain named .gz",
        b"id,text\n1,good\n",
        failure="r.csv.gz cannot be read: it is not gzip-compressed, or damaged",
        name="r.csv.gz",
    ),
]  # fmt: skip


def _boundaries() -> list[Case]:
    """A quoted CRLF at every offset around the ends of the blocks that a parser may read by."""
    cases = []
    for block in (4096, 8192, 65_536, 256 * 1024, 1 << 20):
        for offset in range(block - 14, block + 6):
            filler = "x" * (offset - len('id,text\r\n1,"'))
            content = f'id,text\r\n1,"{filler}\r\ny"\r\n2,bad\r\n'.encode()
            cases.append(Case(f"quoted CRLF at {offset}", content, ((0, f"{filler}\r\ny", "1"), BAD)))
    return cases


KEPT = ("id", "text=kept_text")


def _score(inline: Inline, folder: Path, case: Case) -> str:
    """Score the case's shard beside a good one; the message if it fails."""
    source = folder / "in"
    write_csv(source / "z.csv", ["good"] * 15, id=list(range(15)))
    (source / case.name).write_bytes(case.content)
    if case.delimiter is not None or case.name != "r.csv" or case.encoding.startswith("utf-16"):
        (source / "z.csv").unlink()  # it is none of those
    try:
        inline.score(
            source,
            output=folder / "out",
            keep=KEPT,
            encoding=case.encoding,
            delimiter=case.delimiter,
            max_reject_rate=1.0,
        )
    except IncompleteError as error:
        return str(error)
    return ""


def _require_expected(inline: Inline, folder: Path, case: Case) -> None:
    message, out = _score(inline, folder, case), folder / "out"
    if case.failure:
        assert f"({case.failure}" in message, case.what
        assert not (out / "r.parquet").exists()
        assert not (out / "_SUCCESS").exists()
    else:
        assert not message, case.what
        found = [(row["row_index"], row["kept_text"], row["id"]) for row in rows(out / "r.parquet")]
        assert found == list(case.rows), case.what
        rejected = rows(out / "_batchsent/rejects/r.parquet")
        assert [(r["row_index"], r["byte_offset"], r["reason"]) for r in rejected] == list(case.rejects), case.what
        assert (out / "_SUCCESS").exists()
    if (folder / "in/z.csv").exists():
        assert [row["row_index"] for row in rows(out / "z.parquet")] == list(range(15)), "the other shard goes on"


def _require_refused(inline: Inline, folder: Path, case: Case) -> None:
    """Alone, a shard that the options do not fit must not make DIR the property of these options."""
    with pytest.raises(InputError) as raised:
        inline.score(folder / "in" / case.name, output=folder / "alone", keep=KEPT)
    assert str(raised.value) == case.failure
    assert not (folder / "alone/_batchsent/config.json").exists()


@pytest.mark.in_process
@pytest.mark.fault(13, "CSV horrors")
def test_13_csv_horrors(injections: Injections, inline: Inline, tmp_path: Path) -> None:
    for index, case in enumerate(injections.of(CASES, quick=len(CASES))):
        folder = tmp_path / str(index)
        _require_expected(inline, folder, case)
        if case.is_setting_wrong:
            _require_refused(inline, folder, case)


@pytest.mark.in_process
@pytest.mark.fault(13, "quoted line end at every offset around a block's end")
def test_13_line_end_at_a_block_boundary(injections: Injections, inline: Inline, tmp_path: Path) -> None:
    for index, case in enumerate(injections.of(_boundaries(), quick=10)):
        _require_expected(inline, tmp_path / str(index), case)
