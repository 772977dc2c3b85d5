"""Which texts to train on and which to validate with: random, each label in the same proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from batchsent.errors import InputError, UsageError
from batchsent.training.labels import Target, label_counts


def draw(targets: Sequence[Target], count: int, seed: int) -> tuple[list[int], list[int]]:
    """(indices of ``count`` texts, those of the others), both ascending; the same for the same ``seed``."""
    from sklearn.model_selection import train_test_split

    strata = _strata(targets, min(count, len(targets) - count))
    drawn, others = train_test_split(
        range(len(targets)), train_size=count, test_size=len(targets) - count, stratify=strata, random_state=seed
    )
    return sorted(drawn), sorted(others)


def _strata(targets: Sequence[Target], smaller: int) -> list[int] | None:
    """Which texts are of one kind; None where there are too many kinds to have some of each on both sides.

    Where a text may have several labels, a kind is a combination of them, and all rare ones together are one more.
    """
    counts = Counter(targets)
    common = {target: index for index, (target, count) in enumerate(counts.most_common()) if count > 1}
    is_alone = len(targets) - sum(counts[target] for target in common) == 1
    rest = 0 if is_alone else len(common)  # nothing can be split that there is one of
    strata = [common.get(target, rest) for target in targets]
    return strata if 1 < len(set(strata)) <= smaller else None


def limited(targets: Sequence[Target], limit: int | None, seed: int) -> list[int]:
    """Indices of the texts that ``--limit`` leaves."""
    if limit is None or limit >= len(targets):
        return list(range(len(targets)))
    return draw(targets, limit, seed)[0]


def split(targets: Sequence[Target], share: float, seed: int) -> tuple[list[int], list[int]]:
    """(indices to train on, indices to validate with). Raises UsageError if that leaves too little of either."""
    count = round(share * len(targets))
    if not 0 < count < len(targets):
        raise UsageError(
            f"--validation-share {share} of {len(targets)} texts",
            "at least one text to train on and one to validate with",
            "give more texts, or another share",
        )
    validation, training = draw(targets, count, seed)
    return training, validation


def require_every_label(names: Sequence[str], training: Sequence[Target], validation: Sequence[Target]) -> None:
    """Raise InputError unless there are texts of every label to learn from, and to judge by."""
    counts = [label_counts(targets, len(names)) for targets in (training, validation)]
    for purpose, own in zip(("train on", "validate with"), counts, strict=True):
        for index, name in enumerate(names):
            if not own[index]:
                whole = sum(each[index] for each in counts)
                raise InputError(
                    f"of {whole} text{'s' * (whole != 1)} with the label {name} there is none to {purpose}",
                    "at least 2 of each label, some of them on both sides",
                    "give more, a larger --validation-share, or join labels with --map",
                )
