"""What stands in a label column → the labels of a model.

A label is a name or a whole number; numbers may be written as 4, "4" or 4.0. Knows no files.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from batchsent.errors import InputError, UsageError

LABEL_LIMIT = 1_000
"""A column of more different values is not one of labels, and may well be one of texts."""
SEPARATOR = "|"
"""Between the labels of a text, where a format has no lists."""

_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0+)?")
_SHOWN_CHARACTERS = 40

Target = int | frozenset[int]
"""The index of a text's label; or of all its labels, where it may have several."""


@dataclass(frozen=True)
class LabelScheme:
    """The labels of a model, in the order of its logits, and which values stand for each."""

    names: tuple[str, ...]
    index_of_value: dict[str, int]

    def target(self, value: str) -> int | None:
        """The label that a value stands for; None if for none."""
        return self.index_of_value.get(value)


def one_value(value: Any) -> str | None:
    """A label's one spelling; None where there is none. Raises UsageError if it is no name and no whole number."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case str():
            text = value.strip()
            whole = _WHOLE.fullmatch(text)
            return whole[1] if whole else text or None
        case float() if math.isnan(value):
            return None
        case int() | float() | Decimal() if math.isfinite(value) and value == int(value):
            return str(int(value))
        case _:
            is_number = isinstance(value, float | Decimal)
            raise UsageError(
                "a label is a number that is not whole" if is_number else f"a label is of type {type(value).__name__}",
                "a name or a whole number in each row",
                "choose another --label-column, or pass --multi-label for lists",
            )


def several_values(value: Any) -> tuple[str, ...] | None:
    """The labels of a text that may have several, or none of them; None where nothing says which."""
    if isinstance(value, str):
        if not value.strip():
            return None
        value = _listed(value)
    elif value is not None and not isinstance(value, list | tuple):
        value = [value]
    if value is None:
        return None
    return tuple(dict.fromkeys(filter(None, map(one_value, value))))


def _listed(text: str) -> list[Any]:
    """The labels in a text: of a JSON list, or with a separator between them."""
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except ValueError:
            items = None
        if isinstance(items, list):
            return items
    return list(text.split(SEPARATOR))


def scheme_of(counts: Counter[str], mapping: Sequence[str] = ()) -> LabelScheme:
    """The labels for the values that were found, with how many rows have each, and for those of ``--map``.

    Whole numbers stand in ascending order, names in alphabetical order, those of ``--map`` in the order given.
    Raises UsageError or InputError if they cannot be learnt.
    """
    if mapping:
        scheme = _mapped(mapping)
    else:
        if len(counts) > LABEL_LIMIT:  # without showing them
            raise InputError(
                f"the label column has {len(counts):,} different values",
                f"at most {LABEL_LIMIT:,}",
                "pass --map or another",
            )
        are_numbers = all(_WHOLE.fullmatch(value) for value in counts)
        names = sorted(counts, key=int) if are_numbers else sorted(counts)
        scheme = LabelScheme(tuple(names), {name: index for index, name in enumerate(names)})
    found = [
        sum(counts[v] for v, i in scheme.index_of_value.items() if i == index) for index in range(len(scheme.names))
    ]
    absent = [name for name, count in zip(scheme.names, found, strict=True) if not count]
    if absent:
        raise InputError(
            f"no text has the label {absent[0]}", "some of each", f"check --map; {shown(counts)} are in the column"
        )
    if len(scheme.names) < 2:
        raise InputError(
            f"every text has the label {shown(scheme.names)}" if scheme.names else "no text has a label",
            "two different labels or more",
            "check --label-column",
        )
    return scheme


def _mapped(mapping: Sequence[str]) -> LabelScheme:
    names: dict[str, int] = {}
    index_of_value: dict[str, int] = {}
    for item in mapping:
        values, equals, name = item.rpartition("=")
        name = name.strip()
        spelled = [one_value(value) for value in values.split(",")]
        if not equals or not name or None in spelled:
            raise UsageError(f"--map {item!r}", "VALUE,VALUE,...=LABEL", "write it so")
        index = names.setdefault(name, len(names))
        for value in filter(None, spelled):
            if index_of_value.setdefault(value, index) != index:
                raise UsageError(f"--map gives the value {value!r} two labels", "one for each value", "drop one")
    return LabelScheme(tuple(names), index_of_value)


def shown(values: Iterable[str]) -> str:
    """Some labels in a message: a few, each cut, as a wrong column may hold texts."""
    some = list(values)
    cut = [v if len(v) <= _SHOWN_CHARACTERS else f"{v[:_SHOWN_CHARACTERS]}…" for v in some[:10]]
    return ", ".join(cut) + (", …" if len(some) > 10 else "")
