"""How good the answers are, by scikit-learn's definitions; how far the probabilities can be trusted.

A metric that the data does not define (a precision without a prediction, a ROC AUC with one class) is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from batchsent.evaluation.outcomes import Floats, Ints, Outcomes

BIN_COUNT = 15
"""Of equal width: the ones of Guo et al. (2017)."""
RESAMPLE_COUNT = 1_000
CONFIDENCE_LEVEL = 0.95
_SEED = 0
_RESAMPLED_AT_ONCE = 2_000_000
"""Rows of all resamples that are held in memory at a time."""


@dataclass(frozen=True)
class Interval:
    """Within which a metric lies for 95 % of the resamples of the rows (percentile bootstrap)."""

    low: float
    high: float


@dataclass(frozen=True)
class LabelMetrics:
    """Of one label."""

    label: str
    row_count: int
    """Rows of which it is true."""
    predicted_count: int
    precision: float | None
    """None if it was never predicted."""
    recall: float | None
    """None if it is true of no row."""
    f1: float | None
    roc_auc: float | None
    """Of this label against the rest; None if it is true of no row, or of all."""


@dataclass(frozen=True)
class Bin:
    """The decisions whose probability lies in (lower, upper]."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    """Their mean probability; None, as the next, without any."""
    accuracy: float | None


@dataclass(frozen=True)
class Metrics:
    """Of one model on the rows that were judged."""

    row_count: int
    accuracy: float
    """Rows with the right label; where a text may have several, with exactly the right ones."""
    accuracy_interval: Interval | None
    """None, as the next, for a single row."""
    macro_f1: float
    """Mean over the labels that are true, or the answer, of some row."""
    macro_f1_interval: Interval | None
    micro_f1: float
    roc_auc: float | None
    """Mean over the labels for which there is one, each against the rest."""
    roc_auc_obstacle: str | None
    """Why there is none."""
    log_loss: float
    brier: float
    """From 0 to 1 for two labels, to 2 for more."""
    calibration_error: float
    """Expected calibration error (Naeini et al. 2015): the mean gap between probability and accuracy."""
    labels: tuple[LabelMetrics, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    """[true label][answer] → rows; None where a text may have several."""
    bins: tuple[Bin, ...]


def measure(outcomes: Outcomes, *, resample_count: int = RESAMPLE_COUNT) -> Metrics:
    """Every metric of ``outcomes``, which has at least one row."""
    from sklearn import metrics

    truth, predicted = outcomes.truth, outcomes.predicted
    truths, probabilities = outcomes.decisions()
    alternatives = list(range(probabilities.shape[1]))
    labels = _of_labels(outcomes)
    areas = [label.roc_auc for label in labels if label.roc_auc is not None]
    averaged = {"labels": outcomes.occurring or None, "zero_division": 0.0}
    accuracy_interval, macro_f1_interval = _intervals(outcomes, resample_count)
    bins = reliability(truths, probabilities)
    confusion = None
    if not outcomes.multi_label:
        matrix = metrics.confusion_matrix(truth, predicted, labels=alternatives)
        confusion = tuple(tuple(row) for row in matrix.tolist())
    return Metrics(
        row_count=len(truth),
        accuracy=float(metrics.accuracy_score(truth, predicted)),
        accuracy_interval=accuracy_interval,
        macro_f1=float(metrics.f1_score(truth, predicted, average="macro", **averaged)),
        macro_f1_interval=macro_f1_interval,
        micro_f1=float(metrics.f1_score(truth, predicted, average="micro", **averaged)),
        roc_auc=sum(areas) / len(areas) if areas else None,
        roc_auc_obstacle=None if areas else _obstacle(labels),
        log_loss=float(metrics.log_loss(truths, probabilities, labels=alternatives)),
        brier=float(metrics.brier_score_loss(truths, probabilities, labels=alternatives)),
        calibration_error=calibration_error(bins),
        labels=labels,
        confusion=confusion,
        bins=bins,
    )


def _of_labels(outcomes: Outcomes) -> tuple[LabelMetrics, ...]:
    from sklearn import metrics

    all_ids = list(range(len(outcomes.labels)))
    precisions, recalls, f1s, counts = metrics.precision_recall_fscore_support(
        outcomes.truth, outcomes.predicted, labels=all_ids, average=None, zero_division=np.nan
    )
    found = []
    for label_id, label in enumerate(outcomes.labels):
        truth, predicted, probability = outcomes.holds(label_id)
        has_both = truth.any() and not truth.all()
        found.append(
            LabelMetrics(
                label=label,
                row_count=int(counts[label_id]),
                predicted_count=int(predicted.sum()),
                precision=_or_none(precisions[label_id]),
                recall=_or_none(recalls[label_id]),
                f1=_or_none(f1s[label_id]),
                roc_auc=float(metrics.roc_auc_score(truth, probability)) if has_both else None,
            )
        )
    return tuple(found)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _obstacle(labels: tuple[LabelMetrics, ...]) -> str:
    true = [label.label for label in labels if label.row_count]
    return f"{' and '.join(true)} is true of every row" if true else "no label is true of any row"


def _intervals(outcomes: Outcomes, resample_count: int) -> tuple[Interval | None, Interval | None]:
    """Of the accuracy and the macro F1."""
    from scipy.stats import bootstrap
    from sklearn import metrics

    row_count = len(outcomes.truth)
    if row_count < 2:
        return None, None
    # Both depend only on how often each pair of truth and answer occurs, so a resample is a weight for each of them.
    width = outcomes.truth.reshape(row_count, -1).shape[1]
    pairs = np.column_stack([outcomes.truth, outcomes.predicted])
    distinct, pair_of_row = np.unique(pairs, axis=0, return_inverse=True)
    truth, predicted = distinct[:, :width], distinct[:, width:]
    if not outcomes.multi_label:
        truth, predicted = truth[:, 0], predicted[:, 0]
    occurring = outcomes.occurring or None

    def both(drawn: Ints) -> tuple[float, float]:
        weights = np.bincount(drawn.astype(np.int64), minlength=len(distinct))
        return (
            metrics.accuracy_score(truth, predicted, sample_weight=weights),
            metrics.f1_score(
                truth, predicted, labels=occurring, average="macro", sample_weight=weights, zero_division=0.0
            ),
        )

    found = bootstrap(
        (pair_of_row.ravel(),),
        both,
        n_resamples=resample_count,
        batch=max(1, _RESAMPLED_AT_ONCE // row_count),
        vectorized=False,
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    accuracy, macro_f1 = (Interval(float(low), float(high)) for low, high in zip(found.low, found.high, strict=True))
    return accuracy, macro_f1


def reliability(truths: Ints, probabilities: Floats) -> tuple[Bin, ...]:
    """How often decisions are right, by how probable the model says that they are.

    ``truths`` [decisions] are indices into the alternatives of ``probabilities`` [decisions, alternatives].
    """
    confidences, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truths
    bin_of = np.clip(np.ceil(confidences * BIN_COUNT).astype(np.int64) - 1, 0, BIN_COUNT - 1)
    counts = np.bincount(bin_of, minlength=BIN_COUNT)
    sums = np.bincount(bin_of, weights=confidences, minlength=BIN_COUNT)
    rights = np.bincount(bin_of, weights=is_right, minlength=BIN_COUNT)
    return tuple(
        Bin(
            lower=index / BIN_COUNT,
            upper=(index + 1) / BIN_COUNT,
            count=count,
            confidence=float(sums[index]) / count if count else None,
            accuracy=float(rights[index]) / count if count else None,
        )
        for index, count in enumerate(counts.tolist())
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """The mean gap between probability and accuracy, over the decisions in ``bins``."""
    total = sum(found.count for found in bins)
    gaps = (
        found.count * abs(found.accuracy - found.confidence)
        for found in bins
        if found.accuracy is not None and found.confidence is not None
    )
    return sum(gaps) / total
