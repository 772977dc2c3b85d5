"""Temperature scaling (Guo et al. 2017): one number by which logits are divided, fitted to labelled rows.

Logits are known up to a constant that softmax does not see: they are the logarithms of the probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from batchsent.errors import UsageError
from batchsent.evaluation.metrics import calibration_error, reliability
from batchsent.evaluation.outcomes import Floats, Outcomes

LIMITS = (0.05, 20.0)
"""Between which a temperature is looked for. Beyond, the rows do not say which one fits."""
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
"""What stands for a probability that float32 made 0."""


@dataclass(frozen=True)
class TemperatureFit:
    """What was fitted, and what it does to the rows that it was fitted to."""

    temperature: float
    row_count: int
    log_loss_before: float
    log_loss_after: float
    calibration_error_before: float
    calibration_error_after: float


def fit_temperature(outcomes: Outcomes) -> TemperatureFit:
    """The temperature with the smallest log loss. Raises UsageError if no temperature is best."""
    from scipy.optimize import minimize_scalar
    from sklearn.metrics import log_loss

    truths, probabilities = outcomes.decisions()
    alternatives = list(range(probabilities.shape[1]))

    def loss(temperature: float) -> float:
        return float(log_loss(truths, tempered(probabilities, temperature), labels=alternatives))

    # Where all is right, the smaller the better, down to where float64 sees no difference any more.
    is_separable = bool((probabilities.argmax(axis=1) == truths).all())
    lower, upper = map(math.log, LIMITS)
    found = minimize_scalar(
        lambda x: loss(math.exp(x)), bounds=(lower, upper), method="bounded", options={"xatol": 1e-6}
    )
    if is_separable or min(found.x - lower, upper - found.x) < 0.01:
        raise UsageError(
            f"no temperature from {LIMITS[0]:g} to {LIMITS[1]:g} is best for these {len(outcomes.truth):,} rows",
            "rows of which the model gets some right and some wrong, by some margin",
            "give more labelled rows, or check the labels",
        )
    temperature = math.exp(found.x)
    after = tempered(probabilities, temperature)
    return TemperatureFit(
        temperature=temperature,
        row_count=len(outcomes.truth),
        log_loss_before=loss(1.0),
        log_loss_after=loss(temperature),
        calibration_error_before=calibration_error(reliability(truths, probabilities)),
        calibration_error_after=calibration_error(reliability(truths, after)),
    )


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """What the probabilities [rows, labels] would be if the logits had been divided by ``temperature``."""
    logits = np.log(np.maximum(probabilities, _SMALLEST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares
