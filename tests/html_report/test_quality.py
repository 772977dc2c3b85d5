"""Quality without holding the rows: the metrics of ``evaluate``, on whatever the label column holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import UsageError
from batchsent.evaluation.metrics import measure
from batchsent.evaluation.outcomes import Outcomes
from batchsent.html_report import quality
from batchsent.html_report.quality import Quality, measure_quality
from batchsent.html_report.sources import find
from batchsent.reporting.run_report import RunReport
from batchsent.storage import LocalStore
from html_report.conftest import CANARY, Cli, Report
from support import make_bert, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def quality_of(directory: Path, *maps: str) -> Quality | str | None:
    return measure_quality(find(LocalStore(directory)), maps, lambda: None)


def judged(directory: Path, *maps: str) -> Quality:
    found = quality_of(directory, *maps)
    assert isinstance(found, Quality), found
    return found


@pytest.mark.parametrize("labels", [("NEGATIVE", "POSITIVE"), ("A", "B", "C")])
def test_the_metrics_are_those_of_evaluate(
    score: Score, tmp_path: Path, reviews: Reviews, labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "_BATCH_ROWS", 7)
    model, chooser = make_bert(tmp_path / "model", labels=labels), np.random.default_rng(1)
    texts, gold = [*reviews(90), ""], chooser.integers(0, len(labels) + 1, 91).tolist()
    names = [*labels, ""]
    for name, part in (("a", slice(0, 60)), ("b", slice(60, 91))):
        write_csv(tmp_path / f"in/{name}.csv", texts[part], gold=[names[index] for index in gold[part]])
    score(tmp_path / "in", output=tmp_path / "out", model=str(model), label_column="gold")
    found = judged(tmp_path / "out")

    table = pl.concat([pl.read_parquet(tmp_path / f"out/{name}.parquet") for name in "ab"])
    table = table.filter(pl.col("gold") != "")
    probabilities = table["probabilities"].struct.unnest().to_numpy().astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    truth = np.array([labels.index(value) for value in table["gold"]])
    expected = measure(Outcomes(labels, False, truth, probabilities), resample_count=2)
    assert found.row_count == expected.row_count == len(table)
    assert found.left_out_count == 90 - len(table)
    for name in ("accuracy", "macro_f1", "micro_f1", "log_loss", "brier", "calibration_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert found.confusion == expected.confusion
    for label, other in zip(found.labels, expected.labels, strict=True):
        for name in ("label", "row_count", "predicted_count", "precision", "recall", "f1"):
            value = getattr(other, name)
            assert getattr(label, name) == (pytest.approx(value) if isinstance(value, float) else value), name
    assert [bin_.count for bin_ in found.bins] == [bin_.count for bin_ in expected.bins]
    for bin_, theirs in zip(found.bins, expected.bins, strict=True):
        assert bin_.accuracy == pytest.approx(theirs.accuracy)
        assert bin_.confidence == pytest.approx(theirs.confidence)


def test_several_labels_a_text(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    labels = ("A", "B", "C")
    model = make_bert(tmp_path / "model", labels=labels, problem_type="multi_label_classification")
    gold = [["A"], ["A", "B"], [], ["C"]] * 15
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "gold": value}) for text, value in zip(reviews(60), gold, strict=True)),
        encoding="utf-8",
    )
    score(tmp_path / "a.jsonl", output=tmp_path / "out", model=str(model), label_column="gold")
    found = judged(tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out/a.parquet")
    probabilities = table["probabilities"].struct.unnest().to_numpy().astype(float)
    truth = np.array([[int(label in value) for label in labels] for value in gold])
    expected = measure(Outcomes(labels, True, truth, probabilities), resample_count=2)
    assert found.confusion is None
    for name in ("row_count", "accuracy", "macro_f1", "micro_f1", "log_loss", "brier", "calibration_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


@pytest.mark.parametrize(
    ("values", "maps", "meanings"),
    [
        (["NEGATIVE", "POSITIVE"], (), {}),
        ([" negative", "Positive"], (), {"negative": "NEGATIVE", "Positive": "POSITIVE"}),
        ([0, 1], (), {"0": "NEGATIVE", "1": "POSITIVE"}),
        ([False, True], (), {"false": "NEGATIVE", "true": "POSITIVE"}),
        ([1.0, 4.0], ("1=NEGATIVE", "4,5=POSITIVE"), {"1": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE"}),
    ],
)
def test_what_labels_may_be(
    score: Score, tmp_path: Path, reviews: Reviews, values: list[Any], maps: tuple[str, ...], meanings: dict[str, str]
) -> None:
    pq.write_table(pa.table({"text": reviews(40), "gold": values * 20}), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", output=tmp_path / "out", label_column="gold")
    found = judged(tmp_path / "out", *maps)
    assert found.meanings == meanings
    assert found.row_count == 40
    assert [label.row_count for label in found.labels] == [20, 20]


@pytest.mark.parametrize("kind", ["dictionary", "string_view", "large_string"])
def test_types_of_the_label_column(score: Score, tmp_path: Path, reviews: Reviews, kind: str) -> None:
    column: Any = pa.array([*["NEGATIVE", "POSITIVE"] * 15, *[None] * 10])
    types = {"string_view": pa.string_view(), "large_string": pa.large_string()}
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(types[kind])
    pq.write_table(pa.table({"text": reviews(40), "gold": column}), tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", output=tmp_path / "out", label_column="gold")
    found = judged(tmp_path / "out")
    assert (found.row_count, found.left_out_count) == (30, 10)


def test_a_renamed_label_column_and_a_shard_without_it(score: Score, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('{"text": "good", "gold": "POSITIVE"}\n{"text": "bad"}\n')
    (tmp_path / "in/b.jsonl").write_text('{"text": "good film"}\n')
    score(tmp_path / "in", output=tmp_path / "out", label_column="gold", keep=("gold=truth",))
    found = judged(tmp_path / "out")
    assert (found.row_count, found.left_out_count) == (1, 2)


# --- what cannot be matched


def test_stars_without_a_map_are_one_line_with_the_remedy(scored: Path, report: Report) -> None:
    text = report(scored).section("quality").text
    assert "The labels cannot be matched: column 'stars' has 1, 3, 4, 5; expected a label of embedded" in text
    assert "--map 4,5=POSITIVE" in text
    assert "an option of 'batchsent report'" in text


def test_stars_with_a_map(scored: Path, report: Report) -> None:
    page = report(scored, maps=("1,2=NEGATIVE", "4,5=POSITIVE"))
    section = page.section("quality")
    assert "NEGATIVE stands for 1, 2; POSITIVE stands for 4, 5." in section.text
    assert "are left out" in section.text
    assert 'class="matrix"' in section.source
    assert 'aria-label="Share of right answers' in section.source
    assert re_accuracy(section.text) == re_accuracy(page.text)


def re_accuracy(text: str) -> str:
    return text.split("accuracy ")[1].split(" ")[0]


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (["some title of a review that is rather long"] * 4, "has values of more than 30 characters"),
        (["", "", "", ""], "no scored row has a label in column 'gold'"),
        (["A", "B", "C", "POSITIVE"], "expected a label of tiny-bert"),
    ],
)
def test_columns_that_hold_no_labels(score: Score, tmp_path: Path, report: Report, gold: list[str], said: str) -> None:
    score(write_csv(tmp_path / "a.csv", ["good"] * 4, gold=gold), output=tmp_path / "out", label_column="gold")
    found = report(tmp_path / "out")
    assert said in found.section("quality").text
    assert "some title" not in found.source


def test_a_column_of_texts_is_not_quoted(score: Score, tmp_path: Path, report: Report) -> None:
    texts = [f"{CANARY} {index}" for index in range(4)]
    score(write_csv(tmp_path / "a.csv", texts), output=tmp_path / "out", label_column="text")
    page = report(tmp_path / "out")
    assert "is both text and label" in page.section("quality").text
    assert CANARY not in page.source


def test_very_many_values(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setattr(quality, "_VALUE_LIMIT", 30)
    source = write_csv(tmp_path / "a.csv", ["good"] * 60, gold=[f"id-{index}" for index in range(60)])
    score(source, output=tmp_path / "out", label_column="gold")
    page = report(tmp_path / "out")
    assert "column 'gold' has more than 30 different values" in page.section("quality").text
    assert "id-17" not in page.source
    assert judged(tmp_path / "out", "id-17=POSITIVE").row_count == 1


@pytest.mark.parametrize("maps", [["--map", "1=MAYBE"], ["--map", "1"]])
def test_a_map_that_does_not_fit(scored: Path, tmp_path: Path, cli: Cli, maps: list[str]) -> None:
    code, _, err = cli("report", scored, "--output", tmp_path / "page.html", *maps)
    assert code == 2
    assert "--map" in err
    assert not (tmp_path / "page.html").exists()


def test_a_map_that_names_nothing_in_the_column(scored: Path) -> None:
    assert "no scored row has a label that counts" in str(quality_of(scored, "nine=POSITIVE")).lower()


def test_a_map_where_there_is_no_label_column(score: Score, tmp_path: Path) -> None:
    score(write_csv(tmp_path / "a.csv", ["good"]), output=tmp_path / "out")
    assert quality_of(tmp_path / "out") is None
    with pytest.raises(UsageError, match="had no label column"):
        quality_of(tmp_path / "out", "1=POSITIVE")
