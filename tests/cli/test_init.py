"""``batchsent init``: the job file that it writes is one that ``score`` runs as it is."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import rows

from .conftest import Run, is_one_error

ENGLISH = ["a very good kettle, works", "it broke after a week", "would buy it again; never return"]
CHINESE = ["这个水壶非常好,我很喜欢", "电影很糟糕,再也不买了", "酒店很安静,服务员热情"]

CHEAP = ["--precision", "fp32", "--backend", "torch"]

Scored = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scored(run: Run, tiny_model: Path) -> Scored:
    """init, then score by its file as it is (with a small model); returns what the file says."""

    def call(*inputs: str) -> dict[str, Any]:
        code, out, err = run("init", *inputs, "--output", "job.toml")
        assert (code, err) == (0, "")
        assert "next  batchsent score --config job.toml" in out
        code, _, err = run("score", "--config", "job.toml", "--model", str(tiny_model), "--progress=none", *CHEAP)
        assert code == 0, err  # of Chinese the small model knows nothing, and a line says so
        return tomllib.loads(Path("job.toml").read_text(encoding="utf-8"))

    return call


def delimited(header: list[str], records: list[list[Any]], delimiter: str = ",") -> str:
    content = io.StringIO()
    writer = csv.writer(content, delimiter=delimiter, lineterminator="\n")
    writer.writerows([header, *records])
    return content.getvalue()


def records(texts: list[str], count: int = 30) -> list[list[Any]]:
    return [[f"r{index}", index % 5 + 1, texts[index % len(texts)]] for index in range(count)]


def test_csv(here: Path, scored: Scored) -> None:
    (here / "r.csv").write_text(delimited(["id", "stars", "review"], records(ENGLISH)), encoding="utf-8")
    assert scored("r.csv") == {
        "input": ["r.csv"],
        "output": "scored",
        "text-column": "review",
        "keep": ["id", "stars"],
    }
    found = rows(here / "scored/r.parquet")
    assert len(found) == 30
    assert (found[0]["id"], found[0]["stars"]) == ("r0", "1")


@pytest.mark.parametrize(("name", "delimiter"), [("r.tsv", "\t"), ("r.tsv", "|"), ("r.csv", ";"), ("r.csv.gz", "\t")])
def test_another_delimiter(here: Path, scored: Scored, name: str, delimiter: str) -> None:
    content = delimited(["id", "stars", "body"], records(ENGLISH), delimiter).encode()
    (here / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    said = scored(name)
    assert said.get("delimiter") == (None if (name, delimiter) == ("r.tsv", "\t") else delimiter)
    assert len(rows(here / "scored/r.parquet")) == 30


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_another_encoding(here: Path, scored: Scored, encoding: str) -> None:
    content = delimited(["编号", "评分", "评论"], records(CHINESE))
    (here / "r.csv").write_bytes(content.encode(encoding))
    said = scored("r.csv")
    assert said == {
        "input": ["r.csv"],
        "output": "scored",
        "text-column": "评论",
        "encoding": encoding,
        "keep": ["编号", "评分"],
    }
    assert "reads English only" in (here / "job.toml").read_text(encoding="utf-8")


def test_json_lines(here: Path, scored: Scored) -> None:
    lines = [json.dumps({"ID": i, "content": text, "stars": s}) for i, s, text in records(ENGLISH)]
    (here / "r.ndjson.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert scored("r.ndjson.gz")["keep"] == ["ID", "stars"]
    assert rows(here / "scored/r.parquet")[0]["stars"] == 1


def test_parquet(here: Path, scored: Scored) -> None:
    table = {"key": list(range(30)), "label": ["good", "bad"] * 15, "comment": ENGLISH * 10, "meta": [{"a": 1}] * 30}
    pq.write_table(pa.table(table), here / "r.parquet")
    said = scored("r.parquet")
    assert (said["text-column"], said["keep"]) == ("comment", ["key", "label=input_label"])
    text = (here / "job.toml").read_text(encoding="utf-8")
    assert "; 30 rows." in text
    assert '\n# label-column = "label"' in text
    assert rows(here / "scored/r.parquet")[0]["input_label"] == "good"


def test_the_label_column_can_be_uncommented(here: Path, run: Run, scored: Scored) -> None:
    (here / "r.csv").write_text(delimited(["id", "label", "text"], records(ENGLISH)), encoding="utf-8")
    scored("r.csv")
    text = (here / "job.toml").read_text(encoding="utf-8").replace('# label-column = "label"', 'label-column = "label"')
    (here / "job.toml").write_text(text, encoding="utf-8")
    code, _, err = run("score", "--config", "job.toml", "--output", "o", "--progress=none", *CHEAP)
    assert (code, err) == (0, "")


def test_files_with_different_columns(here: Path, scored: Scored) -> None:
    (here / "in/b").mkdir(parents=True)
    (here / "in/a.csv").write_text(delimited(["id", "stars", "text"], records(ENGLISH)), encoding="utf-8")
    (here / "in/b/b.csv").write_text(
        delimited(["text", "id", "title"], [[r[2], r[0], "Fine"] for r in records(ENGLISH)]), encoding="utf-8"
    )
    (here / "in/c.jsonl").write_text('{"text": "a good film"}\n', encoding="utf-8")
    assert scored("in") == {"input": ["in"], "output": "scored", "text-column": "text", "keep": ["id"]}
    assert "in 1 of 3 files" in (here / "job.toml").read_text(encoding="utf-8")
    assert len(rows(here / "scored/b/b.parquet")) == 30


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("say \"what's\" 'good'", "csv"),
        ("two\nlines", "csv"),
        ("\x7f\x01\ttab", "csv"),
        ("what.is.it", "parquet"),
        ("评论 内容 😀", "parquet"),
        ("C:\\text", "parquet"),
        ("a=b", "jsonl"),
        (" --text ", "jsonl"),
        ("#[{text}]", "jsonl"),
    ],
)
def test_odd_names_of_columns(here: Path, scored: Scored, name: str, format_: str) -> None:
    id_name = f"{name}_id" if "=" not in name else "id"
    if format_ == "csv":
        (here / "r.csv").write_text(
            delimited([id_name, name], [[i, text] for i, _, text in records(ENGLISH)]), encoding="utf-8", newline=""
        )
    elif format_ == "parquet":
        pq.write_table(pa.table({id_name: list(range(30)), name: ENGLISH * 10}), here / "r.parquet")
    else:
        lines = [json.dumps({id_name: i, name: text}) for i, _, text in records(ENGLISH)]
        (here / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    said = scored(f"r.{format_}")
    assert said["text-column"] == name
    assert len(rows(here / "scored/r.parquet")) == 30


def test_it_is_printed_where_no_file_is_named(here: Path, run: Run) -> None:
    (here / "r.csv").write_text("id,评论\n1,good\n", encoding="utf-8")
    code, out, err = run("init", "r.csv")
    assert (code, err) == (0, "")
    assert tomllib.loads(out)["text-column"] == "评论"
    assert [path.name for path in here.iterdir()] == ["r.csv"]


def test_no_review_is_quoted(here: Path, run: Run) -> None:
    (here / "r.csv").write_text(
        delimited(["id", "label", "text"], [[f"SECRET{i}", f"SECRET{i % 2}", "SECRET review"] for i in range(9)]),
        encoding="utf-8",
    )
    (here / "s.jsonl").write_text('{"text": "SECRET", "id": "SECRET"}\nSECRET\n', encoding="utf-8")
    (here / "t.csv").write_text('text\n"SECRET" x\n"SECRET\n', encoding="utf-8")
    code, out, err = run("init", ".")
    assert (code, err) == (0, "")
    assert "SECRET" not in out


def test_an_existing_file_is_replaced_only_if_told(here: Path, run: Run) -> None:
    (here / "r.csv").write_text("id,text\n1,good\n", encoding="utf-8")
    (here / "job.toml").write_text("mine", encoding="utf-8")
    code, out, err = run("init", "r.csv", "--output", "job.toml")
    assert (code, out) == (2, "")
    assert is_one_error(err)
    assert "job.toml is there already; expected a name that is free; choose another --output, or pass --replace" in err
    assert (here / "job.toml").read_text(encoding="utf-8") == "mine"
    assert run("init", "r.csv", "--output", "job.toml", "--replace")[0] == 0
    assert "text-column" in (here / "job.toml").read_text(encoding="utf-8")
    assert sorted(path.name for path in here.iterdir()) == ["job.toml", "r.csv"]


def test_the_folder_of_the_file_is_made(here: Path, run: Run) -> None:
    (here / "r.csv").write_text("id,text\n1,good\n", encoding="utf-8")
    assert run("init", "r.csv", "--output", "jobs/nightly/job.toml")[0] == 0
    assert (here / "jobs/nightly/job.toml").exists()


def test_another_runs_output_is_left_alone(here: Path, run: Run) -> None:
    (here / "r.csv").write_text("id,text\n1,good\n", encoding="utf-8")
    (here / "scored").mkdir()
    assert tomllib.loads(run("init", "r.csv")[1])["output"] == "scored-2"


@pytest.mark.parametrize(
    ("files", "arguments", "says"),
    [
        ({}, [], "no INPUT was given"),
        ({}, ["none.csv"], "none.csv does not exist"),
        ({"r.csv": b"id,stars\n1,5\n"}, ["r.csv"], "no column of r.csv looks like text (it has: id, stars); expected"),
        ({"r.csv": b""}, ["r.csv"], "no column of r.csv looks like text (it has: nothing)"),
        ({"r.csv": b"17,A very good kettle for tea\n18,It broke after a week\n"}, ["r.csv"], "looks like a record"),
        ({"r.csv": "text\n很好\n不好\n".encode("gb18030")}, ["r.csv"], "pass --encoding NAME"),
        ({"r.parquet": b"no"}, ["r.parquet"], "r.parquet is not readable as Parquet"),
        ({"a.csv": b"\x00" * 99, "b.csv": b"\x00" * 99}, ["."], "(nor can 1 others be read)"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--text-column", "txet"], "did you mean --text-column 'text'?"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--delimiter", "ab"], "--delimiter is 'ab'"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--encoding", "nope"], "--encoding 'nope' is unknown"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--output", "."], "is there already"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--output", "r.csv/job.toml"], "r.csv is a file"),
        ({"r.csv": b"id,text\n1,a\n"}, ["r.csv", "--output", "s3://b/job.toml"], "s3://"),
    ],
)
def test_what_cannot_be_is_one_line(
    here: Path, run: Run, files: dict[str, bytes], arguments: list[str], says: str
) -> None:
    for name, content in files.items():
        (here / name).write_bytes(content)
    code, out, err = run("init", *arguments)
    assert (code, out) == (2, ""), err
    assert is_one_error(err)
    assert says in err
    assert sorted(path.name for path in here.iterdir()) == sorted(files)


def test_a_column_that_was_named_is_taken(here: Path, run: Run) -> None:
    (here / "r.csv").write_text("17,A very good kettle for tea\n18,It broke after a week\n", encoding="utf-8")
    code, out, _ = run("init", "r.csv", "--text-column", "A very good kettle for tea")
    assert (code, tomllib.loads(out)["text-column"]) == (0, "A very good kettle for tea")


def test_of_ten_thousand_files_some_are_looked_at(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchsent.drafting.draft.SHARDS_SURVEYED", 3)
    for number in range(10):
        (here / f"{number}.csv").write_text(f"id,text\n{number},good\n", encoding="utf-8")
    _, out, _ = run("init", ".")
    assert "10 files (10 .csv)" in out
    assert "3 of them looked at" in out
