"""The split is random, the same for a seed, and has each label in the same proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from batchsent.errors import InputError, UsageError
from batchsent.training.labels import Target
from batchsent.training.split import limited, require_every_label, split


def test_each_label_has_the_same_share_on_both_sides() -> None:
    targets: Sequence[Target] = [0] * 80 + [1] * 20
    training, validation = split(targets, 0.1, 42)
    assert Counter(targets[i] for i in validation) == {0: 8, 1: 2}
    assert sorted(training + validation) == list(range(100))


def test_a_seed_decides_it() -> None:
    targets: Sequence[Target] = [0, 1] * 50
    assert split(targets, 0.1, 1) == split(targets, 0.1, 1) != split(targets, 0.1, 2)


def test_a_limit_keeps_the_proportion() -> None:
    targets: Sequence[Target] = [0] * 300 + [1] * 100
    assert Counter(targets[i] for i in limited(targets, 40, 0)) == {0: 30, 1: 10}
    assert limited(targets, 400, 0) == limited(targets, None, 0) == list(range(400))
    assert len(limited(targets, 399, 0)) == 399


def test_combinations_of_labels_are_split_alike_and_rare_ones_somehow() -> None:
    common: Sequence[Target] = [frozenset({0})] * 40 + [frozenset({0, 1})] * 20 + [frozenset()] * 20
    for rare in ([], [frozenset({1})], [frozenset({1}), frozenset({2}), frozenset({1, 2})]):
        _, validation = split([*common, *rare], 0.25, 0)
        counts = Counter((*common, *rare)[i] for i in validation)
        assert abs(counts[frozenset({0})] - 10) <= 1
        assert abs(counts[frozenset({0, 1})] - 5) <= 1


def test_more_combinations_than_texts_to_validate_with() -> None:
    targets: Sequence[Target] = [frozenset({i // 2}) for i in range(40)]
    training, validation = split(targets, 0.1, 0)
    assert (len(training), len(validation)) == (36, 4)


@pytest.mark.parametrize("share", [0.001, 0.9])
def test_a_side_without_texts_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="at least one text"):
        split([0, 1], share, 0)


def test_a_label_that_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="of 1 text with the label B there is none to validate with"):
        require_every_label(("A", "B"), [0, 0, 1], [0])
    with pytest.raises(InputError, match="of 2 texts with the label B there is none to train on"):
        require_every_label(("A", "B"), [frozenset({0})], [frozenset({0, 1}), frozenset({1})])
    require_every_label(("A", "B"), [0, 1], [1, 0])
