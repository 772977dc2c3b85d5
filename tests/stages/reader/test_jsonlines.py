"""JSON Lines: exact rows, offsets, rejects and kinds of value."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent import schema
from batchsent.errors import ShardError
from batchsent.records import Position, Shard
from batchsent.stages.reader import jsonlines, raw_part
from batchsent.stages.reader.jsonlines import read_jsonlines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def shard_of(folder: Path, content: bytes, name: str = "reviews.jsonl") -> Shard:
    path = folder / name
    path.write_bytes(content)
    compression = path.suffix if path.suffix in COMPRESS else ""
    return Shard(name, str(path), Path(name.removesuffix(compression)).suffix, compression, len(content))


def parts_of(shard: Shard, **options: Any) -> list[RawPart]:
    defaults: dict[str, Any] = {
        "encoding": "utf-8",
        "text_column": "text",
        "kept": (),
        "rows_per_part": 1000,
        "limit": None,
        "start": Position(),
    }
    return list(read_jsonlines(shard, **(defaults | options)))


def rows_of(parts: Sequence[RawPart]) -> list[Row]:
    return [tuple(row.values())[:5] for part in parts for row in part.records.to_pylist()]


def read(folder: Path, content: bytes, **options: Any) -> list[Row]:
    return rows_of(parts_of(shard_of(folder, content), **options))


def one(folder: Path, line: bytes, **options: Any) -> tuple[str | None, str | None, str | None]:
    """Text, reason and detail of a line that stands between two others, which must not suffer."""
    content = b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n'
    before, found, after = read(folder, content, **options)
    assert before == (0, 0, "before", None, None)
    assert after == (2, 20 + len(line), "after", None, None)
    assert found[:2] == (1, 19)
    return found[2:]


def test_rows_offsets_and_kept_values(tmp_path: Path) -> None:
    content = b'{"id": 7, "text": "good", "tags": ["a"]}\n{"text": "sch\\u00f6n \\ud83c\\udfac", "id": null}\n'
    (part,) = parts_of(shard_of(tmp_path, content), kept=("tags", "id"))
    assert part.records.schema == pa.schema(
        [*schema.READ_FIELDS, pa.field("kept.tags", pa.string()), pa.field("kept.id", pa.string())]
    )
    assert [tuple(row.values()) for row in part.records.to_pylist()] == [
        (0, 0, "good", None, None, '["a"]', "7"),
        (1, 41, "schön 🎬", None, None, None, None),
    ]
    assert (part.end, part.is_last) == (Position(2, len(content)), True)
    assert part.kept_kinds == {"tags": ["other"], "id": ["int"]}


def test_lines_end_at_lf_only(tmp_path: Path) -> None:
    content = '\ufeff{"text": "a"}\r\n\r\n  \t\n{"text":\r"b\u2028\x85"}\n\n{"text": "c"}'.encode()
    assert read(tmp_path, content) == [
        (0, 3, "a", None, None),
        (1, 24, "b\u2028\x85", None, None),
        (2, 44, "c", None, None),
    ]


@pytest.mark.parametrize(("content", "end"), [(b"", 0), (b"\n\r\n \n", 5), (b"\xef\xbb\xbf", 3)])
@pytest.mark.parametrize("kept", [None, ("id",)])
def test_no_records_give_one_empty_part(tmp_path: Path, content: bytes, end: int, kept: tuple[str, ...] | None) -> None:
    (part,) = parts_of(shard_of(tmp_path, content), kept=kept)
    assert (part.records.num_rows, part.end, part.is_last) == (0, Position(0, end), True)
    assert part.records.schema.names[5:] == [f"kept.{name}" for name in kept or ()]
    assert part.kept_kinds == {name: [] for name in kept or ()}


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"text": "a"', "line is not valid JSON at character 12"),
        (b"{'text': 'a'}", "line is not valid JSON at character 1"),
        (b'{"text": "a"} {"text": "b"}', "line is not valid JSON at character 14"),
        (b'{"text": "a\tb"}', "line is not valid JSON at character 11"),
        (b'{"text": "a",}', None),
        (b"good film", "line is not valid JSON at character 0"),
        (b'["a"]', "line is a list, not an object"),
        (b'"a"', "line is a string, not an object"),
        (b"1", "line is a number, not an object"),
        (b"-1.5e3", "line is a number, not an object"),
        (b"true", "line is a boolean, not an object"),
        (b"null", "line is null, not an object"),
        (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "line holds a number of too many digits"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"}", "line is nested too deeply"),
        (b'{"text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line is nested too deeply"),
        (b"\xc2\xa0", "line is not valid JSON at character 0"),
        (b'\x00{"text": "a"}', "line is not valid JSON at character 0"),
    ],
    ids=range(17),
)
@pytest.mark.parametrize("kept", [None, ("x",)])
def test_invalid_json(tmp_path: Path, line: bytes, detail: str | None, kept: tuple[str, ...] | None) -> None:
    text, reason, found = one(tmp_path, line, kept=kept)
    assert (text, reason) == (None, "invalid_json")
    assert found == detail or (detail is None and str(found).startswith("line is not valid JSON at"))


def test_nan_costs_no_row(tmp_path: Path) -> None:
    # Not JSON, but what Python's json module writes for a missing number: the review is not to blame.
    assert one(tmp_path, b'{"text": "a", "x": NaN, "y": -Infinity}', kept=("x",)) == ("a", None, None)


def test_any_depth_is_a_row_or_a_reject(tmp_path: Path) -> None:
    # Reading and writing JSON may reach the interpreter's limit at different depths.
    for depth in range(800, 1100, 7):
        line = b'{"text": "a", "x": ' + b"[" * depth + b"]" * depth + b"}"
        assert one(tmp_path, line, kept=None) in (
            ("a", None, None),
            (None, "invalid_json", "line is nested too deeply"),
        )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"id": 1}', ("empty_text", "no key 'text'")),
        (b"{}", ("empty_text", "no key 'text'")),
        (b'{"text": null}', ("empty_text", None)),
        (b'{"text": ""}', ("empty_text", None)),
        (b'{"text": " \\n\\u3000"}', ("empty_text", None)),
        (b'{"text": 5}', ("not_a_string", "'text' is a number")),
        (b'{"text": 5.5}', ("not_a_string", "'text' is a number")),
        (b'{"text": false}', ("not_a_string", "'text' is a boolean")),
        (b'{"text": ["secret"]}', ("not_a_string", "'text' is a list")),
        (b'{"text": {"secret": 1}}', ("not_a_string", "'text' is an object")),
        (b'{"text": "a\\ud800b"}', ("undecodable", "a lone surrogate in 'text'")),
        (b'{"text": "\\udcff"}', ("undecodable", "a lone surrogate in 'text'")),
        (b'{"text": "sch\xf6n"}', ("undecodable", "byte 0xF6")),
        (b'{"text": "a", "note": "\xff"}', ("undecodable", "byte 0xFF")),
        (b'{"text": "\xed\xa0\x80"}', ("undecodable", "byte 0xED")),
    ],
)
def test_records_without_a_text(tmp_path: Path, line: bytes, found: tuple[str, str | None]) -> None:
    assert one(tmp_path, line) == (None, *found)


@pytest.mark.parametrize("text", ["NA", "null", "NaN", "0", "=cmd()", "a\0b", "a\r\nb", '{"text": 1}', " a "])
def test_what_is_text(tmp_path: Path, text: str) -> None:
    assert one(tmp_path, json.dumps({"text": text}).encode()) == (text, None, None)


def test_values_are_kept_where_only_the_text_is_missing(tmp_path: Path) -> None:
    content = b'{"id": 1, "text": ""}\n{"id": 2}\n{"id": "x", "text": 5}\n{"id": 4.5,\n{"id": 5, "text": "a"}\n'
    (part,) = parts_of(shard_of(tmp_path, content), kept=("id",))
    assert part.records["kept.id"].to_pylist() == ["1", "2", None, None, "5"]
    assert part.kept_kinds == {"id": ["int"]}


def test_kinds(tmp_path: Path) -> None:
    values = [True, 1, -(2**63), 2**63, 1.0, 1e300, "a", "ö", "\ud800", [], {"a": "\udfff"}, None]
    for value in values:
        content = json.dumps({"text": "a", "v": value}).encode()
        (part,) = parts_of(shard_of(tmp_path, content), kept=("v", "w"))
        (kept,) = part.records["kept.v"].to_pylist()
        assert (kept is None) == (value is None)
        if kept is not None:
            assert kept.isascii()
            assert json.loads(kept) == value
        surrogate = value == "\ud800"
        expected = [] if value is None else ["other"] if surrogate else [schema.json_kind(value)]
        assert part.kept_kinds == {"v": expected, "w": []}
    lines = b"".join(json.dumps({"text": "a", "v": value}).encode() + b"\n" for value in values)
    (part,) = parts_of(shard_of(tmp_path, lines), kept=("v",))
    assert part.kept_kinds == {"v": ["big int", "bool", "float", "int", "other", "string"]}


def test_keeping_all_keys_in_order_of_appearance(tmp_path: Path) -> None:
    content = (
        b'{"b": 1, "text": "x", "a": null}\n{"z": 1, "text": 5}\n{"c": "\xc3\xb6", "text": "y", "": true}\n'
        b'{"text": "z", "d": 2}\n'
    )
    first, second = parts_of(shard_of(tmp_path, content), kept=None, rows_per_part=3)
    assert first.records.schema.names[5:] == ["kept.b", "kept.text", "kept.a", "kept.c", "kept."]
    assert [tuple(row.values())[5:] for row in first.records.to_pylist()] == [
        ("1", '"x"', None, None, None),
        (None, None, None, None, None),
        (None, '"y"', None, '"\\u00f6"', "true"),
    ]
    assert first.kept_kinds == {"b": ["int"], "text": ["string"], "a": [], "c": ["string"], "": ["bool"]}
    assert second.records.schema.names[5:] == ["kept.text", "kept.d"]


def test_a_key_that_no_column_can_be_called(tmp_path: Path) -> None:
    line = b'{"text": "a", "x\\ud800": 1}'
    assert one(tmp_path, line, kept=None) == (None, "undecodable", "a lone surrogate in a key")
    assert one(tmp_path, line, kept=("id",)) == ("a", None, None)


def test_objects_used_as_maps_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "KEPT_KEYS_LIMIT", 10)
    content = b"".join(b'{"text": "a", "k%d": 1}\n' % i for i in range(10))
    with pytest.raises(ShardError, match=r"reviews.jsonl has more than 10 different keys in a part.*--keep"):
        parts_of(shard_of(tmp_path, content), kept=None)
    assert len(parts_of(shard_of(tmp_path, content), kept=None, rows_per_part=5)) == 3
    (part,) = parts_of(shard_of(tmp_path, content), kept=("k9",))
    assert part.records["kept.k9"].to_pylist() == [None] * 9 + ["1"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-be", "gb18030", "utf-8-sig"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    content = '{"text": "schön", "größe": "ü"}\n{"text": "b"}\n'
    if encoding == "gb18030":
        content = content.replace("schön", "好丂")  # 0x81 0x40
    shard = shard_of(tmp_path, content.encode(encoding))
    (part,) = parts_of(shard, encoding=encoding, kept=("größe",))
    assert part.records["text"].to_pylist() == ["好丂" if encoding == "gb18030" else "schön", "b"]
    assert part.records["kept.größe"].to_pylist() == ['"\\u00fc"', None]


def test_what_cannot_be_transcoded(tmp_path: Path) -> None:
    content = b'{"text": "\xff"}\n{"text": "\x81"}\n{"text": "a"}\n'
    assert read(tmp_path, content, encoding="gb18030") == [
        (0, 0, None, "undecodable", "bytes that are not gb18030"),
        (1, 16, None, "undecodable", "bytes that are not gb18030"),
        (2, 32, "a", None, None),
    ]


def test_a_line_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "RECORD_LIMIT_BYTES", 50)
    fits = json.dumps({"text": "x" * 37}).encode() + b"\n"
    assert len(fits) == 50
    assert read(tmp_path, fits)[0][2] == "x" * 37
    for line in (fits[:-2] + b" }\n", b"x" * 51, b" " * 51):
        with pytest.raises(
            ShardError, match=r"record 1 of reviews.jsonl, at byte 50, has a line of more than 50 bytes"
        ):
            read(tmp_path, fits + line)


def test_parts_end_at_their_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = shard_of(tmp_path, b'{"text": "a"}\n\n{"text": "b"}\nwrong\n{"text": "c"}\n')
    ends = [(part.records.num_rows, part.end, part.is_last) for part in parts_of(shard, rows_per_part=2)]
    assert ends == [(2, Position(2, 29), False), (2, Position(4, 49), False), (0, Position(4, 49), True)]
    monkeypatch.setattr(raw_part, "PART_LIMIT_BYTES", 15)
    ends = [(part.records.num_rows, part.end, part.is_last) for part in parts_of(shard)]
    assert ends == [(1, Position(1, 15), False), (2, Position(3, 35), False), (1, Position(4, 49), True)]


def test_the_limit_counts_rejected_rows_too(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, b'{}\n[]\n{"text": "c"}\n{"text": "d"}\n')
    for rows_per_part in (1, 2, 3, 4):
        parts = parts_of(shard, limit=3, rows_per_part=rows_per_part)
        assert [row[2] for row in rows_of(parts)] == [None, None, "c"]
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) == -(-3 // rows_per_part)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16", "gb18030"])
@pytest.mark.parametrize("kept", [None, ("n", "note")])
def test_resume_from_the_end_of_every_part(
    tmp_path: Path,
    compression: str,
    encoding: str,
    kept: tuple[str, ...] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(raw_part, "PART_LIMIT_BYTES", 150)
    lines = [
        '{"text": "schön", "n": 1}\r\n',
        '\n{"n": "zwei"}\n',
        '{"text": 5}\n',
        '{"text": "\\ud800"}\n \n',
        '{"note": [1], "text": "c"\n',
        '{"note": [1], "text": "und noch ein Satz"}\n',
    ]
    content = "".join(lines[i * i % 6] for i in range(60)).encode(encoding)
    shard = shard_of(tmp_path, COMPRESS[compression](content), "a.jsonl" + compression)
    options: dict[str, Any] = {"encoding": encoding, "rows_per_part": 7, "kept": kept}
    parts = parts_of(shard, **options)
    assert len(parts) > 5
    for i, part in enumerate(parts[:-1]):
        assert parts_of(shard, start=part.end, **options) == parts[i + 1 :]
    assert [row[0] for row in rows_of(parts)] == list(range(60))


@pytest.mark.parametrize("compression", [".gz", ".zst", ".bz2", ".xz"])
def test_a_truncated_file_is_never_a_shorter_one(tmp_path: Path, compression: str) -> None:
    packed = COMPRESS[compression](b"".join(b'{"text": "line %d"}\n' % (i * i) for i in range(2000)))
    for size in range(0, len(packed), max(1, len(packed) // 15)):
        with pytest.raises(ShardError, match="cannot be read"):
            parts_of(shard_of(tmp_path, packed[:size], "a.jsonl" + compression))


def test_no_content_in_errors_and_details(tmp_path: Path) -> None:
    lines = [
        b'{"text": "secret',
        b'"secret"',
        b"secret",
        b'{"text": ["secret"]}',
        b'{"text": "secret\xff"}',
        b"[secret]",
    ]
    for line in lines:
        assert "secret" not in str(one(tmp_path, line))


TEXTS = st.text(st.one_of(st.sampled_from('"\\\r\n\t\0 é🎬'), st.characters(codec="utf-8")), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(
    records=st.lists(st.fixed_dictionaries({"text": TEXTS}, optional={"a": VALUES, "ö": VALUES}), max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    escaped=st.booleans(),
)
def test_what_json_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    encoding: str,
    end: str,
    escaped: bool,
) -> None:
    content = "".join(json.dumps(record, ensure_ascii=escaped) + end for record in records)
    shard = shard_of(tmp_path_factory.getbasetemp(), content.encode(encoding))
    parts = parts_of(shard, encoding=encoding, kept=("text", "a", "ö"), rows_per_part=3)
    table = pa.concat_tables(part.records for part in parts)
    for name in ("text", "a", "ö"):
        values = [None if text is None else json.loads(text) for text in table[f"kept.{name}"].to_pylist()]
        assert values == [record.get(name) for record in records]
    assert table["text"].to_pylist() == [record["text"] if record["text"].strip() else None for record in records]
    lines = [content.encode()[offset:].split(b"\n")[0] for offset in table["byte_offset"].to_pylist()]
    assert [json.loads(line) for line in lines] == records
