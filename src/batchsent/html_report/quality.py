"""How good the labels are, where a label column was kept: batch by batch, so that memory does not grow with the rows.

The metrics are those of ``evaluate``, but for ROC AUC and the intervals, which need all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.errors import UsageError
from batchsent.evaluation.labels import QUOTED_VALUES, label_ids, truths
from batchsent.evaluation.metrics import Bin, calibration_error, reliability
from batchsent.evaluation.outcomes import Floats, Ints, Outcomes
from batchsent.html_report.sources import Findings
from batchsent.identity import Identity
from batchsent.labels import Cell, cell_of, parse_map, values_of
from batchsent.schema import PROBABILITIES

_BATCH_ROWS = 65_536
_VALUE_LIMIT = 1_000
"""Different values that are told apart; a column with more of them does not hold labels."""
_LABEL_CHARACTERS = 30
"""A longer value is no label's name, but perhaps a review: it is not quoted."""


@dataclass(frozen=True)
class LabelQuality:
    """Of one label; None where the rows do not define it."""

    label: str
    row_count: int
    predicted_count: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Quality:
    """Of the rows that were scored and have a label that counts."""

    row_count: int
    left_out_count: int
    """Scored rows without a label, or with one that no ``--map`` names."""
    meanings: dict[str, str]
    """Value of the column → label, where the two differ."""
    accuracy: float
    macro_f1: float
    micro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    labels: tuple[LabelQuality, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    """[true label][answer] → rows; None where a text may have several labels."""
    bins: tuple[Bin, ...]
    is_multi_label: bool


def measure_quality(findings: Findings, maps: Sequence[str], check: Callable[[], None]) -> Quality | str | None:
    """The quality; or why it cannot be told, and what to do; None where no label column was kept.

    Raises UsageError if ``maps`` do not fit, OSError or pa.ArrowException if an output cannot be read.
    """
    identity, mapping = findings.identity, parse_map(maps)
    if identity.label_column is None:
        if mapping is not None:
            raise UsageError(
                f"--map, and the run in {findings.store.root} had no label column",
                "a run with --label-column",
                "leave it out",
            )
        return None
    if identity.label_column == identity.text_column:
        return f"column {identity.label_column!r} is both text and label; score with the column that holds the labels"
    found = _values_in(findings, mapping, check)
    try:
        return _measured(findings, _ids(found, mapping, identity), check)
    except UsageError as error:
        if mapping is not None:
            raise
        return f"The labels cannot be matched: {error}"


def _ids(found: set[str], mapping: dict[str, str] | None, identity: Identity) -> dict[str, int]:
    column = identity.label_column or ""
    if mapping is None and not found:
        raise UsageError(f"no scored row has a label in column {column!r}", "labelled records", "check --label-column")
    if len(found) > _VALUE_LIMIT:
        raise UsageError(
            f"column {column!r} has more than {_VALUE_LIMIT:,} different values",
            "labels",
            "score with the column that holds them",
        )
    is_quotable = len(found) > QUOTED_VALUES or all(len(value) <= _LABEL_CHARACTERS for value in found)
    if mapping is None and not is_quotable:
        raise UsageError(
            f"column {column!r} has values of more than {_LABEL_CHARACTERS} characters",
            "labels",
            f"say which value means which label: batchsent report DIR --map VALUES={identity.labels[-1]}",
        )
    return label_ids(found, identity.labels, mapping, column=column, model=identity.model)


def _values_in(findings: Findings, mapping: dict[str, str] | None, check: Callable[[], None]) -> set[str]:
    """The values of the label column, or those that ``mapping`` names; of very many, the first."""
    found: set[str] = set()
    for batch in _batches(findings, [], check):
        values, _ = _distinct(batch, _column(findings.identity))
        for cell in values:
            found.update(values_of(cell, multi_label=findings.identity.multi_label) or ())
        if mapping is not None:
            found &= mapping.keys()
        if len(found) > _VALUE_LIMIT:
            break
    return found


def _measured(findings: Findings, ids: dict[str, int], check: Callable[[], None]) -> Quality | str:
    identity = findings.identity
    tally = _Tally(identity.labels, identity.multi_label)
    for batch in _batches(findings, [PROBABILITIES], check):
        cells, places = _distinct(batch, _column(identity))
        truth, known = truths(cells, ids, label_count=len(identity.labels), multi_label=identity.multi_label)
        truth, known = truth[places], known[places]
        tally.add(truth[known], _probabilities(batch, identity)[known], left_out_count=int((~known).sum()))
    if not tally.row_count:
        return f"No scored row has a label that counts in column {identity.label_column!r}; check it, and --map"
    return tally.quality({value: identity.labels[index] for value, index in ids.items()})


def _column(identity: Identity) -> str:
    """The label column's name in the outputs."""
    label_column = identity.label_column or ""
    renamed = dict(item.partition("=")[::2] for item in identity.keep)
    return renamed.get(label_column) or label_column


def _batches(findings: Findings, columns: list[str], check: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    """``columns`` and the label column of every finished shard."""
    wanted = [*columns, _column(findings.identity)]
    for entry in findings.shards:
        with findings.store.open(entry.output.path) as handle, pq.ParquetFile(handle, pre_buffer=False) as file:
            # Of JSON Lines, a shard has a kept column only if some record has that key.
            names = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False):
                check()
                yield batch


def _distinct(batch: pa.RecordBatch, name: str) -> tuple[list[Cell], npt.NDArray[np.int64]]:
    """Different values of a column, and for each row which of them it has: few, so each is understood once."""
    if name not in batch.schema.names:
        return [None], np.zeros(batch.num_rows, np.int64)
    column = batch.column(name)
    if pa.types.is_nested(column.type):
        return [cell_of(value) for value in column.to_pylist()], np.arange(batch.num_rows)
    if pa.types.is_string_view(column.type):  # Arrow has no dictionaries of these
        column = column.cast(pa.string())
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    cells = [cell_of(value) for value in encoded.dictionary.to_pylist()]
    # A null is no value of the dictionary: it stands behind the last one.
    return [*cells, None], encoded.indices.fill_null(len(cells)).to_numpy().astype(np.int64)


def _probabilities(batch: pa.RecordBatch, identity: Identity) -> Floats:
    fields = batch.column(PROBABILITIES).flatten()
    probabilities: Floats = np.column_stack([field.to_numpy(zero_copy_only=False) for field in fields]).astype(float)
    if not identity.multi_label:  # float32 leaves a sum that is not quite 1
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


class _Tally:
    """Sums over the rows, from which every metric follows."""

    def __init__(self, labels: tuple[str, ...], multi_label: bool) -> None:
        self._labels, self._multi_label = labels, multi_label
        count = len(labels)
        self._confusion = np.zeros((count, count), np.int64)
        self._by_label = np.zeros((count, 2, 2), np.int64)
        """[label][holds][is answered] → rows"""
        self._bins = reliability(np.empty(0, np.int64), np.empty((0, 2)))
        self.row_count = self._right_count = self._left_out_count = 0
        self._log_loss = self._brier = 0.0

    def add(self, truth: Ints, probabilities: Floats, *, left_out_count: int) -> None:
        """Count rows in; ``truth`` and ``probabilities`` as in :class:`Outcomes`."""
        from sklearn import metrics

        self._left_out_count += left_out_count
        rows = len(truth)
        if not rows:
            return
        outcomes = Outcomes(self._labels, self._multi_label, truth, probabilities)
        self.row_count += rows
        self._right_count += int(outcomes.is_right.sum())
        for label_id in range(len(self._labels)):
            holds, is_answered, _ = outcomes.holds(label_id)
            self._by_label[label_id] += np.bincount(2 * holds + is_answered, minlength=4).reshape(2, 2)
        if not self._multi_label:
            pairs = np.bincount(truth * len(self._labels) + outcomes.predicted, minlength=self._confusion.size)
            self._confusion += pairs.reshape(self._confusion.shape)
        truths_, decided = outcomes.decisions()
        of_decisions = list(range(decided.shape[1]))
        self._bins = _merged(self._bins, reliability(truths_, decided))
        self._log_loss += rows * float(metrics.log_loss(truths_, decided, labels=of_decisions))
        self._brier += rows * float(metrics.brier_score_loss(truths_, decided, labels=of_decisions))

    def quality(self, meanings: dict[str, str]) -> Quality:
        """The metrics; ``meanings`` are of the label column's values."""
        labels = tuple(map(_of_label, self._labels, self._by_label))
        # As in evaluation.metrics: labels that are neither true nor the answer anywhere are left out.
        f1s = [label.f1 or 0.0 for label in labels if label.row_count or label.predicted_count]
        whole = _of_label("", self._by_label.sum(axis=0))
        return Quality(
            row_count=self.row_count,
            left_out_count=self._left_out_count,
            meanings={value: label for value, label in sorted(meanings.items()) if value != label},
            accuracy=self._right_count / self.row_count,
            macro_f1=sum(f1s) / len(f1s) if f1s else 0.0,
            micro_f1=whole.f1 or 0.0,
            log_loss=self._log_loss / self.row_count,
            brier=self._brier / self.row_count,
            calibration_error=calibration_error(self._bins),
            labels=labels,
            confusion=None if self._multi_label else tuple(tuple(row) for row in self._confusion.tolist()),
            bins=self._bins,
            is_multi_label=self._multi_label,
        )


def _of_label(label: str, counts: Any) -> LabelQuality:
    (_, wrong), (missed, right) = counts.tolist()
    return LabelQuality(
        label=label,
        row_count=right + missed,
        predicted_count=right + wrong,
        precision=right / (right + wrong) if right + wrong else None,
        recall=right / (right + missed) if right + missed else None,
        f1=2 * right / (2 * right + wrong + missed) if right + wrong + missed else None,
    )


def _merged(bins: tuple[Bin, ...], more: tuple[Bin, ...]) -> tuple[Bin, ...]:
    """The decisions of both, bin by bin."""
    merged = []
    for one, other in zip(bins, more, strict=True):
        count = one.count + other.count
        sums = [
            (one.count * (getattr(one, name) or 0.0) + other.count * (getattr(other, name) or 0.0)) / max(1, count)
            for name in ("confidence", "accuracy")
        ]
        merged.append(Bin(one.lower, one.upper, count, *(value if count else None for value in sums)))
    return tuple(merged)
