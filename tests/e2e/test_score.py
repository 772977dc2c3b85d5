"""The job, whole: formats, columns, rejects, and that every row is there once and right."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from batchsent.errors import IncompleteError, InputError, StoppedError, StorageError, UsageError
from batchsent.records import TokenBatch
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.schema import REJECT_SCHEMA
from batchsent.stop import StopSignal
from support import published, rows, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def one_at_a_time(model: Path, texts: list[str]) -> list[list[float]]:
    """Probabilities as the transformers library gives them, a text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    classifier: Any = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    answers = []
    with torch.inference_mode():
        for text in texts:
            logits = classifier(**tokenizer(text, truncation=True, return_tensors="pt")).logits
            answers.append(torch.softmax(logits, -1)[0].tolist())
    return answers


def test_probabilities_are_those_of_a_text_alone(
    score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path
) -> None:
    texts = [*reviews(180), "good " * 400, "x"]
    score(write_csv(tmp_path / "r.csv", texts), output=tmp_path / "out")
    scored = rows(tmp_path / "out/r.parquet")
    expected = one_at_a_time(tiny_model, texts)
    assert [row["row_index"] for row in scored] == list(range(len(texts)))
    found = [[row["probabilities"]["NEGATIVE"], row["probabilities"]["POSITIVE"]] for row in scored]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [row["label"] for row in scored] == ["NEGATIVE" if p[0] > p[1] else "POSITIVE" for p in expected]
    assert [row["probability"] for row in scored] == [max(p) for p in found]
    assert [row["truncated"] for row in scored] == [False] * 180 + [True, False]
    assert scored[180]["token_count"] == 128
    assert scored[181]["token_count"] == 3


def test_every_format_gives_the_same_rows(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    texts = reviews(120)
    source = tmp_path / "in"
    plain = write_csv(source / "csv.csv", texts, id=list(range(120))).read_bytes()
    lines = "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts)).encode()
    tsv = b"text\tid\r\n" + b"".join(f"{text}\t{i}\r\n".encode() for i, text in enumerate(texts))
    files = {
        "tsv.tsv": tsv,
        "jsonl.jsonl": lines,
        "ndjson.ndjson": lines,
        "gz.csv.gz": gzip.compress(plain),
        "bz2.csv.bz2": bz2.compress(plain),
        "xz.tsv.xz": lzma.compress(tsv),
        "zst.jsonl.zst": pa.compress(lines, codec="zstd", asbytes=True),
        "latin.csv": plain,
    }
    for name, data in files.items():
        (source / name).write_bytes(data)
    types = {"string": pa.string(), "large": pa.large_string(), "view": pa.string_view()}
    types["dictionary"] = pa.dictionary(pa.int32(), pa.string())
    for (name, data_type), group in zip(types.items(), (1, 7, 50, 1000), strict=True):
        column = pa.array(texts, pa.string()).cast(data_type)
        pq.write_table(
            pa.table({"text": column, "id": pa.array(range(120))}), source / f"{name}.parquet", row_group_size=group
        )
    report = score(source, output=tmp_path / "out")
    assert report.record_count == 120 * (len(files) + 1 + len(types))
    outputs = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(outputs) == len(files) + 1 + len(types)
    reference = rows(outputs[0])
    assert all(rows(path) == reference for path in outputs)


def test_identical_texts_are_scored_once(score: Score, tmp_path: Path) -> None:
    report = score(
        write_csv(tmp_path / "r.csv", ["good film", "bad film"] * 100), output=tmp_path / "out", rows_per_part=200
    )
    assert report.distinct_text_count == 2
    assert len({row["probability"] for row in rows(tmp_path / "out/r.parquet")}) == 2


def test_kept_columns(score: Score, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int16()),
            "text": ["good", None],
            "label": pa.array(["a", "b"]),
            "tags": pa.array([["x"], []], pa.list_(pa.string())),
            "day": pa.array([0, 1], pa.date32()),
        }
    )
    pq.write_table(table, tmp_path / "r.parquet")
    score(tmp_path / "r.parquet", output=tmp_path / "out", keep=("id", "label=label_in", "tags", "day"))
    schema = pq.read_schema(tmp_path / "out/r.parquet")
    assert schema.names[:5] == ["id", "label_in", "tags", "day", "row_index"]
    assert schema.field("id").type == pa.int16()
    assert schema.field("tags").type == table.schema.field("tags").type
    assert [(row["id"], row["label_in"], row["tags"]) for row in rows(tmp_path / "out/r.parquet")] == [(1, "a", ["x"])]


