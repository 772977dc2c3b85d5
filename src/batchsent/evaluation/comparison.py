"""Whether one model is better than another on the same rows: McNemar's test, exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchsent.evaluation.outcomes import Flags


@dataclass(frozen=True)
class Comparison:
    """Two models, row by row. Rows on which both are right, or both wrong, say nothing about which is better."""

    first: str
    second: str
    first_only: int
    """Rows on which the first is right and the second is wrong."""
    second_only: int
    p_value: float
    """How often such a difference, or a larger one, would come by chance if both were equally good."""


def compare(first: str, first_right: Flags, second: str, second_right: Flags) -> Comparison:
    """``first_right`` and ``second_right``: [rows], the same ones in the same order."""
    from scipy.stats import binomtest

    first_only = int(np.count_nonzero(first_right & ~second_right))
    second_only = int(np.count_nonzero(second_right & ~first_right))
    differing = first_only + second_only
    p_value = float(binomtest(first_only, differing, 0.5).pvalue) if differing else 1.0
    return Comparison(first, second, first_only, second_only, p_value)
