"""What stands in a label column, in one spelling: names, numbers, lists of them; and what ``--map`` makes of it.

Values are compared as text: an export that turned 4 into 4.0 still means 4. Knows no model and no files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal

from batchsent.errors import UsageError

Cell = str | tuple[str, ...] | None
"""What a row has in the column: a value, a list of them, or no label."""

SEPARATOR = "|"
"""Between the labels of a text that may have several, where they stand in one string."""

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")
_EXACT_LIMIT = 2**53
"""Below it a float that is whole is that very number."""
_SHOWN_VALUES = 10
_SHOWN_CHARACTERS = 30


def cell_of(value: object) -> Cell:
    """A value as it comes from Arrow, in the one spelling of equal values; None where there is no label."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() | Decimal():
            return _from_number(value)
        case str():
            return _from_text(value)
        case list() | tuple():
            return tuple(cell for item in value if isinstance(cell := cell_of(item), str))
        case _:
            return spelled(str(value))


def _from_number(value: float | Decimal) -> Cell:
    if math.isnan(value):
        return None
    is_exact = -_EXACT_LIMIT < value < _EXACT_LIMIT and value == int(value)
    return str(int(value)) if is_exact else str(value)


def _from_text(text: str) -> Cell:
    if text.lstrip().startswith("["):  # a list in JSON Lines arrives as its JSON
        try:
            items = json.loads(text)
        except ValueError:
            items = None
        if isinstance(items, list) and not any(isinstance(item, list | dict) for item in items):
            return cell_of(items)
    return spelled(text) or None


def spelled(text: str) -> str:
    """``text`` without blanks around it; 4.0 as 4."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def values_of(cell: Cell, *, multi_label: bool) -> tuple[str, ...] | None:
    """The values in ``cell``; None where there is no label. Without ``multi_label`` a string is always one value."""
    if isinstance(cell, str):
        return tuple(filter(None, map(spelled, cell.split(SEPARATOR)))) if multi_label else (cell,)
    return cell if multi_label else (cell or None)


def parse_map(maps: Iterable[str]) -> dict[str, str] | None:
    """Value → label from texts such as '4,5=POSITIVE', in that order; None if there are none. Raises UsageError."""
    labels: dict[str, str] = {}
    for item in maps:
        left, _, label = item.rpartition("=")
        label, values = label.strip(), [spelled(value) for value in left.split(",")]
        if not label or not all(values):
            raise UsageError(f"--map {item!r}", "VALUES=LABEL, such as 4,5=POSITIVE", "name values and a label")
        for value in values:
            if labels.setdefault(value, label) != label:
                raise UsageError(f"--map gives the value {value!r} two labels", "one for each value", "drop one")
    return labels or None


def listed(values: Iterable[str]) -> str:
    """Some of ``values`` in a message: a few, each cut, as a wrong column may hold texts."""
    texts = [value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…" for value in values]
    return ", ".join(texts[:_SHOWN_VALUES]) + (", …" if len(texts) > _SHOWN_VALUES else "")
