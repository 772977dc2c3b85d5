"""Predictions of windows → one row a record, in input order: the inverse of windows, dedupe and sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchsent.identity import Labelling
from batchsent.records import EncodedPart, Part, Predictions, RejectReason, ScoredPart
from batchsent.schema import (
    DETAIL,
    LABEL,
    PROBABILITIES,
    PROBABILITY,
    READ_FIELDS,
    REASON,
    TEXT,
    TOKEN_COUNT,
    TRUNCATED,
    WINDOW_COUNT,
    part_schema,
    prediction_fields,
)

Probabilities = npt.NDArray[np.float32]


def restore(part: Part, encoded: EncodedPart, predictions: Predictions, labelling: Labelling) -> ScoredPart:
    """Join every record of ``part`` with what is known of its text; no record is added or dropped."""
    text, labels, aggregate = encoded.text_of_record, labelling.labels, labelling.window_aggregate
    windows = aggregate is not None
    reason = _reasons(part, text, _failed_texts(predictions.failures, encoded.window_counts))
    scored = np.fromiter((r is None for r in reason), bool, len(reason))
    columns = dict.fromkeys((field.name for field in prediction_fields(labels, windows=windows)), pa.nulls(len(text)))
    if scored.any():
        probabilities = predictions.probabilities
        if aggregate is not None:
            counts, multi_label = encoded.window_counts, labelling.multi_label
            probabilities = combined(probabilities, counts, aggregate, multi_label=multi_label)
        source = np.where(scored, text, 0)
        columns = _prediction_columns(probabilities, source, ~scored, encoded, labels)
    columns |= {name: part.records.column(name) for name in part.records.column_names if name != TEXT}
    columns |= {REASON: pa.array(reason, pa.string())}
    columns |= {DETAIL: part.records.column(DETAIL)}
    kept = [field for field in part.records.schema if field.name not in {own.name for own in READ_FIELDS}]
    schema = part_schema(kept, labels, windows=windows)
    table = pa.table({field.name: columns[field.name] for field in schema}).cast(schema)
    token_count = int(encoded.token_counts[text[scored]].sum())
    return ScoredPart(part.shard, part.unit, part.index, table, part.end, part.is_last, part.kept_kinds, token_count)


def combined(
    probabilities: Probabilities, window_counts: npt.NDArray[np.int32], aggregate: str, *, multi_label: bool
) -> Probabilities:
    """[windows, labels] → [texts, labels], where ``window_counts`` [texts] says how many belong to each.

    'mean' is that of a label's probabilities. 'max' is the largest of them; where one label holds, what the labels get
    that way is divided by its sum.
    """
    firsts = np.cumsum(window_counts) - window_counts
    if aggregate == "max":
        found = np.maximum.reduceat(probabilities, firsts)
        return found if multi_label else found / found.sum(axis=1, keepdims=True)
    # The mean of one window is that window's, to the last digit.
    sums = np.add.reduceat(probabilities, firsts, dtype=np.float64)
    return (sums / window_counts[:, None]).astype(np.float32)


def _failed_texts(failures: dict[int, RejectReason], window_counts: npt.NDArray[np.int32]) -> dict[int, RejectReason]:
    """Text → why it has no probabilities: one of its windows has none."""
    ends = np.cumsum(window_counts)
    return {int(np.searchsorted(ends, window, side="right")): reason for window, reason in failures.items()}


def _reasons(part: Part, text: npt.NDArray[np.int32], failures: dict[int, RejectReason]) -> np.ndarray[Any, Any]:
    """[records] of str or None: the reader's reasons, then what the model could not score."""
    reason: np.ndarray[Any, Any] = np.array(part.records.column(REASON).to_pylist() or [], dtype=object)
    if failures:
        for record in np.flatnonzero(np.isin(text, list(failures)) & (text >= 0)):
            reason[record] = failures[int(text[record])]
    return reason


def _prediction_columns(
    of_texts: Probabilities,
    source: npt.NDArray[np.int32],
    missing: npt.NDArray[np.bool_],
    encoded: EncodedPart,
    labels: tuple[str, ...],
) -> dict[str, Any]:
    probabilities = of_texts[source]
    best = probabilities.argmax(axis=1).astype(np.int32)
    mask = pa.array(missing)
    each = [pa.array(np.ascontiguousarray(probabilities[:, index]), pa.float32()) for index in range(len(labels))]
    return {
        LABEL: pa.DictionaryArray.from_arrays(pa.array(best, mask=missing), pa.array(labels, pa.string())),
        PROBABILITY: pa.array(probabilities[np.arange(len(best)), best], pa.float32(), mask=missing),
        PROBABILITIES: pa.StructArray.from_arrays(each, list(labels), mask=mask),
        TOKEN_COUNT: pa.array(encoded.token_counts[source], pa.int32(), mask=missing),
        TRUNCATED: pa.array(encoded.truncated[source], pa.bool_(), mask=missing),
        WINDOW_COUNT: pa.array(encoded.window_counts[source], pa.int32(), mask=missing),
    }
