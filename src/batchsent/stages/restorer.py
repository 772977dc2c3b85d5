"""Predictions of distinct texts → one row a record, in input order: the inverse of dedupe and sort."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from batchsent.records import EncodedPart, Part, Predictions, ScoredPart
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
    part_schema,
    prediction_fields,
)


def restore(part: Part, encoded: EncodedPart, predictions: Predictions, labels: tuple[str, ...]) -> ScoredPart:
    """Join every record of ``part`` with what is known of its text; no record is added or dropped."""
    text = encoded.text_of_record
    reason = _reasons(part, text, predictions)
    scored = np.fromiter((r is None for r in reason), bool, len(reason))
    source = np.where(scored, text, 0)
    columns = dict.fromkeys((field.name for field in prediction_fields(labels)), pa.nulls(len(text)))
    if scored.any():
        columns = _prediction_columns(source, ~scored, encoded, predictions, labels)
    columns |= {name: part.records.column(name) for name in part.records.column_names if name != TEXT}
    columns |= {REASON: pa.array(reason, pa.string())}
    columns |= {DETAIL: part.records.column(DETAIL)}
    kept = [field for field in part.records.schema if field.name not in {own.name for own in READ_FIELDS}]
    schema = part_schema(kept, labels)
    table = pa.table({field.name: columns[field.name] for field in schema}).cast(schema)
    token_count = int(encoded.token_counts[text[scored]].sum())
    return ScoredPart(part.shard, part.unit, part.index, table, part.end, part.is_last, part.kept_kinds, token_count)


def _reasons(part: Part, text: np.ndarray[Any, np.dtype[np.int32]], predictions: Predictions) -> np.ndarray[Any, Any]:
    """[records] of str or None: the reader's reasons, then what the model could not score."""
    reason: np.ndarray[Any, Any] = np.array(part.records.column(REASON).to_pylist() or [], dtype=object)
    if predictions.failures:
        for record in np.flatnonzero(np.isin(text, list(predictions.failures)) & (text >= 0)):
            reason[record] = predictions.failures[int(text[record])]
    return reason


def _prediction_columns(
    source: np.ndarray[Any, np.dtype[np.int32]],
    missing: np.ndarray[Any, np.dtype[np.bool_]],
    encoded: EncodedPart,
    predictions: Predictions,
    labels: tuple[str, ...],
) -> dict[str, Any]:
    probabilities = predictions.probabilities[source]
    best = probabilities.argmax(axis=1).astype(np.int32)
    mask = pa.array(missing)
    each = [pa.array(np.ascontiguousarray(probabilities[:, index]), pa.float32()) for index in range(len(labels))]
    return {
        LABEL: pa.DictionaryArray.from_arrays(pa.array(best, mask=missing), pa.array(labels, pa.string())),
        PROBABILITY: pa.array(probabilities[np.arange(len(best)), best], pa.float32(), mask=missing),
        PROBABILITIES: pa.StructArray.from_arrays(each, list(labels), mask=mask),
        TOKEN_COUNT: pa.array(encoded.token_counts[source], pa.int32(), mask=missing),
        TRUNCATED: pa.array(encoded.truncated[source], pa.bool_(), mask=missing),
    }
