"""The label column before anything is scored, and what a run has written, read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.checkpoint import load_manifest
from batchsent.config import ScoreConfig
from batchsent.directory import recorded_identity
from batchsent.errors import InputError, VanishedError
from batchsent.identity import Identity
from batchsent.labelled import Columns, read_parts
from batchsent.labels import Cell, cell_of
from batchsent.records import Part, ShardDigest
from batchsent.schema import KEPT_PREFIX, PROBABILITIES, ROW_INDEX, json_array
from batchsent.stages.planner import plan_shards
from batchsent.storage import LocalStore
from batchsent.stores import signature

TRUTH, REVIEW = "true_label", "review"
"""Under which names the label and the text are kept: no others are, so they meet none."""

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
    shards = plan_shards(config.inputs, Path(os.devnull))
    columns = Columns(config.text_column, label_column, config.encoding, config.delimiter, config.limit)
    cells: set[Cell] = set()
    with closing(read_parts(shards, columns, _without_hash, check)) as parts:
        for _, parts_of_shard in groupby(parts, key=lambda part: part.shard.path):
            cells |= _cells_of_shard(parts_of_shard, label_column)
    return cells


def _without_hash(path: str) -> ShardDigest:
    """Enough to see that a file changes while it is read: nothing is remembered of it."""
    found = signature(path)
    if found is None:
        raise InputError(f"{path} is gone", "a file that stays", "check the path")
    return ShardDigest("", found)


def _cells_of_shard(parts: Iterable[Part], label_column: str) -> set[Cell]:
    cells: set[Cell] = set()
    texts: set[str | None] = set()
    kinds: set[str] = set()
    name = KEPT_PREFIX + label_column
    for part in parts:
        kinds.update(part.kept_kinds.get(label_column, ()))
        if name in part.records.column_names:
            column = part.records.column(name).to_pylist()
            if part.shard.is_json_lines:
                texts.update(column)
            else:
                cells.update(map(cell_of, column))
    # JSON is text until the kinds of all its values are known.
    values = json_array(pa.chunked_array([pa.array(list(texts), pa.string())]), kinds)
    return cells | {cell_of(value) for value in values.to_pylist()}
