"""A Ray cluster as engine: Ray Data keeps a pool of actors that hold the model, and hands each one piece by piece.

What an actor does is :class:`batchsent.engines.replica.Replica`'s; who died is replaced, and its pieces are handed out
again, by Ray. Needs Ray 2.55 or later.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import queue
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import begin
from batchsent.engines.replica import Outcome, Replica, Setup
from batchsent.errors import BatchsentError, DeviceError, NotAvailableError, UsageError
from batchsent.identity import Identity
from batchsent.models.resolution import EMBEDDED, local_directory
from batchsent.objects.uris import is_object
from batchsent.records import Task
from batchsent.reporting import logs
from batchsent.reporting.progress import Progress, showing
from batchsent.reporting.recorder import Recorder
from batchsent.reporting.run_report import RunReport
from batchsent.run import Run
from batchsent.scoring import warn_of_unknown_tokens
from batchsent.shares import Share
from batchsent.stages.planner import place
from batchsent.stop import StopSignal
from batchsent.stores import open_store

log = logging.getLogger(__name__)

TRIES = 8
"""Of a piece, when the processes or nodes that had it died."""
CALLS_AT_ONCE = 3
"""Of one replica: a piece is computed, one is read, one waits."""

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 10.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that is left when the run is over must not begin another one
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what it has to say stands in the cluster's own logs
}


@contextlib.contextmanager
def connected(config: ScoreConfig, share: Share, stop: StopSignal) -> Iterator[Cluster]:
    """The cluster of ``--ray-address``; a new one on this machine if there is none.

    Raises NotAvailableError without Ray, DeviceError if the cluster does not answer.
    """
    if not share.is_whole:
        raise UsageError(
            f"--engine ray in {share} of several",
            "one process, which asks the cluster for the others",
            "start it once, without torchrun and without BATCHSENT_WORLD_SIZE",
        )
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise NotAvailableError(
            "--engine ray needs Ray, which is not installed", "the extra 'ray'", "pip install 'batchsent[ray]'"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():  # what is at work in that session when this run ends could not be stopped
        raise UsageError(
            "Ray is initialized in this process", "a session of the run's own", "call ray.shutdown() before"
        )
    address = config.ray_address or os.environ.get("RAY_ADDRESS")
    try:
        _require_answer(address)
        with _own_signals(), _silent():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except RuntimeError as error:
        raise UsageError(
            f"the Ray cluster at {address or 'this machine'} refuses this process",
            f"Ray {ray.__version__} and the same Python there",
            "install the same versions everywhere",
        ) from error
    except (OSError, TimeoutError, ValueError, OverflowError) as error:
        raise DeviceError(
            f"no Ray cluster answers at {address or 'this machine'}",
            "the address of its head, such as 10.0.0.5:6379",
            "check --ray-address, or start one with 'ray start --head'",
        ) from error
    try:
        yield Cluster(config, stop)
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Ray itself tries for minutes. Raises OSError."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray has a handler of its own for SIGTERM, which would end the run wherever it is."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Ray's own code reports past Python that it was told not to report."""
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


