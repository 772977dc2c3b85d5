"""Which of a model's labels each value of a label column stands for, and what is true of each row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsent.errors import UsageError
from batchsent.labels import Cell, listed, spelled, values_of

_INDEX = re.compile(r"[0-9]{1,9}")
_TRUTH_VALUES = {"false": 0, "true": 1}
QUOTED_VALUES = 20
"""Values that may be named: a column with more of them hardly holds labels, and may hold what must not be quoted."""


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
            raise _unknown(f"--map to {listed(set(mapping.values()))}", labels, model, "name labels of the model")
        if found and not mapping.keys() & set(found):
            raise UsageError(
                f"{_described(found, column)}, and --map names {listed(mapping)}",
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
    named = listed(labels) if len(labels) <= QUOTED_VALUES else f"one of its {len(labels)} labels"
    return UsageError(found, f"a label of {model} ({named}), or its index from 0 to {len(labels) - 1}", remedy)


def _described(found: Collection[str], column: str) -> str:
    if len(found) > QUOTED_VALUES:
        return f"column {column!r} has {len(found):,} different values"
    return f"column {column!r} has {listed(sorted(found, key=lambda value: (len(value), value)))}"


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
