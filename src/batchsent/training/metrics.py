"""How good a model is on the validation texts: numbers to choose by, and counts to say where it errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

COUNTS = "counts"
"""Of what ``measure`` gives: [labels][labels], texts of a label that were taken for another; or, where a text may have
several, [labels][3]: right, wrongly given, missed."""


def choosing_metric(multi_label: bool) -> str:
    """What models are compared by."""
    return "f1_micro" if multi_label else "accuracy"


def measure(logits: npt.NDArray[Any], targets: npt.NDArray[Any], *, multi_label: bool) -> dict[str, Any]:
    """Metrics from logits [texts, labels] and indices [texts], or 0 and 1 [texts, labels]."""
    if multi_label:
        given, true = logits > 0, targets > 0.5
        counts = [(given & true).sum(axis=0), (given & ~true).sum(axis=0), (~given & true).sum(axis=0)]
        by_label = np.stack(counts, axis=1)
        right, wrong, missed = by_label.sum(axis=0)
        return {
            "accuracy": float((given == true).all(axis=1).mean()),
            "f1_micro": float(_f1(right, wrong, missed)),
            "f1_macro": float(np.mean([_f1(*row) for row in by_label])),
            COUNTS: by_label.tolist(),
        }
    label_count = logits.shape[1]
    predicted = np.nan_to_num(logits, nan=-np.inf).argmax(axis=1)
    confusion = np.zeros((label_count, label_count), np.int64)
    np.add.at(confusion, (targets.astype(np.int64), predicted), 1)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        "f1_macro": float(np.mean([_f1(*row) for row in _per_label(confusion)])),
        COUNTS: confusion.tolist(),
    }


def _f1(right: int, wrong: int, missed: int) -> float:
    return 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 0.0


def _per_label(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[labels, 3]: right, wrongly given, missed."""
    right = confusion.diagonal()
    return np.stack([right, confusion.sum(axis=0) - right, confusion.sum(axis=1) - right], axis=1)


@dataclass(frozen=True)
class LabelQuality:
    """Of one label."""

    text_count: int
    precision: float
    recall: float
    f1: float


def label_qualities(counts: list[list[int]], *, multi_label: bool) -> list[LabelQuality]:
    """Of each label, from what :func:`measure` counted."""
    table = np.array(counts)
    found = []
    for right, wrong, missed in (table if multi_label else _per_label(table)).tolist():
        precision = right / (right + wrong) if right + wrong else 0.0
        recall = right / (right + missed) if right + missed else 0.0
        found.append(LabelQuality(right + missed, precision, recall, _f1(right, wrong, missed)))
    return found
