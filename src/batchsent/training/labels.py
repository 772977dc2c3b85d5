"""The labels to learn: which there are, in the order of the logits, and which values of a label column stand for each.

Knows no files.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from batchsent.errors import InputError, UsageError
from batchsent.labels import cell_of, listed, parse_map, spelled, values_of

LABEL_LIMIT = 1_000
"""A column of more different values is not one of labels, and may well be one of texts."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")

Target = int | frozenset[int]
"""The index of a text's label; or of all its labels, where it may have several."""


def label_counts(targets: Iterable[Target], label_count: int) -> list[int]:
    """How many texts have each label."""
    counts = Counter(label for target in targets for label in ([target] if isinstance(target, int) else target))
    return [counts[index] for index in range(label_count)]


@dataclass(frozen=True)
class LabelScheme:
    """The labels of a model, in the order of its logits, and which values stand for each."""

    names: tuple[str, ...]
    index_of_value: dict[str, int]

    def target(self, value: str) -> int | None:
        """The label that a value stands for; None if for none."""
        return self.index_of_value.get(value)


def values_in(value: object, *, multi_label: bool) -> tuple[str, ...] | None:
    """The labels of a text: one, or any number of them if it may have several; None where nothing says which.

    Raises UsageError for what is no name and no whole number.
    """
    if multi_label:
        for item in value if isinstance(value, list | tuple) else (value,):
            _require_label(item)
        found = values_of(cell_of(value), multi_label=True)
        return None if found is None else tuple(dict.fromkeys(found))
    _require_label(value)
    cell = spelled(value) if isinstance(value, str) else cell_of(value)  # a name may look like a list
    return values_of(cell or None, multi_label=False)


def _require_label(value: object) -> None:
    is_fraction = False
    if isinstance(value, float | Decimal) and not math.isnan(value):
        is_fraction = math.isinf(value) or value != int(value)
    if is_fraction or not isinstance(value, str | int | float | Decimal | None):
        raise UsageError(
            "a label is a number that is not whole" if is_fraction else f"a label is of type {type(value).__name__}",
            "a name or a whole number in each row",
            "choose another --label-column, or pass --multi-label for lists",
        )


def scheme_of(counts: Counter[str], mapping: Sequence[str] = ()) -> LabelScheme:
    """The labels for the values that were found, with how many rows have each, and for those of ``--map``.

    Whole numbers stand in ascending order, names in alphabetical order, those of ``--map`` in the order given.
    Raises UsageError or InputError if they cannot be learnt.
    """
    if meanings := parse_map(mapping):
        scheme = _scheme_of_map(meanings)
    else:
        if len(counts) > LABEL_LIMIT:  # without showing them
            raise InputError(
                f"the label column has {len(counts):,} different values",
                f"at most {LABEL_LIMIT:,}",
                "pass --map, or another --label-column",
            )
        are_numbers = all(_NUMBER.fullmatch(value) for value in counts)
        names = sorted(counts, key=int) if are_numbers else sorted(counts)
        scheme = LabelScheme(tuple(names), {name: index for index, name in enumerate(names)})
    found = [
        sum(counts[v] for v, i in scheme.index_of_value.items() if i == index) for index in range(len(scheme.names))
    ]
    absent = [name for name, count in zip(scheme.names, found, strict=True) if not count]
    if absent:
        raise InputError(
            f"no text has the label {absent[0]}", "some of each", f"check --map; {listed(counts)} are in the column"
        )
    if len(scheme.names) < 2:
        raise InputError(
            f"every text has the label {listed(scheme.names)}" if scheme.names else "no text has a label",
            "two different labels or more",
            "check --label-column",
        )
    return scheme


def _scheme_of_map(meanings: dict[str, str]) -> LabelScheme:
    names = tuple(dict.fromkeys(meanings.values()))
    return LabelScheme(names, {value: names.index(name) for value, name in meanings.items()})
