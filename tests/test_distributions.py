"""Bins that never change: where each value falls, and that none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.distributions import CONFIDENCE_EDGES, LENGTH_EDGES, histogram


@pytest.mark.parametrize("edges", [CONFIDENCE_EDGES, LENGTH_EDGES])
def test_edges_rise(edges: tuple[float, ...]) -> None:
    assert list(edges) == sorted(set(edges))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (0.1, 0), (0.100001, 1), (0.5, 4), (0.500001, 5), (0.999, 17), (0.9990001, 18), (1.0, 18)],
)
def test_a_bin_holds_its_upper_edge(value: float, expected: int) -> None:
    counts = histogram(np.array([value]), CONFIDENCE_EDGES)
    assert counts.tolist() == [int(index == expected) for index in range(len(CONFIDENCE_EDGES) + 1)]


def test_a_model_of_512_tokens_has_its_truncated_texts_in_one_bin_with_the_longest_others() -> None:
    counts = histogram(np.array([384, 385, 512, 513], np.int32), LENGTH_EDGES)
    assert counts[LENGTH_EDGES.index(512)] == 2


@given(st.lists(st.floats(0, 1, width=32)))
def test_no_value_is_lost(values: list[float]) -> None:
    counts = histogram(np.array(values, np.float32), CONFIDENCE_EDGES)
    assert counts.shape == (len(CONFIDENCE_EDGES) + 1,)
    assert counts.sum() == len(values)


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_lengths_are_where_a_plain_loop_puts_them(values: list[int]) -> None:
    expected = [0] * (len(LENGTH_EDGES) + 1)
    for value in values:
        expected[sum(value > edge for edge in LENGTH_EDGES)] += 1
    assert histogram(np.array(values, np.int32), LENGTH_EDGES).tolist() == expected
