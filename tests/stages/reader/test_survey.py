"""What the columns of a shard hold, by its first records."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.errors import UsageError
from batchsent.records import Shard
from batchsent.stages.planner import split_extension
from batchsent.stages.reader.shards import InspectRequest, inspect_shard
from batchsent.stages.reader.survey import Column, Survey, SurveyRequest, survey_shard

ENGLISH = ["a very good kettle", "it broke after a week", "would buy it again"]
CHINESE = ["这个水壶非常好,我很喜欢", "电影很糟糕,再也不买了", "酒店很安静,服务员热情"]


def shard_of(folder: Path, name: str, content: bytes) -> Shard:
    (folder / name).write_bytes(content)
    extension = split_extension(name)
    assert extension is not None
    return Shard(name, str(folder / name), *extension, len(content))


def survey(shard: Shard, encoding: str | None = None, delimiter: str | None = None, count: int = 100) -> Survey:
    return survey_shard(SurveyRequest(shard, encoding, delimiter, count))


def by_name(found: Survey) -> dict[str, Column]:
    assert found.error is None
    return {column.name: column for column in found.columns}


def delimited(texts: list[str], delimiter: str = ",", count: int = 60) -> str:
    content = io.StringIO()
    writer = csv.writer(content, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["id", "review", "stars", "price"])
    writer.writerows([index, texts[index % len(texts)], index % 5 + 1, f"{index}.5"] for index in range(count))
    return content.getvalue()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}
COMPRESSORS[".xz"] = lzma.compress


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize(("extension", "delimiter"), [(".csv", ","), (".csv", ";"), (".tsv", "\t"), (".tsv", "|")])
def test_csv_and_tsv(tmp_path: Path, extension: str, delimiter: str, compression: str) -> None:
    content = COMPRESSORS[compression](delimited(ENGLISH, delimiter).encode())
    found = survey(shard_of(tmp_path, f"a{extension}{compression}", content))
    columns = by_name(found)
    assert (found.delimiter, found.encoding, found.record_count, found.sampled_count) == (delimiter, "", None, 60)
    assert [(name, column.type) for name, column in columns.items()] == [
        *[("id", "whole numbers"), ("review", "string"), ("stars", "whole numbers"), ("price", "numbers")]
    ]
    review, stars = columns["review"], columns["stars"]
    assert (review.filled_count, review.distinct_count, review.wordy_share, review.foreign_share) == (60, 3, 1, 0)
    assert review.mean_bytes == pytest.approx(sum(map(len, ENGLISH)) / 3)
    assert (stars.distinct_count, stars.wordy_share) == (5, 0)


def test_quotes_behind_another_delimiter(tmp_path: Path) -> None:
    found = survey(shard_of(tmp_path, "a.csv", b'"id";"text"\n"1";"good, very good"\n'))
    assert (found.delimiter, [column.name for column in found.columns]) == (";", ["id", "text"])


def test_one_column_stays_one(tmp_path: Path) -> None:
    for content in (b"text\ngood; very good\n", b'"text; or so"\ngood\n'):
        found = survey(shard_of(tmp_path, "a.csv", content))
        assert (found.delimiter, len(found.columns), found.error) == (",", 1, None)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("gb18030", "gb18030"), ("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16")],
)
def test_the_encoding_is_found(tmp_path: Path, encoding: str, found: str) -> None:
    survey_ = survey(shard_of(tmp_path, "a.csv", delimited(CHINESE).encode(encoding)))
    review = by_name(survey_)["review"]
    assert survey_.encoding == found
    assert (review.distinct_count, review.foreign_share) == (3, 1)
    assert review.mean_bytes == pytest.approx(sum(len(text.encode()) for text in CHINESE) / 3)


def test_an_encoding_that_cannot_be_guessed_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, "a.csv", "text\n很好\n不好\n".encode("gb18030"))
    assert "pass --encoding" in str(survey(shard).error)
    assert by_name(survey(shard, "gb18030"))["text"].filled_count == 2
    assert "is not ASCII" in str(survey(shard, "ascii").error)
    with pytest.raises(UsageError, match="--encoding 'nope' is unknown"):
        survey(shard, "nope")
    with pytest.raises(UsageError, match=r"'gb1803' is unknown; .*; did you mean 'gb18030'"):
        survey(shard, "gb1803")


def test_what_was_said_is_not_guessed(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, "a.csv", b"id;text\n1;good\n")
    assert [column.name for column in survey(shard, None, ",").columns] == ["id;text"]
    assert [column.name for column in survey(shard, None, ";").columns] == ["id", "text"]


def test_json_lines(tmp_path: Path) -> None:
    records: list[Any] = [
        {"id": index, "text": text, "price": 0.5, "ok": True, "tags": ["a"], "mixed": 1 if index else "b", "null": None}
        for index, text in enumerate(ENGLISH)
    ]
    lines = [json.dumps(record) for record in [*records, {"late": "x"}, {"\ud800": 1}]]
    found = survey(shard_of(tmp_path, "a.jsonl", "\n".join([*lines, "not json"]).encode()))
    columns = by_name(found)
    assert {name: (column.type, column.is_string) for name, column in columns.items()} == {
        "id": ("int64", False),
        "text": ("string", True),
        "price": ("double", False),
        "ok": ("bool", False),
        "tags": ("string", False),
        "mixed": ("string", False),
        "null": ("", True),
        "late": ("string", True),
    }
    assert (found.sampled_count, columns["text"].distinct_count, columns["late"].filled_count) == (6, 3, 1)


def test_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array(range(300)),
            "text": pa.array((ENGLISH * 100)[:300]).dictionary_encode(),
            "nested": pa.array([{"a": 1}] * 300),
            "when": pa.array([0] * 300, pa.timestamp("ns")),
            "stars": pa.array([1.0, 2.0, None] * 100),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=90)
    found = survey(shard_of(tmp_path, "b.parquet", (tmp_path / "a.parquet").read_bytes()))
    columns = by_name(found)
    assert (found.record_count, found.sampled_count, found.encoding, found.delimiter) == (300, 100, "", "")
    assert {name: (column.type, column.is_string) for name, column in columns.items()} == {
        "id": ("int64", False),
        "text": ("string", True),
        "nested": ("struct<a: int64>", False),
        "when": ("timestamp[ns]", False),
        "stars": ("double", False),
    }
    assert (columns["id"].distinct_count, columns["text"].distinct_count, columns["stars"].distinct_count) == (
        100,
        3,
        2,
    )
    assert (columns["stars"].filled_count, columns["when"].filled_count) == (67, 0)


def test_parquet_with_strings_that_are_not_utf8(tmp_path: Path) -> None:
    broken = pa.array([b"good film", b"\xff\xfe", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    found = survey(shard_of(tmp_path, "b.parquet", (tmp_path / "a.parquet").read_bytes()))
    assert by_name(found)["text"].filled_count == 1


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    found = survey(shard_of(tmp_path, name, b"\x00\xff\xfe\x01" * 100))
    assert found.error is not None
    assert found.error.startswith(name)
    assert found.columns == ()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_empty_file_has_no_columns(tmp_path: Path, name: str) -> None:
    assert survey(shard_of(tmp_path, name, b"")) == Survey(
        Shard(name, str(tmp_path / name), Path(name).suffix, "", 0),
        delimiter={"a.csv": ",", "a.tsv": "\t"}.get(name, ""),
    )


def test_a_header_alone(tmp_path: Path) -> None:
    found = survey(shard_of(tmp_path, "a.csv", b"id,text\n"))
    assert found.columns == (Column("id"), Column("text"))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "e.parquet")
    found = survey(shard_of(tmp_path, "f.parquet", (tmp_path / "e.parquet").read_bytes()))
    assert found.columns == (Column("text", "string"),)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_name_that_is_there_twice(tmp_path: Path, name: str) -> None:
    if name == "a.csv":
        shard = shard_of(tmp_path, name, b"text,text,id\ngood,bad,1\n")
    else:
        columns = [pa.array(["good"]), pa.array(["bad"]), pa.array([1])]
        pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "id"]), tmp_path / "t.parquet")
        shard = shard_of(tmp_path, name, (tmp_path / "t.parquet").read_bytes())
    found = survey(shard)
    assert found.error is None
    assert [(column.name, column.filled_count) for column in found.columns] == [("text", 0), ("text", 0), ("id", 1)]


NAMES = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=5, unique=True).filter(
    lambda names: not names[0].startswith("\ufeff")
)


@given(NAMES)
def test_names_are_those_that_score_finds(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([names, ["a text of words"] * len(names)])
    lines = json.dumps(dict.fromkeys(names, "a text of words"))
    pq.write_table(pa.table({name: ["a text of words"] for name in names}), folder / "p.parquet")
    for shard in (
        shard_of(folder, "a.csv", content.getvalue().encode()),
        shard_of(folder, "a.jsonl", lines.encode()),
        shard_of(folder, "a.parquet", (folder / "p.parquet").read_bytes()),
    ):
        found = survey(shard)
        assert found.error is None
        assert [column.name for column in found.columns] == names
        for name in names:
            assert inspect_shard(InspectRequest(shard, name, tuple(names), "utf-8", None)).error is None