def test_keep_all_refuses_a_name_of_ours(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"], label=["x"], stars=[5])
    with pytest.raises(UsageError, match=r"pass --keep label=NEW"):
        score(path, output=tmp_path / "out", keep_all=True)
    score(path, output=tmp_path / "out", keep_all=True, keep=("label=gold",))
    assert pq.read_schema(tmp_path / "out/r.parquet").names[:3] == ["text", "gold", "stars"]


def test_json_lines_keep_their_types(score: Score, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"text": "good", "n": 1, "x": 1, "m": 1, "o": {"a": [1]}, "s": "5", "b": True}
    ] * 60
    records += [{"text": "bad", "n": 2, "x": 1.5, "m": "two", "o": None, "s": "é", "b": False, "late": 7}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    score(tmp_path / "r.jsonl", output=tmp_path / "out", keep_all=True)
    schema = pq.read_schema(tmp_path / "out/r.parquet")
    kinds = {name: str(schema.field(name).type) for name in ("n", "x", "m", "o", "s", "b", "late")}
    assert kinds == {
        "n": "int64",
        "x": "double",
        "m": "string",
        "o": "string",
        "s": "string",
        "b": "bool",
        "late": "int64",
    }
    found = rows(tmp_path / "out/r.parquet")
    assert (found[0]["m"], found[60]["m"]) == ("1", '"two"')
    assert (json.loads(found[0]["o"]), found[60]["o"]) == ({"a": [1]}, None)
    assert (found[0]["s"], found[60]["s"], found[60]["late"], found[0]["late"]) == ("5", "é", 7, None)


def test_json_integers_beyond_a_double_stay_exact(score: Score, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"text": "good", "i": 2**53 + 1, "m": 2**53 + 1},
        {"text": "bad", "i": 7, "m": 0.5},
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    score(tmp_path / "r.jsonl", output=tmp_path / "out", keep=("i", "m"))
    found = rows(tmp_path / "out/r.parquet")
    assert [row["i"] for row in found] == [2**53 + 1, 7]
    assert [row["m"] for row in found] == [str(2**53 + 1), "0.5"]


def test_every_arrow_type_can_be_kept(score: Score, tmp_path: Path) -> None:
    strings = pa.array(["a", None, "c", "d"])
    columns = {
        "text": pa.array(["good", None, "bad", "fine"]),
        "view": strings.cast(pa.string_view()),
        "binary": pa.array([b"a", b"b", None, b"d"], pa.binary_view()),
        "coded": strings.dictionary_encode(),
        "nested": pa.array([{"x": [1], "y": "a"}, None, {"x": [], "y": None}, {"x": None, "y": "d"}]),
        "none": pa.nulls(4),
        "a.b": pa.array([1, 2, 3, 4], pa.uint8()),
        "kept.x": pa.array([1, 2, 3, 4], pa.decimal128(9, 2)),
        "reason": pa.array([1, 2, 3, 4], pa.timestamp("us", "Asia/Tokyo")),
    }
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "r.parquet", row_group_size=2)
    score(tmp_path / "r.parquet", output=tmp_path / "out", keep_all=True, rows_per_part=3)
    found = rows(tmp_path / "out/r.parquet")
    expected = [row for row in table.to_pylist() if row["text"] is not None]
    assert [{name: row[name] for name in columns} for row in found] == expected