class Cluster:
    """A cluster that this process is connected to."""

    def __init__(self, config: ScoreConfig, stop: StopSignal) -> None:
        self._stop = stop
        self._range = config.replica_range()
        self._gpus = _gpus_per_replica(config)
        self._device = config.device if self._gpus and config.device != "auto" else "cuda" if self._gpus else "cpu"

    def begin(self, config: ScoreConfig, *, input_bytes: int) -> Identity:
        """Decide the settings of DIR on a node such as those that will score: this one may have no GPU."""
        import ray

        log.info("deciding the settings on a node of the cluster")
        call = ray.remote(_begin).options(num_cpus=1, num_gpus=self._gpus)
        reference = call.remote(self._shipped(config), input_bytes)
        with _translated():
            while not ray.wait([reference], timeout=_POLL_SECONDS)[0]:
                self._stop.check()
            answer = ray.get(reference)
        if isinstance(answer, BatchsentError):
            raise answer
        identity: Identity = answer
        return identity

    def capacity(self, identity: Identity) -> int:
        """How many replicas there can be on the nodes that are there now; at least one."""
        cpus = self._cpus(identity)
        room = sum(_room(node, cpus, self._gpus) for node in _nodes())
        least, most = self._range
        return max(1, least, room if most is None else min(room, most))

    def score(self, run: Run, pieces: list[list[Task]], progress: Progress, recorder: Recorder) -> None:
        """Have all ``pieces`` scored and committed. Raises what ended a replica's work, if anything did."""
        identity, ledger, report = run.identity, run.ledger, run.report
        shards = {task.shard.name: task.shard for piece in pieces for task in piece}
        replicas: dict[str, RunReport] = {}
        kept_bytes = report.kept_bytes
        log.info("scoring %d pieces on up to %d replicas", len(pieces), self.capacity(identity))
        with showing(progress, report):
            for outcome in self._outcomes(Setup(self._shipped(run.config), identity, pieces, report.run_id)):
                if outcome.error is not None:
                    raise outcome.error
                for name, why in outcome.failed.items():
                    if name not in ledger.failed:
                        ledger.fail(shards[name], why)
                run.digests.add(outcome.digests)
                found = outcome.report
                if found is not None and found.part_count >= replicas.get(found.run_id, found).part_count:
                    replicas[found.run_id] = found
                report.failed_shards = ledger.failed
                report.add_up(list(replicas.values()))
                report.mark()
                warn_of_unknown_tokens(report, "here", identity)
                report.kept_bytes = kept_bytes + sum(replica.kept_bytes for replica in replicas.values())
                report.device = f"{self._device}, {len(replicas)} replica{'s' * (len(replicas) != 1)}"
                progress.update(report)
                recorder.record_in_time()

    def _outcomes(self, setup: Setup) -> Iterator[Outcome]:
        """One of each piece, as they come. Ray waits where no signal is looked at, so on a thread of its own."""
        answers: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(setup, answers.put), name="ray", daemon=True).start()
        while True:
            self._stop.check()
            try:
                answer = answers.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if answer is None:
                return
            if isinstance(answer, BaseException):
                with _translated():
                    raise answer
            yield answer

    def _run(self, setup: Setup, tell: Callable[[Outcome | BaseException | None], None]) -> None:
        try:
            for row in self._dataset(setup).iter_rows():
                tell(row["outcome"])
            tell(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the outcomes are taken
            tell(error)

    def _dataset(self, setup: Setup) -> Any:
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        count = len(setup.pieces)
        least, most = (None if number is None else min(number, count) for number in self._range)
        # All that there is room for, at once; Ray adds to them when the cluster grows.
        begin = min(count, self.capacity(setup.identity))
        ray.data.DataContext.get_current().autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
        several: dict[str, Any] = {"enable_true_multi_threading": True}
        # A piece that ends its process every time must not be tried for ever, and nothing be heard of it.
        options: dict[str, Any] = {"max_task_retries": TRIES}
        if "max_concurrent_calls_per_actor" in inspect.signature(ray.data.ActorPoolStrategy).parameters:
            several["max_concurrent_calls_per_actor"] = CALLS_AT_ONCE
        else:  # before Ray 2.58
            options["max_concurrency"] = CALLS_AT_ONCE
        cpus = self._cpus(setup.identity)
        indices = [{"index": index} for index in range(count)]
        with warnings.catch_warnings():
            # There is no other way to say how often a piece is tried.
            warnings.filterwarnings("ignore", message=".*ray_remote_args")
            return ray.data.from_items(indices, override_num_blocks=count).map(
                _Actor,
                fn_constructor_args=(ray.put(setup), cpus, self._gpus),
                compute=ray.data.ActorPoolStrategy(
                    min_size=least,
                    max_size=most,
                    initial_size=begin,
                    max_tasks_in_flight_per_actor=CALLS_AT_ONCE,
                    **several,
                ),
                num_cpus=cpus,
                num_gpus=self._gpus or None,
                **options,
            )

    def _cpus(self, identity: Identity) -> float:
        """Processors of a replica: the model's threads; beside a GPU, one, so that each GPU has its replica."""
        if self._gpus:
            return 1
        return min(identity.threads, max((node.get("CPU", 0.0) for node in _nodes()), default=1.0) or 1.0)

    def _shipped(self, config: ScoreConfig) -> ScoreConfig:
        """``config`` as another node understands it: paths from the root, and its own device."""
        model = config.model
        if model != EMBEDDED and not is_object(model) and local_directory(model).is_dir():
            model = str(local_directory(model).resolve())
        output = str(open_store(place(config.output, "--output")).root)
        calibration = None if config.calibration is None else str(Path(config.calibration).resolve())
        return replace(config, model=model, output=output, calibration=calibration, device=self._device)


def _gpus_per_replica(config: ScoreConfig) -> float:
    if config.gpus_per_replica is not None:
        return config.gpus_per_replica
    if config.device == "cpu":
        return 0.0
    if any(node.get("GPU", 0.0) for node in _nodes()):
        return 1.0
    if config.device != "auto":
        raise DeviceError(
            f"no node of the cluster has a GPU, with --device {config.device}",
            "a GPU on some node",
            "add one; with --gpus-per-replica 1 the run waits for it",
        )
    return 0.0


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that lives."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(node: dict[str, float], cpus: float, gpus: float) -> int:
    return int(min(node.get("CPU", 0.0) // cpus, node.get("GPU", 0.0) // gpus if gpus else float("inf")))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What Ray says of a cluster that broke, as an error that may pass. What our own code raised there is a bug."""
    import ray.exceptions

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise DeviceError(
            f"the Ray cluster failed ({type(error).__name__})", "nodes that live", "run again to resume"
        ) from error


def _begin(config: ScoreConfig, input_bytes: int) -> Identity | BatchsentError:
    """What ``directory.begin`` decides on this node, and writes into DIR."""
    try:
        store = open_store(place(config.output, "--output"))
        return begin(store, config, DigestCache(store).of_model, lambda: None, input_bytes=input_bytes)
    except BatchsentError as error:
        return error


class _Actor:
    """A replica as Ray Data calls it: the index of a piece in, its outcome out."""

    def __init__(self, setup: Any, cpus: float, gpus: float) -> None:
        import ray

        here = ray.get_runtime_context().get_node_id()
        node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
        self._replica: Replica | None = None
        given: Setup = ray.get(setup)
        logs.configure(given.config.log_format, given.run_id, quiet=given.config.progress == "none")
        try:
            self._replica = Replica(given, neighbours=max(1, _room(node, cpus, gpus)))
        except BatchsentError as error:  # to be said by this run in its own words, not by Ray in others
            self._error = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": Outcome(error=self._error) if self._replica is None else self._replica.score(row["index"])}
