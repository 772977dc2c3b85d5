"""Column names, Arrow schemas and footer metadata of every Parquet file that batchsent writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from batchsent.records import RejectReason, ShardDigest

ROW_INDEX, BYTE_OFFSET, REASON, DETAIL, TEXT = "row_index", "byte_offset", "reason", "detail", "text"
LABEL, PROBABILITY, PROBABILITIES = "label", "probability", "probabilities"
TOKEN_COUNT, TRUNCATED, WINDOW_COUNT = "token_count", "truncated", "window_count"

OUR_COLUMNS = (ROW_INDEX, LABEL, PROBABILITY, PROBABILITIES, TOKEN_COUNT, TRUNCATED, WINDOW_COUNT)
"""A kept column must not bear one of these names."""

KEPT_PREFIX = "kept."
"""Kept columns bear it while they travel, so that no name of theirs can meet one of ours."""

REJECT_REASONS: tuple[str, ...] = get_args(RejectReason)

READ_FIELDS = (
    pa.field(ROW_INDEX, pa.int64()),
    pa.field(BYTE_OFFSET, pa.int64()),
    pa.field(TEXT, pa.large_string()),
    pa.field(REASON, pa.string()),
    pa.field(DETAIL, pa.string()),
)
"""What a reader says of a record; ``text`` is null exactly where ``reason`` is not."""

REJECT_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field(ROW_INDEX, pa.int64(), nullable=False),
        pa.field(BYTE_OFFSET, pa.int64()),
        pa.field(REASON, pa.string(), nullable=False),
        pa.field(DETAIL, pa.string()),
    ]
)

_LABEL_TYPE = pa.dictionary(pa.int32(), pa.string())


def prediction_fields(labels: Sequence[str], *, windows: bool) -> list[pa.Field[Any]]:
    """The columns that a scored row gets, after the kept ones and ``row_index``.

    ``windows``: whether a text may have several, and their number is told.
    """
    fields = [
        pa.field(LABEL, _LABEL_TYPE),
        pa.field(PROBABILITY, pa.float32()),
        pa.field(PROBABILITIES, pa.struct([pa.field(label, pa.float32()) for label in labels])),
        pa.field(TOKEN_COUNT, pa.int32()),
        pa.field(TRUNCATED, pa.bool_()),
    ]
    return [*fields, pa.field(WINDOW_COUNT, pa.int32())] if windows else fields


def part_schema(kept: Iterable[pa.Field[Any]], labels: Sequence[str], *, windows: bool) -> pa.Schema:
    """Of a checkpoint: every record, scored or rejected (then ``reason`` is set and the prediction null)."""
    own = [field for field in READ_FIELDS if field.name != TEXT]
    return pa.schema([*own, *prediction_fields(labels, windows=windows), *kept])


def output_schema(
    kept: Iterable[pa.Field[Any]], labels: Sequence[str], metadata: dict[str, str], *, windows: bool
) -> pa.Schema:
    """Of a published file; ``kept`` bear their output names."""
    own = [pa.field(ROW_INDEX, pa.int64()), *prediction_fields(labels, windows=windows)]
    return pa.schema([*kept, *own], metadata=dict(metadata))


def kept_field(name: str, data_type: pa.DataType) -> pa.Field[Any]:
    """A kept column on its way: prefixed, nullable, without the metadata of the file it came from."""
    return pa.field(KEPT_PREFIX + name, data_type)


# Footer metadata of an output, so that a file copied away still says what it is.
FOOTER_FINGERPRINT = "batchsent.fingerprint"
FOOTER_UNIT = "batchsent.unit"


def output_metadata(
    *, model: str, model_version: str, fingerprint: str, unit: str, shard: str, digest: ShardDigest
) -> dict[str, str]:
    """Key-value metadata of a published file's footer."""
    known_by = ("input_sha256", digest.sha256) if digest.sha256 else ("input_version", digest.signature.version)
    return {
        "batchsent.model": model,
        "batchsent.model_version": model_version,
        FOOTER_FINGERPRINT: fingerprint,
        FOOTER_UNIT: unit,
        "batchsent.shard": shard,
        f"batchsent.{known_by[0]}": known_by[1],
    }


# --- JSON Lines: values travel as JSON text; their type is known when the last part of the shard is there.


def json_kind(value: object) -> str:
    """The kind of a JSON value that is not null: what it needs of a column."""
    match value:
        case bool():
            return "bool"
        case int() if abs(value) <= 2**53:
            return "int"
        case int():
            # No float64 holds it, so beside a float the column stays JSON text.
            return "big int" if -(2**63) <= value < 2**63 else "other"
        case float():
            return "float"
        case str():
            return "string"
        case _:
            return "other"


def json_type(kinds: set[str]) -> pa.DataType:
    """The Arrow type that holds every kind in ``kinds``; a mixture stays JSON text."""
    match sorted(kinds):
        case ["bool"]:
            return pa.bool_()
        case ["int"] | ["big int"] | ["big int", "int"]:
            return pa.int64()
        case ["float"] | ["float", "int"]:
            return pa.float64()
        case _:
            return pa.string()


def json_array(texts: pa.ChunkedArray[Any], kinds: set[str]) -> pa.ChunkedArray[Any]:
    """JSON texts as values of ``json_type(kinds)``; a column of strings is unquoted, a mixture is left as it is."""
    if kinds - {"string"} and pa.types.is_string(json_type(kinds)):
        return texts
    values = [None if text is None else json.loads(text) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, type=json_type(kinds))])


def value_counts(column: pa.ChunkedArray[Any]) -> dict[str, int]:
    """How often each string stands in ``column``; nulls are not counted."""
    return {item["values"]: item["counts"] for item in pc.value_counts(column.drop_null()).to_pylist()}
