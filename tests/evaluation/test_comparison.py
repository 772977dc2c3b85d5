"""McNemar's test, against binomial coefficients."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from batchsent.evaluation.comparison import compare
from batchsent.evaluation.outcomes import Flags


def right(*counts: int) -> tuple[Flags, Flags]:
    """Both right, the first only, the second only, both wrong."""
    both, first, second, neither = counts
    return (
        np.array([True] * both + [True] * first + [False] * second + [False] * neither),
        np.array([True] * both + [False] * first + [True] * second + [False] * neither),
    )


@pytest.mark.parametrize(
    ("counts", "p_value"),
    [
        # Two-sided binomial probabilities, by hand: 2 · (sum of C(n, k), k ≤ smaller) / 2^n.
        ((10, 6, 1, 3), 2 * (1 + 7) / 2**7),
        ((0, 1, 6, 0), 2 * (1 + 7) / 2**7),
        ((5, 5, 0, 0), 2 / 2**5),
        ((5, 4, 4, 5), 1.0),
        ((5, 1, 0, 5), 1.0),
        ((7, 0, 0, 2), 1.0),
        ((794, 150, 86, 570), 2 * sum(comb(236, k) for k in range(87)) / 2**236),
    ],
)
def test_known_values(counts: tuple[int, int, int, int], p_value: float) -> None:
    first, second = right(*counts)
    found = compare("a", first, "b", second)
    assert (found.first_only, found.second_only) == counts[1:3]
    assert found.p_value == pytest.approx(p_value, rel=1e-3)


def test_it_does_not_matter_which_is_named_first() -> None:
    first, second = right(3, 9, 2, 4)
    one, other = compare("a", first, "b", second), compare("b", second, "a", first)
    assert one.p_value == other.p_value
    assert (one.first_only, one.second_only) == (other.second_only, other.first_only)
