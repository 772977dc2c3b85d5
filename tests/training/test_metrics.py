"""Metrics are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from batchsent.training.metrics import COUNTS, label_qualities, measure


def test_one_label_a_text() -> None:
    chooser = np.random.default_rng(0)
    logits, true = chooser.normal(size=(200, 4)), chooser.integers(0, 3, 200)
    found, predicted = measure(logits, true, multi_label=False), logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    labels = [0, 1, 2, 3]
    assert found["f1_macro"] == pytest.approx(
        f1_score(true, predicted, average="macro", labels=labels, zero_division=0)
    )
    assert found[COUNTS] == confusion_matrix(true, predicted, labels=labels).tolist()
    expected = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    for quality, *wanted in zip(label_qualities(found[COUNTS], multi_label=False), *expected, strict=True):
        assert [quality.precision, quality.recall, quality.f1, quality.text_count] == pytest.approx(wanted)


def test_several_labels_a_text() -> None:
    chooser = np.random.default_rng(0)
    logits, true = chooser.normal(size=(200, 3)), chooser.integers(0, 2, (200, 3))
    found, predicted = measure(logits, true.astype(np.float32), multi_label=True), logits > 0
    assert found["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert found["f1_micro"] == pytest.approx(f1_score(true, predicted, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    expected = precision_recall_fscore_support(true, predicted)
    for quality, *wanted in zip(label_qualities(found[COUNTS], multi_label=True), *expected, strict=True):
        assert [quality.precision, quality.recall, quality.f1, quality.text_count] == pytest.approx(wanted)


def test_logits_that_are_not_finite_are_a_bad_model_not_a_crash() -> None:
    assert measure(np.full((4, 2), np.nan), np.array([0, 0, 1, 1]), multi_label=False)["accuracy"] == 0.5
