"""The label column before anything is scored, and what a run has written, read back."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.checkpoint import load_manifest
from batchsent.config import ScoreConfig
from batchsent.directory import recorded_identity
from batchsent.errors import InputError, ShardError, VanishedError
from batchsent.evaluation.labels import Cell, cell_of
from batchsent.identity import Identity
from batchsent.preparation import inspect_shards
from batchsent.records import Inspection, Shard, ShardDigest
from batchsent.schema import KEPT_PREFIX, PROBABILITIES, ROW_INDEX, json_array
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess, ReadRequest
from batchsent.storage import LocalStore
from batchsent.stores import signature

TRUTH, REVIEW = "true_label", "review"
"""Under which names the label and the text are kept: no others are, so they meet none."""

_JSON_FORMATS = (".jsonl", ".ndjson")
_READ_ROWS = 16_384
_SHOWN_CHARACTERS = 40
_SHARD_SHIFT = 40
"""Bits of a row's key that are its index in the shard."""


@dataclass(frozen=True)
class Scored:
    """What a run made of every record that it could score, in input order."""

    identity: Identity
    record_count: int
    """With those that were rejected."""
    reject_counts: dict[str, int]
    shards: tuple[str, ...]
    """Their names; those of another run on the same input are the same."""
    keys: npt.NDArray[np.int64]
    """[rows], ascending: which shard and which record."""
    cells: list[Cell]
    """[rows]: the label column."""
    reviews: pa.ChunkedArray[Any] | None
    """[rows]: the texts, if they were kept."""
    probabilities: npt.NDArray[np.float32]
    """[rows, labels]"""

    def place(self, row: int) -> tuple[str, int]:
        """(shard, index of the record in it)"""
        key = int(self.keys[row])
        return self.shards[key >> _SHARD_SHIFT], key & ((1 << _SHARD_SHIFT) - 1)


def kept_columns(label_column: str, text_column: str | None) -> tuple[str, ...]:
    """What ``--keep`` must be for :func:`read_scored`; the texts only if asked for."""
    return (f"{label_column}={TRUTH}", *([f"{text_column}={REVIEW}"] if text_column else []))


def read_scored(directory: Path) -> Scored:
    """Everything that the run in ``directory`` published."""
    store = LocalStore(directory)
    identity, manifest = recorded_identity(store), load_manifest(store)
    if identity is None or manifest is None:
        raise VanishedError(f"what was written to {directory} is gone", "a folder that nobody clears", "run again")
    names = [ROW_INDEX, PROBABILITIES, TRUTH, REVIEW]
    tables = [_table(store.path(entry.output.path), names) for entry in manifest.shards]
    keys = [table.column(ROW_INDEX).to_numpy() + (index << _SHARD_SHIFT) for index, table in enumerate(tables)]
    totals = manifest.totals()
    return Scored(
        identity=identity,
        record_count=totals["record_count"],
        reject_counts=totals["reject_counts"],
        shards=tuple(entry.shard for entry in manifest.shards),
        keys=np.concatenate(keys).astype(np.int64),
        cells=[cell for table in tables for cell in _cells(table, TRUTH)],
        reviews=_joined(tables, REVIEW),
        probabilities=np.concatenate([_probabilities(table, len(identity.labels)) for table in tables]),
    )


def _table(path: Path, names: list[str]) -> pa.Table:
    file = pq.ParquetFile(path)
    # Of JSON Lines, a shard has a kept column only if some record has that key.
    return file.read([name for name in names if name in file.schema_arrow.names])


def _cells(table: pa.Table, name: str) -> list[Cell]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return [cell_of(value) for value in table.column(name).to_pylist()]


def _joined(tables: list[pa.Table], name: str) -> pa.ChunkedArray[Any] | None:
    if not all(name in table.column_names for table in tables):
        return None
    chunks = [table.column(name).cast(pa.large_string()) for table in tables]
    return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], pa.large_string())


def _probabilities(table: pa.Table, label_count: int) -> npt.NDArray[np.float32]:
    structs = table.column(PROBABILITIES).combine_chunks()
    columns = [structs.field(index).to_numpy(zero_copy_only=False) for index in range(label_count)]
    return np.column_stack(columns).astype(np.float32, copy=False)


def label_cells(config: ScoreConfig, label_column: str, check: Callable[[], None]) -> set[Cell]:
    """What the label column of the input holds, each value once. check is called meanwhile, and may raise.

    Read before anything is scored, so that what is wrong with it is not found an hour later. Raises InputError if a
    shard cannot be read to its end, or does not have the column.
    """
    config = replace(
        config, keep=(), keep_all=False, label_column=None
    )  # whose absence would be told as that of --keep
    shards = plan_shards(config.inputs, Path(os.devnull))
    cells: set[Cell] = set()
    with ReaderProcess(check) as reader:
        for inspection in inspect_shards(reader, shards, config):
            _require_column(inspection, label_column)
            try:
                cells |= _cells_of_shard(reader, _request(inspection.shard, config, label_column), label_column)
            except ShardError as error:
                raise InputError(str(error)) from error
    return cells


def _require_column(inspection: Inspection, label_column: str) -> None:
    shard, columns = inspection.shard, inspection.columns
    if inspection.error is not None:
        raise InputError(inspection.error)
    if label_column in columns or shard.format in _JSON_FORMATS:  # whose records may each have other keys
        return
    near = difflib.get_close_matches(label_column, columns, 1)
    raise InputError(
        f"column {label_column!r} is not in {shard.name}",
        f"one of: {', '.join(name[:_SHOWN_CHARACTERS] for name in columns[:20])}",
        f"did you mean --label-column {near[0]!r}?" if near else "pass --label-column",
    )


def _request(shard: Shard, config: ScoreConfig, label_column: str) -> ReadRequest:
    found = signature(shard.path)
    if found is None:
        raise InputError(f"{shard.name} is gone", "a file that stays", "check the path")
    return ReadRequest(
        shard=shard,
        unit="",
        digest=ShardDigest("", found),
        done={},
        text_column=config.text_column,
        kept=(label_column,),
        encoding=config.encoding,
        delimiter=config.delimiter,
        rows_per_part=_READ_ROWS,
        limit=config.limit,
    )


def _cells_of_shard(reader: ReaderProcess, request: ReadRequest, label_column: str) -> set[Cell]:
    values: set[Any] = set()
    kinds: set[str] = set()
    name, is_json = KEPT_PREFIX + label_column, request.shard.format in _JSON_FORMATS
    for part in reader.read(request):
        kinds.update(part.kept_kinds.get(label_column, ()))
        if name in part.records.column_names:
            column = part.records.column(name).to_pylist()
            values.update(column if is_json else map(cell_of, column))
    if not is_json:
        return values
    # JSON is text until the kinds of all its values are known.
    texts = pa.chunked_array([pa.array(list(values), pa.string())])
    return {cell_of(value) for value in json_array(texts, kinds).to_pylist()}
