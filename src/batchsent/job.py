"""``batchsent score``, whole: from INPUT to ``_SUCCESS``.

    INPUT → planner → reader → encoder, batcher → classifier → restorer → writer → committer → DIR

What lies before the first record and after the last part is here. Between them ``scoring.Scorer`` is that line as code,
in this process, in every rank and in every replica on a Ray cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.audit import Auditor
from batchsent.closing import Closing, judge_published, published_before
from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import adopt, begin, require_free_names
from batchsent.drift import DriftGate
from batchsent.errors import (
    DriftError,
    IncompleteError,
    StoppedError,
    StorageError,
    VanishedError,
    told,
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
from batchsent.run import Run
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
        job = _Job(config, share, report, progress or NoProgress(), stop or StopSignal(), load_model, metrics)
        job.run()
    return report


@dataclass(frozen=True)
class _Job:
    """What was asked for, and who is told of it."""

    config: ScoreConfig
    share: Share
    report: RunReport
    progress: Progress
    stop: StopSignal
    load_model: LoadModel | None
    metrics: MetricsFile | None

    def run(self) -> None:
        """All of it; the report says what happened."""
        began = time.monotonic()
        store = open_store(place(self.config.output, "--output"))
        shards = self._plan(store)
        drift_gate = DriftGate.of(self.config)
        store.create()
        with store.lock(self.share):
            store.remove_orphans()
            digests = DigestCache(store, self._check)
            identity = adopt(store, self.config, digests.of_model)
            if identity is not None:
                run = self._run_of(store, identity, digests)
                manifest = published_before(run, shards)
                if manifest is not None:
                    committer.confirm_success(store)
                    judge_published(run, manifest, drift_gate)
                    self.report.seconds = time.monotonic() - began
                    with contextlib.suppress(StorageError):  # published it is, also on a disk that is full by now
                        digests.save()
                    return
            with ReaderProcess(self._check) as reader, self._cluster() as cluster:
                # Before anything is decided: a wrong column must not make DIR the property of wrong settings.
                inspections = inspect_shards(reader, shards, self.config)
                job = self._on_its_device()
                run = job._run_of(store, identity or job._decide(store, digests, cluster), digests)
                if drift_gate is not None:
                    drift_gate.require_labels(run.identity.labels)
                require_free_names(store, (shard for shard in shards if shard.name not in run.ledger.listed))
                require_space(store, run.identity, [i for i in inspections if i.shard.name not in run.ledger.listed])
                try:
                    job._score(run, inspections, reader, cluster, drift_gate)
                except Exception as error:
                    self.report.end(_STATES.get(type(error), "failed"), without_secrets(told(error)))
                    raise
                finally:
                    self.report.seconds = time.monotonic() - began
                    # Neither is worth an error of its own, least of all in place of the one that ended the run.
                    with contextlib.suppress(StorageError):
                        self.report.save(store)
                        digests.save()

    # --- before the first record

    def _plan(self, store: Store) -> list[Shard]:
        """The shards of the input, which the report counts. Raises UsageError if there are none."""
        config, report, share = self.config, self.report, self.share
        shards = plan_shards(config.inputs, store.root)
        if config.engine == "ray":
            shards = [shard.from_root() for shard in shards]
        report.shard_count, report.input_bytes = len(shards), sum(shard.size_bytes for shard in shards)
        report.rank, report.world_size = share.rank, share.world_size
        report.inputs = [without_secrets(_from_root(given)) for given in config.inputs]
        return shards

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[Cluster | None]:
        """The Ray cluster that scores, if one is to."""
        if self.config.engine != "ray":
            yield None
            return
        from batchsent.engines.ray import connected

        with connected(self.config, self.share, self.stop) as cluster:
            yield cluster

    def _on_its_device(self) -> _Job:
        """Where several ranks share a machine, each on a device of its own."""
        if self.share.local_rank is None:
            return self
        device = choose_device(self.config.device, self.share.local_rank)
        return replace(self, config=replace(self.config, device=device))

    def _decide(self, store: Store, digests: DigestCache, cluster: Cluster | None) -> Identity:
        """The settings of DIR, which had none a moment ago: one rank decides them, the others find them."""
        if cluster is not None:
            return cluster.begin(self.config, input_bytes=self.report.input_bytes)
        share_bytes = self.report.input_bytes // self.share.world_size
        decide = partial(begin, store, self.config, digests.of_model, self._check, input_bytes=share_bytes)
        if self.share.is_whole:
            return decide()
        with store.turn(self._check):
            return adopt(store, self.config, digests.of_model) or decide()

    def _run_of(self, store: Store, identity: Identity, digests: DigestCache) -> Run:
        """DIR is locked, and what it records is settled."""
        self.report.settle(identity)
        ledger = Ledger(store, identity, digests, self._check)
        return Run(self.config, store, identity, ledger, digests, self.report, self.stop)

    def _check(self) -> None:
        """Called wherever the run waits: stop it if it shall stop, and say that it is alive."""
        self.stop.check()
        if self.metrics is not None:
            self.metrics.write_in_time()

    # --- from the first record to the last

    def _score(
        self,
        run: Run,
        inspections: list[Inspection],
        reader: ReaderProcess,
        cluster: Cluster | None,
        drift_gate: DriftGate | None,
    ) -> None:
        """Score what is left, and publish it or leave that to other ranks."""
        shards = [inspection.shard for inspection in inspections]
        recorder = Recorder(run.store, self.report, self.metrics)
        if not self._begin(run, shards, recorder):
            return
        if cluster is not None:
            self._score_on(cluster, run, inspections, recorder)
        else:
            self._score_here(run, inspections, reader, recorder)
            self.report.plan = planned_for(self.report, run.identity, self.config, self.share, shards)
        Closing(run, self.share, drift_gate, Auditor(run, reader, recorder.record_in_time)).close(shards)

    def _begin(self, run: Run, shards: list[Shard], recorder: Recorder) -> bool:
        """Take back what DIR promised; False where other ranks have published while this one began."""
        if not self.share.is_whole:
            run.ledger.refresh()
            if published_before(run, shards) is not None:
                return False
        committer.begin_changes(run.store, run.identity.fingerprint)
        run.ledger.refresh()  # what a rank that published until just now has finished, it has also cleared
        recorder.record()
        return True

    def _score_here(self, run: Run, inspections: list[Inspection], reader: ReaderProcess, recorder: Recorder) -> None:
        """Score this rank's share."""
        identity = run.identity
        tasks = tasks_of(inspections, self.share, rows_per_part=identity.rows_per_part, limit=identity.limit)
        if not self.share.is_whole:
            self.report.share_bytes = sum(task.size_bytes for task in tasks)
        scorer = Scorer(
            run,
            load_model=self.load_model,
            neighbours=self.share.local_world_size,
            record=recorder.record_in_time,
        )
        scorer.score(reader, Tasks(tasks), self.progress)

    def _score_on(self, cluster: Cluster, run: Run, inspections: list[Inspection], recorder: Recorder) -> None:
        """Score all on the replicas of a cluster, but for the shards that are finished."""
        identity, ledger, shards = run.identity, run.ledger, [inspection.shard for inspection in inspections]
        for shard in ledger.find_finished(shards):
            self.report.count_kept(shard.size_bytes, finished=True)
        for inspection in inspections:
            if inspection.error is not None:
                ledger.fail(inspection.shard, inspection.error)
        left = [i for i in inspections if i.error is None and i.shard.name not in ledger.entries]
        pieces = pieces_of(left, cluster.capacity(identity), rows_per_part=identity.rows_per_part, limit=identity.limit)
        if pieces:
            cluster.score(run, pieces, self.progress, recorder)
        missing = ledger.unfinished(shards)
        if missing:
            raise VanishedError(
                f"{len(missing)} shards were scored, and parts of them are not there ({missing[0].name})",
                f"all in {run.store.root}, seen alike from every node",
                "run again to resume",
            )


def _from_root(given: str) -> str:
    """An INPUT as it can be found from another working directory."""
    named = place(given, "INPUT")
    return named if is_object(named) else str(Path(named).absolute())


_STATES: dict[type[Exception], State] = {
    StoppedError: "stopped",
    IncompleteError: "not published",
    DriftError: "held back",
}
