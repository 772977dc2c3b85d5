"""The plan of a small input is what a run then does; that of a large one is near it, and the same every time."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import InputError, ModelError, UsageError
from batchsent.plan import places
from batchsent.plan.results import Plan, Texts
from batchsent.reporting.run_report import RunReport
from support import WORDS, make_bert, write_csv

MakePlan = Callable[..., Plan]
Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def write_parquet(path: Path, texts: list[Any], **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, **settings)
    return path


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder, with its time and content."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def texts_of(plan: Plan) -> Texts:
    assert plan.texts is not None
    return plan.texts


def long_reviews(count: int, seed: int = 0) -> list[str]:
    """Of very different lengths, a tenth of them twice."""
    chooser = random.Random(seed)
    texts = [" ".join(chooser.choices(WORDS, k=chooser.choice([2, 8, 30, 90]))) for _ in range(count)]
    for index in range(10, count, 10):
        texts[index] = texts[index - 1]
    return texts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batching": "packed"},
        {"long_text": "window", "max_length": 24, "window_overlap": 4},
        {"max_length": 32, "batch_tokens": 128},
        {"limit": 70},
        {"keep_all": True},
    ],
    ids=str,
)
def test_of_a_small_input_everything_is_as_the_run_has_it(
    plan: MakePlan, score: Score, tmp_path: Path, reviews: Reviews, options: dict[str, Any]
) -> None:
    texts = [*long_reviews(150), "", "   ", "good film"]
    write_parquet(tmp_path / "in/a.parquet", texts, row_group_size=40)
    write_csv(tmp_path / "in/b.csv", reviews(90))
    (tmp_path / "in/c.jsonl.gz").write_bytes(gzip.compress(jsonl(reviews(60))))
    found = plan(tmp_path / "in", **options)
    report = score(tmp_path / "in", output=tmp_path / "out", **options)
    totals, planned = report.totals, texts_of(found)
    assert planned.record_count.is_exact
    assert planned.record_count.expected == totals["record_count"]
    assert planned.part_count == report.part_count
    assert list(planned.length_counts) == totals["length_counts"]
    assert planned.token_count == report.token_count
    assert planned.padding_share == pytest.approx(report.padding_share)
    assert planned.truncated_share == pytest.approx(totals["truncated_count"] / totals["row_count"])
    assert planned.rejected_share == pytest.approx(1 - totals["row_count"] / totals["record_count"])
    assert planned.duplicate_share == pytest.approx(1 - report.distinct_text_count / totals["row_count"])
    assert planned.mean_tokens == pytest.approx(totals["token_count"] / totals["row_count"])
    assert (found.shard_count, found.input_bytes) == (report.shard_count, report.input_bytes)
    assert found.sample.is_whole
    assert found.sample.length_error == 0
    assert found.seconds.low < found.seconds.expected < found.seconds.high


def test_of_a_large_input_the_rows_are_exact_and_the_texts_near(
    plan: MakePlan, score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SAMPLED_TEXTS", 1_000)
    for index in range(4):
        write_parquet(tmp_path / f"in/{index}.parquet", long_reviews(2_500, index), row_group_size=700)
    found, again = (texts_of(plan(tmp_path / "in", rows_per_part=100)) for _ in range(2))
    assert found == again, "the same texts are drawn"
    assert (found.record_count.expected, found.part_count) == (10_000, 100)
    report = score(tmp_path / "in", output=tmp_path / "out", rows_per_part=100)
    assert found.token_count == pytest.approx(report.token_count, rel=0.1)
    assert found.padding_share == pytest.approx(report.padding_share, abs=0.05)
    assert found.duplicate_share == pytest.approx(0.1, abs=0.01)
    for planned, true in zip(found.length_counts, report.totals["length_counts"], strict=True):
        assert planned == pytest.approx(true, rel=0.2, abs=150)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".csv.gz", ".jsonl.zst", ".jsonl.bz2", ".tsv.xz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_rows_of_a_text_format_are_estimated(
    plan: MakePlan, tmp_path: Path, ending: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SAMPLED_TEXTS", 1_000)
    texts = long_reviews(12_000)
    text = jsonl(texts).decode() if ".jsonl" in ending else "".join(f"{line}\n" for line in ["text", *texts])
    with pa.output_stream(str(tmp_path / f"r{ending}"), compression=None) as sink:
        sink.write(compressed(text.encode(encoding), ending))
    planned = plan(tmp_path / f"r{ending}", encoding=encoding)
    records = texts_of(planned).record_count
    assert not records.is_exact
    assert records.low < 12_000 < records.high
    assert records.expected == pytest.approx(12_000, rel=0.1)
    assert planned.sample.is_beginning == (ending != ".jsonl" or encoding == "utf-16")


def compressed(data: bytes, ending: str) -> bytes:
    import bz2
    import lzma

    match ending.rpartition(".")[2]:
        case "gz":
            return gzip.compress(data)
        case "bz2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
        case "zst":
            return bytes(pa.compress(data, codec="zstd", asbytes=True))
        case _:
            return data


def test_lines_that_grow_are_seen_in_json_lines_and_a_limit_is_kept(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SAMPLED_TEXTS", 1_000)
    growing = [" ".join(["good"] * (1 + index // 100)) for index in range(6_000)]
    (tmp_path / "r.jsonl").write_bytes(jsonl(growing))
    texts = texts_of(plan(tmp_path / "r.jsonl"))
    assert texts.mean_tokens == pytest.approx(32.5, rel=0.25)
    limited = texts_of(plan(tmp_path / "r.jsonl", limit=3_000))
    assert limited.record_count.expected == pytest.approx(3_000, rel=0.01)


def test_a_thousand_shards(plan: MakePlan, tmp_path: Path) -> None:
    texts = ["good film", "bad kettle", "very bad"]
    write_parquet(tmp_path / "in/0000.parquet", texts)
    data = (tmp_path / "in/0000.parquet").read_bytes()
    for index in range(1, 1_000):
        (tmp_path / f"in/{index:04}.parquet").write_bytes(data)
    found = plan(tmp_path / "in")
    assert (found.shard_count, texts_of(found).record_count.expected, texts_of(found).part_count) == (
        1_000,
        3_000,
        1_000,
    )
    assert found.sample.stretch_count == places.MOST_PLACES
    assert found.stage_seconds["writing"] > 0


def test_a_row_group_is_not_decoded_from_its_beginning(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SKIPPED_BYTES", 20_000)
    path = write_parquet(tmp_path / "r.parquet", long_reviews(20_000))
    drawn: list[int] = []
    nearer = places._nearer

    def seen(remainder: Any, part: int) -> int:
        drawn.append(nearer(remainder, part))
        return drawn[-1]

    monkeypatch.setattr(places, "_nearer", seen)
    assert texts_of(plan(path)).record_count.expected == 20_000
    row_bytes = path.stat().st_size / 20_000
    assert drawn
    assert all(0 <= part * 50 * row_bytes <= 20_000 for part in drawn)


# --- what is wrong


def test_a_shard_that_cannot_be_read_fails_and_the_others_are_planned(plan: MakePlan, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in/a.parquet", ["good"] * 30)
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1 nothing")
    damaged = bytearray(write_parquet(tmp_path / "in/c.parquet", long_reviews(40), use_dictionary=False).read_bytes())
    damaged[10:200] = b"\xff" * 190
    (tmp_path / "in/c.parquet").write_bytes(damaged)
    found = plan(tmp_path / "in")
    assert found.failed_shards.keys() == {"b.parquet", "c.parquet"}
    assert texts_of(found).mean_tokens == 3


def test_nothing_that_can_be_read(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    found = plan(tmp_path / "b.parquet")
    assert (found.texts, found.is_done, list(found.failed_shards)) == (None, False, ["b.parquet"])


@pytest.mark.parametrize("texts", [[], ["", " ", ""]])
def test_an_input_without_texts(plan: MakePlan, score: Score, tmp_path: Path, texts: list[str]) -> None:
    write_parquet(tmp_path / "in/a.parquet", texts)
    write_csv(tmp_path / "in/b.csv", texts)
    found = plan(tmp_path / "in")
    report = score(tmp_path / "in", output=tmp_path / "out")
    assert texts_of(found).record_count.expected == report.totals["record_count"] == 2 * len(texts)
    assert (texts_of(found).pass_count, texts_of(found).token_count) == (0, 0)
    assert texts_of(found).rejected_share == bool(texts)
    assert (texts_of(found).duplicate_share, texts_of(found).padding_share) == (0, 0)
    assert found.stage_seconds["forward"] == 0


def test_a_baseline_of_other_labels_is_refused(plan: MakePlan, score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path, model = write_csv(tmp_path / "r.csv", reviews(5)), make_bert(tmp_path / "three", labels=("A", "B", "C"))
    score(path, output=tmp_path / "out", model=str(model))
    with pytest.raises(UsageError, match="is of a model with the labels A, B, C"):
        plan(path, baseline=str(tmp_path / "out/_batchsent/manifest.json"))


def test_an_audit_that_is_still_to_be_made_is_something_to_do(
    plan: MakePlan, score: Score, tmp_path: Path, reviews: Reviews
) -> None:
    path, out = write_csv(tmp_path / "r.csv", reviews(5)), tmp_path / "out"
    score(path, output=out)
    assert plan(path, output=out).is_done
    assert not plan(path, output=out, audit=3).is_done
    score(path, output=out, audit=3)
    assert plan(path, output=out, audit=3).is_done


def test_what_score_refuses_is_refused(plan: MakePlan, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "r.csv", ["good"]), tmp_path / "out"
    with pytest.raises(InputError, match=r"column 'body' is not in r\.csv"):
        plan(path, text_column="body")
    with pytest.raises(InputError, match="does not exist"):
        plan(tmp_path / "none.csv")
    with pytest.raises(ModelError, match="not a directory"):
        plan(path, model=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="--max-length 4096"):
        plan(path, max_length=4_096)
    with pytest.raises(UsageError, match=r"r\.csv cannot be written"):
        plan(path, output=path)
    with pytest.raises(UsageError, match=r"--baseline nowhere\.json cannot be read"):
        plan(path, baseline="nowhere.json", max_drift=0.1)
    with pytest.raises(UsageError, match="none is not a directory"):
        plan(path, metrics_file=str(tmp_path / "none/m.prom"))
    out.mkdir()
    write_parquet(out / "r.parquet", ["mine"])
    with pytest.raises(UsageError, match="is not batchsent's"):
        plan(path, output=out)


def test_nothing_is_written(plan: MakePlan, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/a.csv", reviews(80))
    before = snapshot(tmp_path)
    plan(tmp_path / "in", output=tmp_path / "out/of/it")
    assert snapshot(tmp_path) == before
