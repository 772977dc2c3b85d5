"""What a person reads of an evaluation: aligned, on one line each, and nothing that steers the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from batchsent.evaluation.comparison import Comparison
from batchsent.evaluation.metrics import measure
from batchsent.evaluation.pictures import confusion_picture, reliability_picture
from batchsent.evaluation.report import line, report_lines
from batchsent.evaluation.results import Evaluation, ModelEvaluation, Rows, Setting, WorstError
from batchsent.evaluation.temperature import TemperatureFit
from batchsent.reporting.drawing import drawn

from .conftest import outcomes_of

SETTING = Setting(
    "m", "sha256:0", "sequence-classification", "cpu", "torch", "fp32", "padded", 128, "truncate", None, None
)


def model_of(truth: Any, probabilities: Any, *, name: str = "embedded", **options: Any) -> ModelEvaluation:
    outcomes = outcomes_of(truth, probabilities, **options)
    meanings = {str(index): label for index, label in enumerate(outcomes.labels)}
    return ModelEvaluation(
        name, SETTING, meanings, {"0": 2}, outcomes.multi_label, 12.3, 1234.5, measure(outcomes, resample_count=20), ()
    )


def evaluation_of(*models: ModelEvaluation, **changes: Any) -> Evaluation:
    rows = Rows(5, 4, 1, {"empty_text": 1}, 0, 0, {})
    return replace(Evaluation(("a.csv",), "gold", rows, models, (), None), **changes)


TWO = ([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])


def text_of(evaluation: Evaluation) -> str:
    return "\n".join(report_lines(evaluation))


def test_a_model_alone() -> None:
    text = text_of(evaluation_of(model_of(*TWO)))
    assert text.splitlines()[:2] == ["4 of 5 records judged by 'gold'", "left out: 1 rejected (1 empty_text)"]
    assert "labels: 0 → A (2), 1 → B (0)" in text
    assert "rows/s             12.3\ntokens/s           1,234\n" in text
    assert "\n\n\n" not in text
    assert "McNemar" not in text
    assert all(row == row.rstrip() for row in text.splitlines())


def test_what_was_left_out_and_why() -> None:
    rows = Rows(12, 4, 0, {}, 3, 5, {"3": 4, "other": 1})
    text = text_of(evaluation_of(model_of(*TWO), rows=rows))
    assert "left out: 3 without a label; 5 that no --map names (4 with 3, 1 with other)" in text


def test_what_is_not_defined_is_said() -> None:
    text = text_of(evaluation_of(model_of([1, 1], [[0.4, 0.6], [0.3, 0.7]])))
    assert "ROC AUC            \N{EN DASH}\n" in text
    assert "no ROC AUC: B is true of every row" in text


def test_a_comparison_in_plain_words() -> None:
    models = (model_of(*TWO), model_of(*TWO, name="flan"))
    for p_value, shown in ((0.00612, "p = 0.006"), (0.0000001, "p < 0.001"), (1.0, "p = 1.000")):
        text = text_of(evaluation_of(*models, comparisons=(Comparison("embedded", "flan", 31, 12, p_value),)))
        assert f"embedded is right where flan is wrong on 31 rows, the other way round on 12: {shown}" in text
        assert "comparisons" not in text
    three = (Comparison("a", "b", 1, 0, 1.0), Comparison("a", "c", 0, 0, 1.0))
    text = text_of(evaluation_of(*models, comparisons=three))
    assert "a is right where b is wrong on 1 row, the" in text
    assert "a and c are right on the same rows" in text
    assert "corrected for there being 2 comparisons" in text


def test_models_that_read_the_labels_differently_say_so() -> None:
    other = replace(model_of(*TWO, name="other"), meanings={"0": "bad", "1": "good"})
    text = text_of(evaluation_of(model_of(*TWO), model_of(*TWO, name="flan"), other))
    assert "labels of embedded, flan: 0 → A" in text
    assert "labels of other: 0 → bad" in text


def test_a_temperature() -> None:
    fit = TemperatureFit(1.5, 100, 0.5, 0.4, 0.1, 0.05)
    text = text_of(evaluation_of(model_of(*TWO), temperature=fit))
    rows = [row.split() for row in text.splitlines()]
    assert ["temperature", "1.5000", "as", "it", "is", "with", "it"] in rows
    assert ["log", "loss", "0.5000", "0.4000"] in rows
    assert "judge it on others" in text


def test_a_review_is_one_line_that_steers_nothing() -> None:
    review = "first\r\nsecond\t\x1b[31mred\x07 \u202eback\u2028\x00" + "x" * 500
    error = WorstError("a.csv", 7, "A", "B", 0.99, review)
    text = text_of(evaluation_of(replace(model_of(*TWO), worst=(error,))))
    last = text.splitlines()[-1]
    assert last.startswith("A      B      0.9900       a.csv:7  first second [31mred back xxx")
    assert last.endswith("…")
    assert all(character.isprintable() for character in last)
    assert line("a\n b", 10) == "a b"
    assert line("abcdef", 4) == "abc…"


def test_many_labels_have_no_matrix_on_the_terminal() -> None:
    chooser = np.random.default_rng(0)
    wide = model_of(
        chooser.integers(0, 30, 90), chooser.dirichlet(np.ones(30), 90), labels=tuple(f"L{i}" for i in range(30))
    )
    assert "true label" not in text_of(evaluation_of(wide))
    assert drawn(confusion_picture(wide), "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("form", ["svg", "png"])
def test_pictures_are_the_same_for_the_same_numbers(form: str) -> None:
    model = model_of(*TWO, labels=("$up$ and 负面", "<b>&"), name="$a$")
    for draw in (reliability_picture, confusion_picture):
        first, second = (drawn(draw(model), form) for _ in range(2))
        assert first == second
        assert len(first) > 1000


def test_a_picture_names_its_axes_and_holds_labels_as_text() -> None:
    model = model_of(*TWO, labels=("负面", "正面"), name="embedded")
    svg = drawn(confusion_picture(model), "svg").decode()
    for text in ("负面", "正面", "predicted label", "true label", "share of the rows", "75.0% of 4 rows right"):
        assert text in svg
    svg = drawn(reliability_picture(model), "svg").decode()
    for text in ("share that is right", "probability of the predicted label", ">rows<", "calibration error 0.300"):
        assert text in svg
    several = model_of([[1, 0], [0, 0]], [[0.9, 0.2], [0.6, 0.1]], multi_label=True)
    assert confusion_picture(several) is None
    assert "decisions" in drawn(reliability_picture(several), "svg").decode()
