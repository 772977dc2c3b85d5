"""``batchsent score``, whole: from INPUT to ``_SUCCESS``.

    INPUT → planner → reader → encoder, batcher → classifier → restorer → writer → committer → DIR

What lies before the first record and after the last part is here. Between them ``scoring.Scorer`` is that line as code,
in this process, in every rank and in every replica on a Ray cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.audit import Auditor
from batchsent.closing import Closing, has_nothing_to_do
from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import HashFile, adopt, begin, require_free_names
from batchsent.drift import DriftGate
from batchsent.errors import (
    BatchsentError,
    DriftError,
    IncompleteError,
    StoppedError,
    StorageError,
    VanishedError,
    without_secrets,
)
from batchsent.identity import Identity
from batchsent.ledger import Ledger
from batchsent.machine import choose_device
from batchsent.objects.uris import is_object
from batchsent.plan.remembered import planned_for
from batchsent.preparation import inspect_shards, pieces_of, require_space, tasks_of
from batchsent.records import Inspection, Shard
from batchsent.reporting.metrics import MetricsFile, metrics_of
from batchsent.reporting.progress import NoProgress, Progress
from batchsent.reporting.recorder import Recorder
from batchsent.reporting.run_report import RunReport, State
from batchsent.scoring import LoadModel, Scorer, Tasks
from batchsent.shares import ALONE, Share
from batchsent.stages import committer
from batchsent.stages.planner import place, plan_shards
from batchsent.stages.reader import ReaderProcess
from batchsent.stop import StopSignal
from batchsent.stores import Store, open_store

if TYPE_CHECKING:
    from batchsent.engines.ray import Cluster


def run_job(
    config: ScoreConfig,
    *,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
    load_model: LoadModel | None = None,
    report: RunReport | None = None,
    share: Share = ALONE,
) -> RunReport:
    """Score, checkpoint, resume, publish. Returns what happened; raises BatchsentError where that is not all.

    ``share`` says which part of it to score where other ranks do the rest; the last of them publishes. ``load_model``
    stands in for the real model in measurements of everything else.
    """
    report = report or RunReport()
    with metrics_of(config, share, report) as metrics:
        return _run_job(config, progress or NoProgress(), stop or StopSignal(), load_model, report, share, metrics)


def _run_job(
    config: ScoreConfig,
    progress: Progress,
    stop: StopSignal,
    load_model: LoadModel | None,
    report: RunReport,
    share: Share,
    metrics: MetricsFile | None,
) -> RunReport:
    began, check = time.monotonic(), partial(_check, stop, metrics)
    store = open_store(place(config.output, "--output"))
    shards = plan_shards(config.inputs, store.root)
    if config.engine == "ray":
        shards = [shard.from_root() for shard in shards]
    report.shard_count, report.input_bytes = len(shards), sum(shard.size_bytes for shard in shards)
    report.rank, report.world_size = share.rank, share.world_size
    report.inputs = [without_secrets(_from_root(given)) for given in config.inputs]
    drift_gate = DriftGate.of(config)
    store.create()
    with store.lock(share):
        store.remove_orphans()
        digests = DigestCache(store, check)
        identity = adopt(store, config, digests.of_model)
        if identity is not None:
            report.settle(identity)
            if has_nothing_to_do(Ledger(store, identity, digests), store, shards, report, audit_count=config.audit):
                committer.confirm_success(store)
                report.seconds = time.monotonic() - began
                with contextlib.suppress(StorageError):  # published it is, also on a disk that is full by now
                    digests.save()
                return report
        with ReaderProcess(check) as reader, _cluster(config, share, stop) as cluster:
            # Before anything is decided: a wrong column must not make DIR the property of wrong settings.
            inspections = inspect_shards(reader, shards, config)
            if share.local_rank is not None:
                config = replace(config, device=choose_device(config.device, share.local_rank))
            if identity is None and cluster is not None:
                identity = cluster.begin(config, input_bytes=report.input_bytes)
            elif identity is None:
                share_bytes = report.input_bytes // share.world_size
                decide = partial(begin, store, config, digests.of_model, check, input_bytes=share_bytes)
                identity = decide() if share.is_whole else _in_turn(store, config, digests.of_model, check, decide)
            report.settle(identity)
            if drift_gate is not None:
                drift_gate.require_labels(identity.labels)
            ledger = Ledger(store, identity, digests, check)
            require_free_names(store, (shard for shard in shards if shard.name not in ledger.listed))
            require_space(store, identity, [i for i in inspections if i.shard.name not in ledger.listed])
            recorder = Recorder(store, report, metrics)
            run = _Run(config, store, identity, ledger, digests, report, recorder, stop, share, drift_gate, progress)
            try:
                if run.begin(inspections):
                    if cluster is not None:
                        run.score_on(cluster, inspections)
                    else:
                        run.score_here(reader, inspections, load_model)
                        report.plan = planned_for(report, identity, config, share, shards)
                    run.close(reader, shards)
            except BatchsentError as error:
                report.end(_STATES.get(type(error), "failed"), str(error))
                raise
            finally:
                report.seconds = time.monotonic() - began
                # Neither is worth an error of its own, least of all in place of the one that ended the run.
                with contextlib.suppress(StorageError):
                    report.save(store)
                    digests.save()
    return report


def _check(stop: StopSignal, metrics: MetricsFile | None) -> None:
    """Called wherever the run waits: stop it if it shall stop, and say that it is alive."""
    stop.check()
    if metrics is not None:
        metrics.write_in_time()


def _from_root(given: str) -> str:
    """An INPUT as it can be found from another working directory."""
    named = place(given, "INPUT")
    return named if is_object(named) else str(Path(named).absolute())


@contextlib.contextmanager
def _cluster(config: ScoreConfig, share: Share, stop: StopSignal) -> Iterator[Cluster | None]:
    """The Ray cluster that scores, if one is to."""
    if config.engine != "ray":
        yield None
        return
    from batchsent.engines.ray import connected

    with connected(config, share, stop) as cluster:
        yield cluster


def _in_turn(
    store: Store,
    config: ScoreConfig,
    hash_file: HashFile,
    check: Callable[[], None],
    decide: Callable[[], Identity],
) -> Identity:
    """The settings of DIR, which had none a moment ago: one rank decides them, the others find them."""
    with store.turn(check):
        return adopt(store, config, hash_file) or decide()


_STATES: dict[type[BatchsentError], State] = {
    StoppedError: "stopped",
    IncompleteError: "not published",
    DriftError: "held back",
}


@dataclass(frozen=True)
class _Run:
    """One run on a DIR that is locked and whose settings are settled."""

    config: ScoreConfig
    store: Store
    identity: Identity
    ledger: Ledger
    digests: DigestCache
    report: RunReport
    recorder: Recorder
    stop: StopSignal
    share: Share
    drift_gate: DriftGate | None
    progress: Progress

    def begin(self, inspections: list[Inspection]) -> bool:
        """Take back what DIR promised; False where other ranks have published while this one began."""
        if not self.share.is_whole:
            self.ledger.refresh()
            shards = [inspection.shard for inspection in inspections]
            if has_nothing_to_do(self.ledger, self.store, shards, self.report, audit_count=self.config.audit):
                return False
        committer.begin_changes(self.store, self.identity.fingerprint)
        self.ledger.refresh()  # what a rank that published until just now has finished, it has also cleared
        self.recorder.record()
        return True

    def score_here(self, reader: ReaderProcess, inspections: list[Inspection], load_model: LoadModel | None) -> None:
        """Score this rank's share."""
        identity = self.identity
        tasks = tasks_of(inspections, self.share, rows_per_part=identity.rows_per_part, limit=identity.limit)
        if not self.share.is_whole:
            self.report.share_bytes = sum(task.size_bytes for task in tasks)
        scorer = Scorer(
            self.config,
            self.store,
            identity,
            self.ledger,
            self.digests,
            self.report,
            self.stop,
            load_model=load_model,
            neighbours=self.share.local_world_size,
            record=self.recorder.record_in_time,
        )
        scorer.score(reader, Tasks(tasks), self.progress)

    def score_on(self, cluster: Cluster, inspections: list[Inspection]) -> None:
        """Score all on the replicas of a cluster, but for the shards that are finished."""
        identity, shards = self.identity, [inspection.shard for inspection in inspections]
        finished = self.ledger.find_finished(shards)
        for shard in finished:
            self.report.count_kept(shard.size_bytes, finished=True)
        for inspection in inspections:
            if inspection.error is not None:
                self.ledger.fail(inspection.shard, inspection.error)
        left = [i for i in inspections if i.error is None and i.shard.name not in self.ledger.entries]
        pieces = pieces_of(left, cluster.capacity(identity), rows_per_part=identity.rows_per_part, limit=identity.limit)
        if pieces:
            cluster.score(
                self.config, identity, pieces, self.ledger, self.digests, self.report, self.progress, self.recorder
            )
        missing = self.ledger.unfinished(shards)
        if missing:
            raise VanishedError(
                f"{len(missing)} shards were scored, and parts of them are not there ({missing[0].name})",
                f"all in {self.store.root}, seen alike from every node",
                "run again to resume",
            )

    def close(self, reader: ReaderProcess, shards: list[Shard]) -> None:
        """Publish, or leave that to other ranks."""
        record = self.recorder.record_in_time
        auditor = Auditor(self.config, self.store, self.identity, self.digests, reader, self.stop, record)
        closing = Closing(
            self.config, self.store, self.ledger, self.digests, self.report, self.share, self.drift_gate, auditor
        )
        closing.close(shards, self.stop.check)
