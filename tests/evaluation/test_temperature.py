"""A temperature that was put in comes out, and changes no label."""

from __future__ import annotations

import numpy as np
import pytest

from batchsent.errors import UsageError
from batchsent.evaluation.outcomes import Floats
from batchsent.evaluation.temperature import fit_temperature, tempered

from .conftest import outcomes_of


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("label_count", [2, 4])
def test_it_finds_the_temperature_of_which_the_labels_were_drawn(temperature: float, label_count: int) -> None:
    chooser = np.random.default_rng(0)
    logits = chooser.normal(0, 2, (20_000, label_count))
    truth = [chooser.choice(label_count, p=row) for row in softmax(logits / temperature)]
    fit = fit_temperature(outcomes_of(truth, softmax(logits)))
    assert fit.temperature == pytest.approx(temperature, rel=0.05)
    assert fit.row_count == 20_000
    assert fit.log_loss_after <= fit.log_loss_before
    if temperature != 1.0:
        assert fit.calibration_error_after < fit.calibration_error_before


def test_it_is_the_division_of_logits() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (100, 3))
    np.testing.assert_allclose(tempered(softmax(logits), 1.7), softmax(logits / 1.7), rtol=1e-9)


def test_labels_stay_as_they_are_also_at_the_end_of_float32() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1 - 1e-9, 1e-9], [0.5000001, 0.4999999]])
    for temperature in (0.1, 3.0, 19.0):
        found = tempered(probabilities, temperature)
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))


def test_several_labels_a_text_are_sigmoids_of_divided_logits() -> None:
    chooser = np.random.default_rng(2)
    logits = chooser.normal(0, 2, (8_000, 3))
    truth = (chooser.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits / 2.0))).astype(np.int64)
    fit = fit_temperature(outcomes_of(truth, 1 / (1 + np.exp(-logits)), multi_label=True))
    assert fit.temperature == pytest.approx(2.0, rel=0.06)


def test_rows_that_fit_no_temperature_are_refused() -> None:
    with pytest.raises(UsageError, match="no temperature from"):
        fit_temperature(outcomes_of([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
    with pytest.raises(UsageError, match="no temperature from"):
        fit_temperature(outcomes_of([0, 1], [[0.999, 0.001], [0.001, 0.999]]))
    with pytest.raises(UsageError, match="no temperature from"):
        fit_temperature(outcomes_of([1, 0, 0], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
