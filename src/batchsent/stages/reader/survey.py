"""What the columns of a shard hold, by its first records, for who has not said yet how to read it.

Only names, types, counts and lengths leave here: no value of a record does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchsent.errors import ShardError, WrongSettingError
from batchsent.records import Position, Shard
from batchsent.schema import KEPT_PREFIX, json_type
from batchsent.stages.reader.delimited import DELIMITERS, other_delimiter, read_delimited, read_header
from batchsent.stages.reader.encoding_check import found_encoding, require_encoding
from batchsent.stages.reader.jsonlines import read_jsonlines
from batchsent.stages.reader.parquet import first_values, is_text, open_parquet
from batchsent.stages.reader.shards import require_few, sampled_keys
from batchsent.stages.reader.text_stream import RECORD_LIMIT_BYTES, open_text

COLUMNS_SAMPLED = 200
"""Of more, only the names are told."""

_NO_COLUMN = "\ud800"
"""The name of none: no file in UTF-8 can hold it."""


@dataclass(frozen=True)
class SurveyRequest:
    """What to look at in a shard, and how it is written as far as that was said."""

    shard: Shard
    encoding: str | None
    """None: find out."""
    delimiter: str | None
    """None: find out."""
    record_count: int
    """Records to look at."""


@dataclass(frozen=True)
class Column:
    """What the first records hold in a column."""

    name: str
    type: str = ""
    """Arrow's name of its type; of CSV and TSV, which have none, what the values look like. '' if nothing was seen."""
    is_string: bool = True
    """Whether ``score`` takes its values for text."""
    filled_count: int = 0
    """Values that are neither null nor blank; the next four are about these."""
    distinct_count: int = 0
    mean_bytes: float = 0.0
    """Of a string in UTF-8."""
    wordy_share: float = 0.0
    """Share of strings with a space or a character beyond ASCII: identifiers and links have neither."""
    foreign_share: float = 0.0
    """Share of letters that are not ASCII."""


@dataclass(frozen=True)
class Survey:
    """A shard as it was found."""

    shard: Shard
    columns: tuple[Column, ...] = ()
    record_count: int | None = None
    """None for text formats: they would have to be read to their end."""
    sampled_count: int = 0
    """Records that were looked at."""
    encoding: str = ""
    """Of a text format; '' where all that was looked at is ASCII."""
    delimiter: str = ""
    """Of CSV and TSV."""
    error: str | None = None
    """Why it cannot be read; None if it can."""


def survey_shard(request: SurveyRequest) -> Survey:
    """Look at the first records. Never raises for a shard that cannot be read."""
    shard = request.shard
    try:
        if shard.format == ".parquet":
            return _survey_parquet(request)
        if request.encoding is not None:
            require_encoding(shard, request.encoding)
        encoding = found_encoding(shard) if request.encoding is None else request.encoding
        if shard.is_json_lines:
            return _survey_jsonlines(request, encoding)
        return _survey_delimited(request, encoding)
    except ShardError as error:
        return Survey(shard, error=str(error))


def _survey_parquet(request: SurveyRequest) -> Survey:
    file = open_parquet(request.shard)
    schema = file.schema_arrow
    require_few(request.shard, schema.names)
    values = first_values(request.shard, file, _looked_at(schema), request.record_count)
    columns = [
        _column(field.name, str(_plain(field.type)), is_text(_plain(field.type)), values.get(field.name, []))
        for field in schema
    ]
    row_count = file.metadata.num_rows
    return Survey(request.shard, tuple(columns), row_count, min(request.record_count, row_count))


