"""How long what is scored takes to be put back in order and written: tried with a few records, in a temporary folder.

By the functions of a run, each with many records and with one, which tells the cost of a part and of a shard from that
of a record.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

import numpy as np

from batchsent import checkpoint
from batchsent.checkpoint import UnitProgress, Work
from batchsent.identity import Identity
from batchsent.plan.sample import Stretch
from batchsent.records import EncodedTexts, Part, Position, Predictions, ScoredPart, ShardDigest, Signature
from batchsent.stages.batcher import batch_part
from batchsent.stages.committer import commit_shard
from batchsent.stages.restorer import restore
from batchsent.stages.writer import write_part
from batchsent.storage import LocalStore
from batchsent.stores import Store

T = TypeVar("T")
Encode = Callable[[Part], EncodedTexts]

_ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Seconds once, and for each record."""

    once: float
    each: float


@dataclass(frozen=True)
class CommitCosts:
    """What it costs besides the passes."""

    restoring: Cost
    part: Cost
    shard: Cost


NO_COMMITS = CommitCosts(Cost(0.0, 0.0), Cost(0.0, 0.0), Cost(0.0, 0.0))
"""Where there is no record to try it with."""


def measure_commits(stretch: Stretch, identity: Identity, encode: Encode) -> CommitCosts:
    """Of records like those of ``stretch``."""
    few, many = _rows(stretch.part, 1), stretch.part
    with tempfile.TemporaryDirectory(prefix="batchsent-") as folder:
        store = LocalStore(folder)
        store.create()
        store.publish_bytes(checkpoint.CONFIG, identity.to_json())
        times = [
            (_seconds(few, encode(few), store, identity), _seconds(many, stretch.encoded, store, identity))
            for _ in range(_ROUNDS)
        ]
    rows = max(2, many.records.num_rows)
    costs = []
    for step in range(3):
        short, long = (median(pair[which][step] for pair in times) for which in (0, 1))
        each = max(0.0, long - short) / (rows - 1)
        costs.append(Cost(max(0.0, short - each), each))
    return CommitCosts(*costs)


def _rows(part: Part, count: int) -> Part:
    return replace(part, records=part.records.slice(0, count))


def _seconds(part: Part, texts: EncodedTexts, store: Store, identity: Identity) -> tuple[float, float, float]:
    """Of restoring the order, of writing the part and of writing the shard, if this part were all of it."""
    count = part.records.num_rows
    part = replace(part, unit=f"{count:032}", index=0, end=Position(count), is_last=True)
    encoded = batch_part(texts, batch_tokens=identity.batch_tokens, special_token_count=0)
    shape = (int(encoded.window_counts.sum()), len(identity.labels))
    predictions = Predictions(np.full(shape, 1 / shape[1], np.float32), {}, 0.0, 0, 0)
    restoring, scored = _timed(lambda: restore(part, encoded, predictions, identity.labelling))
    return restoring, *_commit_seconds(scored, store, identity)


def _commit_seconds(scored: ScoredPart, store: Store, identity: Identity) -> tuple[float, float]:
    writing, file = _timed(lambda: write_part(store, scored))
    progress = UnitProgress()
    progress.add(file)
    digest = ShardDigest("0" * 64, Signature(0, 0, 0, 0))
    work = Work(scored.shard, digest, scored.unit, progress, None)
    committing, _ = _timed(lambda: commit_shard(store, identity, work))
    return writing, committing


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found
