"""What DIR holds, gathered for the page: from the manifest, or, while there is none, from what is committed.

Only reads. The counts are those that the manifest has; nothing grows with the rows.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, PartState, ShardEntry
from batchsent.directory import recorded_identity
from batchsent.distributions import CONFIDENCE_EDGES, LENGTH_EDGES, histogram
from batchsent.errors import TemporaryError
from batchsent.identity import Identity
from batchsent.reporting.committed import UNREADABLE, finished_shards, read_committed
from batchsent.reporting.ranks import recorded_runs
from batchsent.reporting.run_report import RunReport
from batchsent.reporting.standing import Standing, standing_of
from batchsent.reporting.status import not_ours
from batchsent.schema import LABEL, PROBABILITY, REASON, TOKEN_COUNT, TRUNCATED, value_counts
from batchsent.stores import Store

RUNS_READ = 200
"""Records of runs that are looked at, the newest first."""


@dataclass(frozen=True)
class Findings:
    """Everything about DIR but its rows."""

    store: Store
    identity: Identity
    standing: Standing
    totals: dict[str, Any]
    """As ``Manifest.totals()``."""
    shards: tuple[ShardEntry, ...]
    """That are finished."""
    failed: dict[str, str]
    """Shard → why it could not be scored."""
    unlocated_count: int
    """Rejects of shards in work: counted, but their files do not tell which shard they are of."""
    runs: list[tuple[RunReport, str]]
    """And when each record was written; the newest first."""
    run_count: int

    @property
    def scoring_runs(self) -> list[RunReport]:
        """The run that scored last, or of ranks, the last one of each."""
        found: dict[int, RunReport] = {}
        for run, _ in self.runs:
            first = next(iter(found.values()), run)
            if run.record_count and (run.world_size != first.world_size or run.rank in found):
                break
            if run.record_count:
                found[run.rank] = run
        return sorted(found.values(), key=lambda run: run.rank)

    @property
    def inputs(self) -> list[str]:
        """INPUT... of the newest run that names them."""
        return next((run.inputs for run, _ in self.runs if run.inputs), [])


def find(store: Store, check: Callable[[], None] = lambda: None) -> Findings:
    """Look at DIR. Raises UsageError if it is not ours, TemporaryError if a run in it has only just begun."""
    is_locked = store.is_locked()
    identity = recorded_identity(store)
    if identity is None:
        if is_locked:
            raise TemporaryError(
                f"a run in {store.root} has just begun", "one whose settings are written", "wait a moment"
            )
        raise not_ours(store)
    standing = standing_of(store, is_locked=is_locked)
    runs = list(itertools.islice(recorded_runs(store), RUNS_READ))
    if standing.manifest is not None:
        manifest, unlocated_count = standing.manifest, 0
        totals = manifest.totals()
    else:
        manifest, totals, unlocated_count = _committed(store, identity, check)
    zeros = [0] * (len(CONFIDENCE_EDGES) + 1), [0] * (len(LENGTH_EDGES) + 1)
    for name, none in zip(("confidence_counts", "length_counts"), zeros, strict=True):
        totals[name] = totals[name] or none
    return Findings(
        store=store,
        identity=identity,
        standing=standing,
        totals=totals,
        shards=manifest.shards,
        failed=manifest.failed,
        unlocated_count=unlocated_count,
        runs=runs,
        run_count=len(store.list(checkpoint.RUNS)),
    )


def _committed(store: Store, identity: Identity, check: Callable[[], None]) -> tuple[Manifest, dict[str, Any], int]:
    """The finished shards, what is there in all, and how many rejects of it are not of a finished shard."""
    committed, counts = read_committed(store, check), _PartCounts()
    for name in committed.open_parts:
        check()
        with contextlib.suppress(*UNREADABLE):
            counts.add(store, name)
    finished = finished_shards(store, identity, committed)
    manifest = Manifest(identity.fingerprint, tuple(finished[name] for name in sorted(finished)))
    return manifest, counts.added_to(manifest.totals()), counts.rejects.total()


class _PartCounts:
    """What parts hold whose shard is not finished."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.confidences = histogram(np.empty(0), CONFIDENCE_EDGES)
        self.lengths = histogram(np.empty(0), LENGTH_EDGES)

    def add(self, store: Store, name: str) -> None:
        """Read a part's columns but those that were kept."""
        with store.open(name) as handle, pq.ParquetFile(handle, pre_buffer=False) as file:
            columns = [REASON, LABEL, PROBABILITY, TOKEN_COUNT, TRUNCATED]
            table = file.read(columns=columns, use_threads=False)
        state, rejects = PartState.from_metadata(table.schema.metadata), value_counts(table.column(REASON))
        self.rejects.update(rejects)
        self.labels.update(value_counts(table.column(LABEL).cast(pa.string())))
        self.numbers["record_count"] += state.record_count
        self.numbers["row_count"] += table.num_rows - sum(rejects.values())
        self.numbers["token_count"] += state.token_count
        self.numbers["truncated_count"] += pc.sum(table.column(TRUNCATED)).as_py() or 0
        self.confidences += histogram(table.column(PROBABILITY).drop_null().to_numpy(), CONFIDENCE_EDGES)
        self.lengths += histogram(table.column(TOKEN_COUNT).drop_null().to_numpy(), LENGTH_EDGES)

    def added_to(self, totals: dict[str, Any]) -> dict[str, Any]:
        """``totals`` of the finished shards, with these."""
        added: dict[str, Any] = {name: totals[name] + count for name, count in self.numbers.items()}
        for name, counter in (("reject_counts", self.rejects), ("label_counts", self.labels)):
            added[name] = dict(sorted((Counter(totals[name]) + counter).items()))
        for name, counts in (("confidence_counts", self.confidences), ("length_counts", self.lengths)):
            finished = totals[name] or [0] * len(counts)
            added[name] = [count + more for count, more in zip(finished, counts.tolist(), strict=True)]
        return totals | added
