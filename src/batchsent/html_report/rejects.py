"""Where the first rejected rows of each reason are, as the rejects' files say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.checkpoint import ShardEntry
from batchsent.errors import BatchsentError
from batchsent.schema import BYTE_OFFSET, DETAIL, REASON, ROW_INDEX
from batchsent.stores import Store

EXAMPLE_COUNT = 20
"""Of each reason; all are counted."""
_BATCH_ROWS = 8_192


@dataclass(frozen=True)
class Reject:
    """A row that was rejected."""

    shard: str
    row_index: int
    byte_offset: int | None
    reason: str
    detail: str
    text: str | None = None
    """What it holds, or None where that was not asked for, or cannot be had."""
    obstacle: str = ""
    """Why it cannot."""


@dataclass(frozen=True)
class RejectExamples:
    """Some of each reason, in the order of the shards' names."""

    by_reason: dict[str, list[Reject]]
    unreadable: tuple[str, ...]
    """Files of rejects that could not be read."""


def read_examples(store: Store, shards: tuple[ShardEntry, ...], check: Callable[[], None]) -> RejectExamples:
    """The first :data:`EXAMPLE_COUNT` rejects of each reason; reads no file that can hold none of them."""
    found: dict[str, list[Reject]] = {reason: [] for entry in shards for reason in sorted(entry.reject_counts)}
    unreadable: list[str] = []
    for entry in shards:
        wanted = {reason for reason in entry.reject_counts if len(found[reason]) < EXAMPLE_COUNT}
        if not wanted:
            continue
        try:
            for reject in _first_of_each(
                store, entry, {reason: EXAMPLE_COUNT - len(found[reason]) for reason in wanted}
            ):
                check()
                found[reject.reason].append(reject)
        except (OSError, pa.ArrowException, BatchsentError):  # not their messages, which may quote what is in it
            check()
            unreadable.append(entry.rejects.path)
    return RejectExamples({reason: rejects for reason, rejects in sorted(found.items()) if rejects}, tuple(unreadable))


def _first_of_each(store: Store, entry: ShardEntry, wanted: dict[str, int]) -> Iterator[Reject]:
    """The first rejects of a shard, as many of each reason as ``wanted`` says."""
    left = {reason: min(count, entry.reject_counts[reason]) for reason, count in wanted.items()}
    columns = [ROW_INDEX, BYTE_OFFSET, REASON, DETAIL]
    with store.open(entry.rejects.path) as handle, pq.ParquetFile(handle, pre_buffer=False) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            reasons = batch.column(REASON).to_numpy(zero_copy_only=False)
            rows = [np.flatnonzero(reasons == reason)[:count] for reason, count in left.items()]
            for row in sorted(np.concatenate([np.empty(0, np.int64), *rows]).tolist()):
                values = {name: batch.column(name)[row].as_py() for name in columns}
                left[values[REASON]] -= 1
                yield Reject(entry.shard, values[ROW_INDEX], values[BYTE_OFFSET], values[REASON], values[DETAIL] or "")
            if not any(left.values()):
                return
