"""No word of a review is in a log line, an error, or a file of DIR, but for the columns that were to be kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import BatchsentError
from batchsent.records import ShardDigest
from batchsent.stages.encoder import Encoder
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import InspectRequest, ReadRequest
from batchsent.stages.reader.process import answers
from batchsent.storage import signature
from support import write_csv

from .conftest import Cli, content

WORD = "Zanzibarwidget"
TEXT = f"good film {WORD}"
OVER_LONG = WORD * (17 * 1024 * 1024 // len(WORD))


def write_shards(folder: Path) -> None:
    """A shard for every way in which a record can be read, or not; the word is in all of them."""
    write_csv(folder / "good.csv", [TEXT, f"bad {WORD} " * 300, "", f"{WORD}\x00"], note=[WORD] * 4)
    lines = [
        f'"{TEXT}",{WORD}', f"{TEXT},{WORD},{WORD}", WORD, f'"{WORD}"{WORD},x', f'"{WORD}""{WORD}",x', f"={WORD}(),x",
    ]  # fmt: skip
    header = b"text,note\n"
    (folder / "malformed.csv").write_bytes(header + "\n".join(lines).encode() + b"\n")
    (folder / "undecodable-row.csv").write_bytes(header + f"{WORD}\xff{WORD},x\n".encode("latin-1") + lines[0].encode())
    (folder / "never-closed.csv").write_bytes(header + f'"{WORD},{WORD}\n'.encode() * 3)
    (folder / "quotes-in-header.csv").write_bytes(f'"text"{WORD},note\n{TEXT},x\n'.encode())
    (folder / "over-long.csv").write_bytes(header + OVER_LONG.encode() + b",x\n")
    (folder / "wrong-encoding.csv").write_bytes(header + f"{TEXT} schön,x\n".encode("latin-1") * 50)
    (folder / "truncated.csv.gz").write_bytes(b"\x1f\x8b\x08\x00" + TEXT.encode())
    (folder / "wide.tsv").write_bytes(b"\xff\xfe" + TEXT.encode())
    records: list[str] = [
        json.dumps({"text": TEXT, "note": WORD}), json.dumps({"text": {WORD: WORD}}), json.dumps({"text": [WORD]}),
        json.dumps({"note": WORD}), json.dumps([WORD]), json.dumps(WORD), f'{{"text": "{WORD}', WORD,
        f'{{"text": "\\ud800 {WORD}"}}', f'{{"text": "{WORD}", "note": {"9" * 5000}}}', "[" * 100_000 + WORD,
    ]  # fmt: skip
    (folder / "records.jsonl").write_text("\n".join(records), encoding="utf-8")
    (folder / "over-long-line.jsonl").write_text(f'{{"text": "{OVER_LONG}"}}', encoding="utf-8")
    texts = pa.array([TEXT.encode(), f"{WORD}\xff".encode("latin-1"), b"  "]).cast(pa.binary())
    strings = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
    pq.write_table(pa.table({"text": strings, "note": [WORD] * 3}), folder / "undecodable.parquet")
    pq.write_table(pa.table({"text": [TEXT] * 40, "note": [WORD] * 40}), folder / "damaged.parquet", compression="none")
    data = (folder / "damaged.parquet").read_bytes()
    at = data.index(WORD.encode())
    (folder / "damaged.parquet").write_bytes(data[: at - 9] + bytes(9) + data[at:])
    (folder / "cut.parquet").write_bytes(data[:-20])


@pytest.mark.parametrize(
    ("form", "kept"), [("text", []), ("json", ["--keep", "note", "--keep", "text"])], ids=["none kept", "kept"]
)
def test_no_word_of_a_review_is_where_it_should_not_be(
    cli: Cli, tmp_path: Path, tiny_model: Path, form: str, kept: list[str]
) -> None:
    folder, out = tmp_path / "dumps", tmp_path / "out"
    folder.mkdir()
    write_shards(folder)
    run = ["score", folder, "--output", out, "--model", tiny_model, "--max-reject-rate", "1", "--log-format", form]
    run += ["--audit", "3", "--metrics-file", tmp_path / "m.prom"]

    def may_hold_it(path: Path) -> bool:
        """Checkpoints and outputs hold the kept columns."""
        below = path.relative_to(out).parts
        return bool(kept) and (below[0] != "_batchsent" or below[1] == "parts")

    for code, more in ((3, ["--debug"]), (3, ["--on-bad-row", "fail"])):
        found, said = cli(*run, *kept, *more)
        assert found == code
        assert "shard failed" in said
        assert WORD not in said
        assert list((out / "_batchsent/parts").rglob("*.parquet"))
        assert WORD not in content(out, skip=may_hold_it)
        _require_silent_report(cli, out)
    assert WORD in content(out) if kept else WORD not in content(out)
    for path in folder.iterdir():
        if path.name not in ("good.csv", "malformed.csv", "undecodable.parquet", "records.jsonl"):
            path.unlink()
    for command in (["score", *run[1:], *kept], ["status", out], ["verify", out]):
        found, said = cli(*command)
        assert (found, WORD in said) == (0, False)
    assert WORD not in (tmp_path / "m.prom").read_text(encoding="utf-8")
    assert WORD not in content(out, skip=may_hold_it)
    _require_silent_report(cli, out)


def _require_silent_report(cli: Cli, out: Path) -> None:
    page = out.parent / "page.html"
    found, said = cli("report", out, "--output", page)
    assert (found, WORD in said) == (0, False)
    assert WORD not in page.read_text(encoding="utf-8")


def test_of_a_file_without_a_header_only_the_beginning_of_its_first_record_is_shown(cli: Cli, tmp_path: Path) -> None:
    """It is taken for the names of columns, which messages name: 40 characters of each."""
    write_csv(tmp_path / "a.csv", [])
    (tmp_path / "a.csv").write_text(f"{'x' * 45} {WORD},1\n", encoding="utf-8")
    code, said = cli("score", tmp_path / "a.csv", "--output", tmp_path / "out")
    assert (code, "x" * 40 in said) == (2, True)
    assert WORD not in said


def damaged(data: bytes) -> list[bytes]:
    """A file cut everywhere and with a few bits flipped, the same ones each time."""
    chooser = random.Random(7)
    cases = [data[:length] for length in range(0, len(data), 23)]
    for _ in range(300):
        copy = bytearray(data)
        copy[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        cases.append(bytes(copy))
    return cases


def messages(path: Path) -> list[str]:
    """What the reader says of a file that it cannot read."""
    (shard,) = plan_shards((str(path),), path.parent / "out")
    found = signature(path)
    assert found is not None
    read = ReadRequest(
        shard, "unit", ShardDigest("", found), {}, text_column="text", kept=None, encoding="utf-8", delimiter=None,
        rows_per_part=20, limit=None,
    )  # fmt: skip
    said: list[str] = []
    for request in (InspectRequest(shard, "text", (), "utf-8", None), read):
        try:
            said += [getattr(answer, "error", None) or "" for answer in answers(request)]
        except BatchsentError as error:
            said.append(str(error))
        except Exception as error:  # the reader's process says no more of it than this
            said.append(type(error).__name__)
    return said


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_no_error_of_the_parquet_library_quotes_a_review(tmp_path: Path, compression: str) -> None:
    """Its footer holds texts too, as the smallest and largest of each column."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"{WORD} {index}" for index in range(60)], WORD[:4]: [WORD] * 60})
    pq.write_table(table, path, compression=compression, row_group_size=30)
    said = []
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        said += messages(path)
    assert len([message for message in said if message]) > 50
    assert not [message for message in said if WORD in message]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, UnicodeError, KeyError, pa.ArrowInvalid])
def test_an_unexpected_error_is_not_quoted(
    cli: Cli, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Wherever it comes from: a library may quote what it chokes on."""

    def choke(_encoder: Encoder, text: Any) -> Any:
        raise error(str(text.to_pylist()))

    monkeypatch.setattr(Encoder, "encode", choke)
    write_csv(tmp_path / "a.csv", [TEXT])
    code, said = cli("score", tmp_path / "a.csv", "--output", tmp_path / "out", "--model", tiny_model)
    assert (code, "this is a bug" in said) == (1, True)
    assert WORD not in said
    assert WORD not in content(tmp_path / "out")


def test_the_text_of_a_walk_is_printed_and_nowhere_else(
    cli: Cli, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = cli("models", "show", tiny_model, "--text", "good film")
    assert (code, "good film" in said or "good" in said) == (0, True)
    assert list(tmp_path.iterdir()) == []