def _looked_at(schema: pa.Schema) -> list[str]:
    """Names of columns whose values say something: there once, strings or numbers."""
    said = (is_text, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return [
        field.name
        for field in schema
        if schema.names.count(field.name) == 1 and any(is_one(_plain(field.type)) for is_one in said)
    ][:COLUMNS_SAMPLED]


def _plain(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def _survey_delimited(request: SurveyRequest, encoding: str) -> Survey:
    shard, read_as = request.shard, encoding or "utf-8"
    delimiter = _found_delimiter(shard, read_as) if request.delimiter is None else request.delimiter
    names = read_header(shard, read_as, delimiter)
    require_few(shard, names)
    values, count = _first_values(request, read_as, names, delimiter)
    columns = [_column(name, _look_of(values.get(name, [])), True, values.get(name, [])) for name in names]
    return Survey(shard, tuple(columns), None, count, encoding, delimiter)


def _first_values(
    request: SurveyRequest, encoding: str, names: Sequence[str], delimiter: str
) -> tuple[dict[str, list[str | None]], int]:
    once = [name for name in names if names.count(name) == 1][:COLUMNS_SAMPLED]
    if not once:
        return {}, 0
    part = next(
        read_delimited(
            request.shard,
            encoding=encoding,
            delimiter=delimiter,
            text_column=once[0],
            kept=once,
            rows_per_part=max(1, request.record_count),
            limit=request.record_count,
            start=Position(),
        )
    )
    return {name: part.records.column(KEPT_PREFIX + name).to_pylist() for name in once}, part.records.num_rows


def _found_delimiter(shard: Shard, encoding: str) -> str:
    """That of the extension, unless its header is one field by that and more by another. Raises ShardError."""
    wrong: WrongSettingError | None = None
    try:
        if len(read_header(shard, encoding, None)) > 1:
            return DELIMITERS[shard.format]
    except WrongSettingError as error:  # quotes are malformed, as they are behind another delimiter
        wrong = error
    with open_text(shard, encoding) as stream:
        other = other_delimiter(stream.readline(RECORD_LIMIT_BYTES).decode("latin-1"))
    if other is not None and len(read_header(shard, encoding, other)) > 1:
        return other
    if wrong is not None:
        raise wrong
    return DELIMITERS[shard.format]


def _look_of(values: Sequence[str | None]) -> str:
    filled = [value for value in values if value and not value.isspace()]
    if not filled:
        return ""
    for convert, look in ((int, "whole numbers"), (float, "numbers")):
        try:
            for value in filled:
                convert(value)
        except ValueError:
            continue
        return look
    return "string"


def _survey_jsonlines(request: SurveyRequest, encoding: str) -> Survey:
    shard, read_as = request.shard, encoding or "utf-8"
    # A key with half a character is valid JSON, but no option can name it.
    names = [name for name in sampled_keys(shard, read_as) if _is_valid(name)][:COLUMNS_SAMPLED]
    part = next(
        read_jsonlines(
            shard,
            encoding=read_as,
            text_column=_NO_COLUMN,
            kept=names,
            rows_per_part=max(1, request.record_count),
            limit=request.record_count,
            start=Position(),
        )
    )
    columns = []
    for name in names:
        kinds = set(part.kept_kinds[name])
        is_string = kinds <= {"string"}
        texts = part.records.column(KEPT_PREFIX + name).to_pylist()
        values = [None if text is None else json.loads(text) if is_string else text for text in texts]
        columns.append(_column(name, str(json_type(kinds)) if kinds else "", is_string, values))
    return Survey(shard, tuple(columns), None, part.records.num_rows, encoding)


def _is_valid(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(name: str, type_name: str, is_string: bool, values: Sequence[Any]) -> Column:
    filled = [value for value in values if value is not None and not (isinstance(value, str) and not value.strip())]
    if not filled:
        return Column(name, type_name, is_string)
    distinct_count = len(set(map(str, filled)))
    strings = [value for value in filled if isinstance(value, str)]
    if not is_string or not strings:
        return Column(name, type_name, is_string, len(filled), distinct_count)
    letters = sum(character.isalpha() for text in strings for character in text)
    foreign = sum(character.isalpha() and not character.isascii() for text in strings for character in text)
    wordy = sum(any(c.isspace() or not c.isascii() for c in text.strip()) for text in strings)
    return Column(
        name,
        type_name,
        is_string,
        len(filled),
        distinct_count,
        mean_bytes=sum(len(text.encode("utf-8", "replace")) for text in strings) / len(strings),
        wordy_share=wordy / len(strings),
        foreign_share=foreign / max(1, letters),
    )
