"""One replica of the model on a cluster: pieces of the input in, committed parts out.

Several calls run at a time, so that the next piece is at hand when one ends; what they bring goes through one pipeline.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache, Records
from batchsent.errors import BatchsentError
from batchsent.identity import Identity
from batchsent.ledger import Ledger
from batchsent.records import Task
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.run import Run
from batchsent.scoring import Scorer, Tasks
from batchsent.stages.planner import place
from batchsent.stages.reader import ReaderProcess
from batchsent.stop import StopSignal
from batchsent.stores import open_store


@dataclass(frozen=True)
class Setup:
    """What every replica is made of."""

    config: ScoreConfig
    identity: Identity
    pieces: list[list[Task]]
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """What became of a piece."""

    report: RunReport | None = None
    """All that this replica has done so far."""
    failed: dict[str, str] = field(default_factory=dict)
    """Shards that could not be scored, of all so far."""
    digests: Records = field(default_factory=dict)
    """Of files that were hashed since the last piece."""
    error: BatchsentError | None = None
    """Why the run has to end."""


class Replica:
    """Scores pieces on the device that is there, and commits them."""

    def __init__(self, setup: Setup, *, neighbours: int) -> None:
        """``neighbours`` is how many replicas share this machine's processors."""
        store, stop = open_store(place(setup.config.output, "--output")), StopSignal()
        digests = DigestCache(store)
        ledger = Ledger(store, setup.identity, digests)
        self._run = Run(setup.config, store, setup.identity, ledger, digests, RunReport(), stop)
        self._pieces = setup.pieces
        self._reader = ReaderProcess(stop.check)
        self._scorer = Scorer(self._run, neighbours=neighbours, done=self._finish)
        self._tasks = Tasks()
        self._waiting: dict[int, list[Future[None]]] = {}
        self._lock = threading.Lock()
        self._is_running = False
        self._error: BaseException | None = None

    def score(self, index: int) -> Outcome:
        """Score a piece. Other threads may call it meanwhile; each gets its answer when its own piece is done."""
        futures = [self._add(task) for task in self._pieces[index]]
        try:
            for future in futures:
                future.result()
        except BatchsentError as error:
            return Outcome(error=error)
        return Outcome(self._run.report.copy(), self._run.ledger.failed, self._run.digests.news())

    def close(self) -> None:
        """End the reader. Nothing may be at work."""
        self._reader.close()

    def _add(self, task: Task) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._error is not None:
                future.set_exception(self._error)
                return future
            waiting = self._waiting.setdefault(id(task), [])
            waiting.append(future)
            if len(waiting) > 1:  # handed out again, while it is at work here
                return future
            self._tasks.add(task)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._work, name="replica", daemon=True).start()
        return future

    def _finish(self, task: Task) -> None:
        with self._lock:
            for future in self._waiting.pop(id(task), ()):
                future.set_result(None)

    def _work(self) -> None:
        """Score for as long as there is something to do."""
        while True:
            try:
                self._scorer.score(self._reader, self._tasks, NoProgress())
            except BaseException as error:  # noqa: BLE001 - raised again where somebody waits
                self._fail(error)
                return
            with self._lock:
                if not self._tasks:
                    self._is_running = False
                    return

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = error
            for futures in self._waiting.values():
                for future in futures:
                    future.set_exception(error)
            self._waiting.clear()