def test_two_columns_of_one_name_are_refused(score: Score, tmp_path: Path) -> None:
    table = pa.table([["good"], ["x"], ["y"]], names=["text", "b", "b"])
    pq.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(InputError, match=r"the kept column 'b' of r\.parquet has the name of another"):
        score(tmp_path / "r.parquet", output=tmp_path / "out", keep_all=True)
    lines = [{"text": "good", "a": 1}] * 150 + [{"text": "bad", "b": 2}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(IncompleteError, match="the kept column 'b' has the name of another"):
        score(tmp_path / "r.jsonl", output=tmp_path / "out2", keep=("a=b",), keep_all=True)


def test_rejects_say_where_and_why(score: Score, tmp_path: Path) -> None:
    data = b'id,text\n1,good film\n2,\n3,  \n4,a,b\n5,caf\xe9\n6,"ba"d\n7,\x00\xe2\x80\x8b\n8,fine\n'
    (tmp_path / "r.csv").write_bytes(data)
    score(tmp_path / "r.csv", output=tmp_path / "out", max_reject_rate=0.5)
    rejects = rows(tmp_path / "out/_batchsent/rejects/r.parquet")
    assert pq.read_schema(tmp_path / "out/_batchsent/rejects/r.parquet") == REJECT_SCHEMA
    assert [(r["row_index"], r["reason"]) for r in rejects] == [
        (1, "empty_text"),
        (2, "empty_text"),
        (3, "field_count"),
        (4, "undecodable"),
        (5, "malformed_quotes"),
        (6, "empty_text"),
    ]
    assert all(data[r["byte_offset"] :].startswith(str(r["row_index"] + 1).encode()) for r in rejects)
    assert not any("caf" in str(r) or "film" in str(r) for r in rejects)
    assert [row["row_index"] for row in rows(tmp_path / "out/r.parquet")] == [0, 7]


def test_too_many_bad_rows_are_not_published(score: Score, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("text,stars\n" + "good,1\n" * 60 + "bad,1,2\n" + ",1\n" * 40, encoding="utf-8")
    with pytest.raises(IncompleteError, match="1 of 101 records are bad"):
        score(path, output=tmp_path / "out", max_reject_rate=0.005)
    assert not (tmp_path / "out/_SUCCESS").exists()
    report = score(path, output=tmp_path / "out", max_reject_rate=0.01)
    assert report.state == "published"
    assert report.record_count == 0, "a gate option costs no scoring"


def test_fail_on_a_bad_row(score: Score, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("text,stars\n" + "good,1\n" * 300 + "bad,1,2\n" + ",1\n" * 300, encoding="utf-8")
    for _ in range(2):
        with pytest.raises(IncompleteError, match="bad"):
            score(path, output=tmp_path / "out", on_bad_row="fail")
    assert score(path, output=tmp_path / "out").state == "published"


def test_nothing_to_score_is_still_published(score: Score, tmp_path: Path) -> None:
    (tmp_path / "header.csv").write_text("text,id\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    report = score(
        tmp_path / "header.csv", tmp_path / "empty.jsonl", tmp_path / "none.parquet", output=tmp_path / "out"
    )
    assert report.state == "published"
    assert [len(rows(path)) for path in sorted((tmp_path / "out").glob("*.parquet"))] == [0, 0, 0]
    assert score(tmp_path / "empty.csv", output=tmp_path / "empty").state == "published"


def test_limit_takes_the_first_records_of_each_shard(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/a.csv", reviews(200))
    pq.write_table(pa.table({"text": reviews(200)}), tmp_path / "in/b.parquet")
    report = score(tmp_path / "in", output=tmp_path / "out", limit=70)
    assert report.record_count == 140
    assert rows(tmp_path / "out/a.parquet") == rows(tmp_path / "out/b.parquet")


def test_folders_are_mirrored_and_the_output_is_not_read(score: Score, tmp_path: Path) -> None:
    write_csv(tmp_path / "2026/11/a.csv", ["good"])
    write_csv(tmp_path / "2026/12/a.csv", ["bad"])
    write_csv(tmp_path / "_old/a.csv", ["bad"])
    out = tmp_path / "out"
    for _ in range(2):
        report = score(tmp_path, output=out)
        assert report.shard_count == 2
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.parquet") if "_batchsent" not in p.parts) == [
        "2026/11/a.parquet",
        "2026/12/a.parquet",
    ]


def test_a_missing_column(score: Score, tmp_path: Path) -> None:
    write_csv(tmp_path / "in/a.csv", ["good"], body=["x"])
    (tmp_path / "in/b.csv").write_text("Body\nx\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"column 'bodi' is not in a\.csv \(it has: text, body\); did you mean --text-column 'body'"
    ):
        score(tmp_path / "in", output=tmp_path / "out", text_column="bodi")
    (tmp_path / "in/c.jsonl").write_text('{"text": "good"}\n', encoding="utf-8")
    with pytest.raises(IncompleteError, match="1 of 3 shards failed"):
        score(tmp_path / "in", output=tmp_path / "out2")
    assert (
        "did you mean" not in json.loads((tmp_path / "out2/_batchsent/manifest.json").read_bytes())["failed"]["b.csv"]
    )
    (tmp_path / "in/d.parquet").unlink(missing_ok=True)
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "n.parquet")
    with pytest.raises(InputError, match="column 'text' is int64, not text"):
        score(tmp_path / "n.parquet", output=tmp_path / "out3")


def test_a_key_that_no_json_record_has(score: Score, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"body": "good"}\n{"body": "bad"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"column 'text' is not in r\.jsonl \(it has: body\)"):
        score(tmp_path / "r.jsonl", output=tmp_path / "out")


def test_an_unreadable_shard_fails_and_the_rest_goes_on(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/a.csv", reviews(60))
    pq.write_table(pa.table({"text": reviews(60)}), tmp_path / "in/b.parquet")
    whole = (tmp_path / "in/b.parquet").read_bytes()
    (tmp_path / "in/b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in/c.csv").write_text('text\ngood\n"never closed\n' + "bad\n" * 100, encoding="utf-8")
    out = tmp_path / "out"
    with pytest.raises(IncompleteError, match="2 of 3 shards failed"):
        score(tmp_path / "in", output=out)
    assert not (out / "_SUCCESS").exists()
    manifest = json.loads((out / "_batchsent/manifest.json").read_bytes())
    assert sorted(manifest["failed"]) == ["b.parquet", "c.csv"]
    assert [entry["shard"] for entry in manifest["shards"]] == ["a.csv"]
    (tmp_path / "in/b.parquet").write_bytes(whole)
    (tmp_path / "in/c.csv").unlink()
    report = score(tmp_path / "in", output=out)
    assert (report.state, report.record_count, report.kept_shard_count) == ("published", 60, 1)


def test_a_full_disk_is_noticed_before_the_work(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchsent.storage.LocalStore.free_bytes", lambda self: 10)
    with pytest.raises(StorageError, match="10 bytes free in"):
        score(write_csv(tmp_path / "r.csv", reviews(60)), output=tmp_path / "out")


def test_a_model_that_does_not_know_the_language_is_warned_of(
    score: Score, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "r.csv", ["这个 产品 很 好", "一般 般"] * 20)
    score(path, output=tmp_path / "out")
    assert any("unknown to tiny-bert" in record.getMessage() for record in caplog.records)
    caplog.clear()
    score(write_csv(tmp_path / "e.csv", ["good film"] * 20), output=tmp_path / "out2")
    assert not caplog.records or "unknown" not in caplog.text


def test_the_footer_says_what_the_file_is(score: Score, tmp_path: Path) -> None:
    score(write_csv(tmp_path / "r.csv", ["good"]), output=tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out/r.parquet").metadata
    config = json.loads((tmp_path / "out/_batchsent/config.json").read_bytes())
    manifest = json.loads((tmp_path / "out/_batchsent/manifest.json").read_bytes())
    assert metadata[b"batchsent.model"] == b"tiny-bert"
    assert metadata[b"batchsent.fingerprint"].decode() == manifest["fingerprint"]
    assert metadata[b"batchsent.input_sha256"].decode() == manifest["shards"][0]["input_sha256"]
    assert config["labels"] == ["NEGATIVE", "POSITIVE"]


def test_machine_options_never_change_a_byte(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(400))
    score(path, output=tmp_path / "one", workers=1)
    score(path, output=tmp_path / "two", workers=3, progress=None, log_format="json")
    assert published(tmp_path / "one") == published(tmp_path / "two")


class StandIn:
    """A model with faults: out of memory above a size, logits that are not finite for marked texts."""

    def __init__(self, *, memory_rows: int = 10**9, poison: int | None = None, poison_in_fp32: bool = False) -> None:
        self.memory_rows = memory_rows
        self.poison = poison
        self.poison_in_fp32 = poison_in_fp32

    in_flight = 0

    def start(self, batch: TokenBatch) -> Callable[[], Any]:
        if batch.padded(0).size > self.memory_rows:
            raise torch.OutOfMemoryError("CUDA out of memory (a stand-in)")
        return partial(self._logits, batch, self.poison)

    def full_precision_logits(self, batch: TokenBatch) -> Any:
        return self._logits(batch, self.poison if self.poison_in_fp32 else None)

    def _logits(self, batch: TokenBatch, poison: int | None) -> Any:
        sums = batch.padded(0).sum(axis=1) % 7
        logits = np.stack([sums - 3, 3 - sums], axis=1).astype(np.float32)
        if poison is not None:
            logits[(batch.padded(0) == poison).any(axis=1)] = float("nan")
        return logits


def run_with(score: Score, model: StandIn, path: Path, output: Path, **options: Any) -> RunReport:
    return score(path, output=output, load_model=lambda *_: model, **options)


def test_out_of_memory_halves_the_batch_and_changes_nothing(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(300))
    run_with(score, StandIn(), path, tmp_path / "roomy")
    report = run_with(score, StandIn(memory_rows=300), path, tmp_path / "tight")
    assert report.split_count > 5
    assert published(tmp_path / "roomy") == published(tmp_path / "tight")


def test_a_row_that_does_not_fit_is_rejected(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good film", "bad " * 100, "fine"])
    run_with(score, StandIn(memory_rows=50), path, tmp_path / "out", max_reject_rate=0.5)
    assert [(r["row_index"], r["reason"]) for r in rows(tmp_path / "out/_batchsent/rejects/r.parquet")] == [
        (1, "out_of_memory")
    ]


def test_logits_that_are_not_finite(score: Score, tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    poison: Any = AutoTokenizer.from_pretrained(tiny_model).convert_tokens_to_ids("kettle")
    texts = ["good film", "kettle broke", "fine kettle", "bad film"] * 30
    path = write_csv(tmp_path / "r.csv", texts)
    run_with(score, StandIn(), path, tmp_path / "sound")
    report = run_with(score, StandIn(poison=poison), path, tmp_path / "rerun")
    assert report.rerun_count == 2 * 3, "two distinct texts in each of three parts"
    assert published(tmp_path / "rerun") == published(tmp_path / "sound")
    run_with(score, StandIn(poison=poison, poison_in_fp32=True), path, tmp_path / "rejected", max_reject_rate=1.0)
    rejects = rows(tmp_path / "rejected/_batchsent/rejects/r.parquet")
    assert [r["row_index"] for r in rejects] == [i for i, text in enumerate(texts) if "kettle" in text]
    assert {r["reason"] for r in rejects} == {"non_finite"}


def test_a_run_that_stops_counts_the_tokens_of_what_it_has_committed(
    score: Score, tmp_path: Path, reviews: Reviews
) -> None:
    """Not those of the parts that were on their way."""
    path, stop = write_csv(tmp_path / "a.csv", reviews(1_000)), StopSignal()

    class StopAfterOne(NoProgress):
        def update(self, _report: RunReport) -> None:
            if not sent:
                sent.append(True)
                stop._handle(signal.SIGINT, None)

    sent: list[bool] = []
    with pytest.raises(StoppedError):
        score(path, output=tmp_path / "out", stop=stop, progress=StopAfterOne())
    (record,) = (tmp_path / "out/_batchsent/runs").iterdir()
    run = json.loads(record.read_bytes())
    assert 0 < run["record_count"] < 1_000
    committed = score(path, output=tmp_path / "whole", limit=run["record_count"])
    assert (run["token_count"], run["distinct_text_count"]) == (committed.token_count, committed.distinct_text_count)
