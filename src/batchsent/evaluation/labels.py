"""The label column of labelled data: which of a model's labels each of its values stands for.

Values are compared as text, in one spelling: an export that turned 4 into 4.0 still means 4.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsent.errors import UsageError

Cell = str | tuple[str, ...] | None
"""What a row has in the column: a value, a list of them, or no label."""

SEPARATOR = "|"
"""Between the labels of a text that may have several, where they stand in one string."""

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")
_INDEX = re.compile(r"[0-9]{1,9}")
_TRUTH_VALUES = {"false": 0, "true": 1}
_SHOWN_VALUES = 10
_SHOWN_CHARACTERS = 30
QUOTED_VALUES = 20
"""Values that may be named: a column with more of them hardly holds labels, and may hold what must not be quoted."""


def cell_of(value: object) -> Cell:
    """A value as it comes from Arrow, in the one spelling of equal values; None where there is no label."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return None if math.isnan(value) else spelled(str(value))
        case str():
            return _from_text(value)
        case list() | tuple():
            return tuple(cell for item in value if isinstance(cell := cell_of(item), str))
        case _:
            return None if value is None else spelled(str(value))


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
    """Value → label from texts such as '4,5=POSITIVE'; None if there are none. Raises UsageError."""
    labels: dict[str, str] = {}
    for item in maps:
        left, _, label = item.rpartition("=")
        values = [spelled(value) for value in left.split(",")]
        if not label or not all(values):
            raise UsageError(f"--map {item!r}", "VALUES=LABEL, such as 4,5=POSITIVE", "name values and a label")
        for value in values:
            if labels.setdefault(value, label.strip()) != label.strip():
                raise UsageError(f"--map gives {value!r} two labels", "one label for each value", "drop one")
    return labels or None


def label_ids(
    found: Collection[str], labels: Sequence[str], mapping: Mapping[str, str] | None, *, column: str, model: str
) -> dict[str, int]:
    """Value → index into ``labels``.

    A ``mapping`` (value → label) decides by itself which values count. Else each of the values ``found`` in ``column``
    is the name of a label, in any case, or all of them are indices. Raises UsageError if that is not so.
    """
    if mapping is not None:
        targets = _resolved(set(mapping.values()), labels)
        if targets is None:
            raise _unknown(f"--map to {_listed(set(mapping.values()))}", labels, model, "name labels of the model")
        if found and not mapping.keys() & set(found):
            raise UsageError(
                f"{_described(found, column)}, and --map names {_listed(mapping)}",
                "a value that is in the column",
                "mend --map or --label-column",
            )
        return {value: targets[label] for value, label in mapping.items()}
    ids = _resolved(found, labels)
    if ids is None:
        remedy = f"say which value means which label, such as --map 4,5={labels[-1]}; the others are left out"
        raise _unknown(_described(found, column), labels, model, remedy)
    return ids


def _resolved(values: Collection[str], labels: Sequence[str]) -> dict[str, int] | None:
    """Value → index; None unless one rule holds for all: half of a scale of stars is no list of indices."""
    exact = {spelled(label): index for index, label in enumerate(labels)}
    counts = Counter(label.casefold() for label in exact)
    folded = {label.casefold(): index for label, index in exact.items() if counts[label.casefold()] == 1}
    for ids in (
        {value: exact.get(value, folded.get(value.casefold())) for value in values},
        {value: _index(value, len(labels)) for value in values},
    ):
        found = {value: index for value, index in ids.items() if index is not None}
        if len(found) == len(ids):
            return found
    return None


def _index(value: str, label_count: int) -> int | None:
    index = int(value) if _INDEX.fullmatch(value) else _TRUTH_VALUES.get(value.casefold(), label_count)
    return index if index < label_count else None


def _unknown(found: str, labels: Sequence[str], model: str, remedy: str) -> UsageError:
    named = _listed(labels) if len(labels) <= QUOTED_VALUES else f"one of its {len(labels)} labels"
    return UsageError(found, f"a label of {model} ({named}), or its index from 0 to {len(labels) - 1}", remedy)


def _described(found: Collection[str], column: str) -> str:
    if len(found) > QUOTED_VALUES:
        return f"column {column!r} has {len(found):,} different values"
    return f"column {column!r} has {_listed(sorted(found, key=lambda value: (len(value), value)))}"


def _listed(values: Iterable[str]) -> str:
    texts = [value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…" for value in values]
    return ", ".join(texts[:_SHOWN_VALUES]) + (", …" if len(texts) > _SHOWN_VALUES else "")


def truths(
    cells: Sequence[Cell], ids: Mapping[str, int], *, label_count: int, multi_label: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """([rows] indices, or [rows, labels] of 0 and 1 where a text may have several; [rows] whether that is known).

    A row is not known if it has no label, or a value that is not among ``ids``. Raises UsageError for a row with
    several labels where there can be one.
    """
    truth = np.zeros((len(cells), label_count) if multi_label else len(cells), np.int64)
    known = np.zeros(len(cells), np.bool_)
    for row, cell in enumerate(cells):
        values = values_of(cell, multi_label=multi_label)
        if values is None or not all(value in ids for value in values):
            continue
        known[row] = True
        places: Any = [ids[value] for value in values]
        if multi_label:
            truth[row, places] = 1
        elif len(places) == 1:
            truth[row] = places[0]
        else:
            raise UsageError(
                f"a row has {len(places)} labels", "one, for a model that gives one", "choose another column"
            )
    return truth, known
