"""The metrics are scikit-learn's, and what the data does not define is said, not made up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from batchsent.evaluation.metrics import BIN_COUNT, Metrics, calibration_error, measure, reliability
from batchsent.evaluation.outcomes import Outcomes

from .conftest import outcomes_of


def measured(truth: Any, probabilities: Any, **options: Any) -> Metrics:
    return measure(outcomes_of(truth, probabilities, **options), resample_count=20)


def random_outcomes(row_count: int, label_count: int) -> Outcomes:
    chooser = np.random.default_rng(label_count)
    probabilities = chooser.dirichlet(np.ones(label_count), row_count)
    return outcomes_of([chooser.choice(label_count, p=row) for row in probabilities], probabilities)


def test_by_hand() -> None:
    found = measured([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert found.row_count == 4
    assert found.accuracy == 0.75
    assert found.confusion == ((1, 1), (0, 2))
    negative, positive = found.labels
    assert (negative.precision, negative.recall, negative.row_count, negative.predicted_count) == (1.0, 0.5, 2, 1)
    assert positive.precision == pytest.approx(2 / 3)
    assert positive.recall == 1.0
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.micro_f1 == 0.75
    assert found.log_loss == pytest.approx(-sum(map(math.log, (0.9, 0.4, 0.8, 0.7))) / 4)
    assert found.brier == pytest.approx((0.01 + 0.36 + 0.04 + 0.09) / 4)
    assert found.roc_auc == 1.0
    assert found.calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


@pytest.mark.parametrize("label_count", [2, 3, 7, 30])
def test_against_scikit_learn(label_count: int) -> None:
    outcomes = random_outcomes(400, label_count)
    found = measure(outcomes, resample_count=20)
    truth, probabilities = outcomes.truth, outcomes.probabilities
    answers = probabilities.argmax(axis=1)
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(truth, answers, average="macro", zero_division=0))
    area = (
        sklearn_metrics.roc_auc_score(truth, probabilities[:, 1])
        if label_count == 2
        else sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr")
    )
    assert found.roc_auc == pytest.approx(area)
    one_hot = np.eye(label_count)[truth]
    scale = 0.5 if label_count == 2 else 1.0
    assert found.brier == pytest.approx(scale * ((one_hot - probabilities) ** 2).sum(axis=1).mean())
    assert found.log_loss == pytest.approx(-np.log(probabilities[np.arange(len(truth)), truth]).mean())
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, sklearn_metrics.confusion_matrix(truth, answers))


def test_one_class_in_the_data_leaves_what_it_can() -> None:
    found = measured([1, 1, 1], [[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    assert (found.roc_auc, found.roc_auc_obstacle) == (None, "B is true of every row")
    assert found.accuracy == pytest.approx(2 / 3)
    assert (found.labels[0].recall, found.labels[0].precision) == (None, 0.0)
    assert (found.labels[0].roc_auc, found.labels[1].roc_auc) == (None, None)
    assert math.isfinite(found.log_loss)


def test_a_label_that_never_occurs_does_not_count_for_the_mean() -> None:
    found = measured([0, 1, 0, 1], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2], [0.1, 0.6, 0.3]])
    assert (found.macro_f1, found.roc_auc) == (1.0, 1.0)
    assert (found.labels[2].precision, found.labels[2].recall, found.labels[2].f1) == (None, None, None)
    assert found.confusion == ((2, 0, 0), (0, 2, 0), (0, 0, 0))


@pytest.mark.parametrize(("truth", "right"), [(0, 1.0), (1, 0.0)])
def test_a_single_row(truth: int, right: float) -> None:
    found = measured([truth], [[0.75, 0.25]])
    assert (found.accuracy, found.accuracy_interval, found.macro_f1_interval) == (right, None, None)


def test_probabilities_of_0_and_1_are_finite() -> None:
    found = measured([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert 10 < found.log_loss < 100
    assert found.brier == 0.5


def test_several_labels_a_text() -> None:
    truth = [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0]]
    probabilities = [[0.9, 0.2, 0.6], [0.1, 0.4, 0.2], [0.7, 0.8, 0.1], [0.5, 0.3, 0.1]]
    found = measured(truth, probabilities, multi_label=True)
    assert found.accuracy == 0.5
    assert found.confusion is None
    answers = (np.array(probabilities) >= 0.5).astype(int)
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(truth, answers, average="macro", zero_division=0))
    assert found.micro_f1 == pytest.approx(sklearn_metrics.f1_score(truth, answers, average="micro"))
    assert found.roc_auc == pytest.approx(sklearn_metrics.roc_auc_score(truth, probabilities))
    flat, shares = np.ravel(truth), np.ravel(probabilities)
    assert found.log_loss == pytest.approx(-np.log(np.where(flat == 1, shares, 1 - shares)).mean())
    assert found.brier == pytest.approx(((flat - shares) ** 2).mean())
    assert sum(one.count for one in found.bins) == 12
    nothing = measured([[0, 0]] * 3, [[0.1, 0.2]] * 3, multi_label=True)
    assert (nothing.accuracy, nothing.roc_auc) == (1.0, None)
    assert nothing.roc_auc_obstacle == "no label is true of any row"


def test_confidence_and_what_is_right() -> None:
    single = outcomes_of([0, 1], [[0.6, 0.4], [0.7, 0.3]])
    np.testing.assert_allclose(single.confidence, [0.6, 0.7])
    np.testing.assert_array_equal(single.is_right, [True, False])
    several = outcomes_of([[1, 0], [1, 1]], [[0.9, 0.8], [0.7, 0.1]], multi_label=True)
    np.testing.assert_allclose(several.confidence, [0.8, 0.9])
    np.testing.assert_array_equal(several.is_right, [False, False])


def test_bins_hold_every_decision_once() -> None:
    edges = np.array([[1 - p, p] for p in (0.5, 8 / 15, 0.6, 2 / 3, 1.0)])
    found = reliability(np.ones(5, np.int64), edges)
    assert len(found) == BIN_COUNT
    assert sum(one.count for one in found) == 5
    assert found[-1].count == 1
    for one in found:
        assert one.confidence is None or one.lower - 1e-9 <= one.confidence <= one.upper + 1e-9
    assert (found[0].accuracy, found[0].confidence, found[0].count) == (None, None, 0)


def test_the_calibration_error_of_what_is_right_as_often_as_it_says_is_small() -> None:
    chooser = np.random.default_rng(0)
    shares = chooser.uniform(0.5, 1.0, 40_000)
    probabilities = np.column_stack([1 - shares, shares])
    honest = (chooser.uniform(size=40_000) < shares).astype(np.int64)
    assert calibration_error(reliability(honest, probabilities)) < 0.01
    coin = chooser.integers(0, 2, 40_000)
    assert calibration_error(reliability(coin, probabilities)) == pytest.approx(0.25, abs=0.01)


def test_intervals_are_those_of_resampled_rows_and_always_the_same() -> None:
    outcomes = random_outcomes(150, 3)
    first, second = (measure(outcomes, resample_count=300) for _ in range(2))
    assert first == second
    chooser = np.random.default_rng(1)
    answers = outcomes.predicted
    drawn = [chooser.integers(0, 150, 150) for _ in range(600)]
    for interval, metric in (
        (first.accuracy_interval, sklearn_metrics.accuracy_score),
        (
            first.macro_f1_interval,
            lambda a, b: sklearn_metrics.f1_score(a, b, average="macro", labels=[0, 1, 2], zero_division=0),
        ),
    ):
        assert interval is not None
        values = [metric(outcomes.truth[rows], answers[rows]) for rows in drawn]
        expected = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose([interval.low, interval.high], expected, atol=0.02)
    assert first.accuracy_interval is not None
    assert first.accuracy_interval.low < first.accuracy < first.accuracy_interval.high


def test_intervals_where_every_row_is_right() -> None:
    found = measured([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    assert found.accuracy_interval is not None
    assert (found.accuracy_interval.low, found.accuracy_interval.high) == (1.0, 1.0)
