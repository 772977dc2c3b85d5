"""``batchsent score``, whole: the one place that knows every stage.

    INPUT → planner → reader → encoder, batcher → classifier → restorer → writer → committer → DIR

``_Run._score_parts`` is that line as code.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.batching import require_batching
from batchsent.checkpoint import Work
from batchsent.closing import Closing, has_nothing_to_do
from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import HashFile, adopt, begin, model_source, require_free_names
from batchsent.engines.commits import CommitThread
from batchsent.errors import (
    BatchsentError,
    IncompleteError,
    ModelError,
    ShardError,
    StoppedError,
    StorageError,
)
from batchsent.identity import Identity
from batchsent.ledger import Ledger, bytes_between, committed_bytes
from batchsent.machine import available_cores, choose_device, require_precision
from batchsent.models import loading
from batchsent.models.openvino import require_backend
from batchsent.models.resolution import ModelSource, require_unchanged
from batchsent.preparation import inspect_shards, require_space, tasks_of
from batchsent.records import EncodedPart, Part, ScoredPart, Shard, Task
from batchsent.reporting.progress import NoProgress, Progress, showing
from batchsent.reporting.run_report import RunReport, State
from batchsent.schema import REASON, ROW_INDEX
from batchsent.shares import ALONE, Share
from batchsent.stages import committer
from batchsent.stages.planner import place, plan_shards
from batchsent.stages.reader import ReaderProcess, ReadRequest
from batchsent.stop import StopSignal
from batchsent.stores import Store, open_store

if TYPE_CHECKING:
    from batchsent.stages.classifier import Model

log = logging.getLogger(__name__)

UNKNOWN_TOKEN_LIMIT = 0.2
"""Share of unknown tokens above which the model probably does not know the language."""
SAVE_INTERVAL_SECONDS = 5.0
"""Between two writings of ``runs/<id>.json``, which ``batchsent status`` reads."""

LoadModel = Callable[[Identity, Path, str], "Model"]


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
    began = time.monotonic()
    report = report or RunReport()
    stop = stop or StopSignal()
    store = open_store(place(config.output, "--output"))
    shards = plan_shards(config.inputs, store.root)
    report.shard_count, report.input_bytes = len(shards), sum(shard.size_bytes for shard in shards)
    report.rank, report.world_size = share.rank, share.world_size
    store.create()
    with store.lock(share):
        store.remove_orphans()
        digests = DigestCache(store, stop.check)

        hash_file = partial(_hash_of_model_file, digests)
        identity = adopt(store, config, hash_file)
        if identity is not None and has_nothing_to_do(Ledger(store, identity, digests), store, shards, report):
            committer.confirm_success(store)
            report.seconds = time.monotonic() - began
            with contextlib.suppress(StorageError):  # published it is, also on a disk that is full by now
                digests.save()
            return report
        with ReaderProcess(stop.check) as reader:
            # Before anything is decided: a wrong column must not make DIR the property of wrong settings.
            inspections = inspect_shards(reader, shards, config)
            if share.local_rank is not None:
                config = replace(config, device=choose_device(config.device, share.local_rank))
            share_bytes = report.input_bytes // share.world_size
            decide = partial(begin, store, config, hash_file, stop.check, input_bytes=share_bytes)
            if identity is None:
                identity = decide() if share.is_whole else _in_turn(store, config, hash_file, stop.check, decide)
            ledger = Ledger(store, identity, digests, stop.check)
            require_free_names(store, (shard for shard in shards if shard.name not in ledger.listed))
            require_space(store, identity, [i for i in inspections if i.shard.name not in ledger.listed])
            run = _Run(config, store, identity, ledger, digests, report, stop, share)
            try:
                load_model = load_model or partial(loading.load_model, check=stop.check)
                tasks = tasks_of(inspections, share, rows_per_part=identity.rows_per_part, limit=identity.limit)
                run.score(reader, shards, tasks, progress or NoProgress(), load_model)
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


_STATES: dict[type[BatchsentError], State] = {StoppedError: "stopped", IncompleteError: "not published"}


class _Run:
    """One run on a DIR that is locked and whose settings are settled."""

    def __init__(
        self,
        config: ScoreConfig,
        store: Store,
        identity: Identity,
        ledger: Ledger,
        digests: DigestCache,
        report: RunReport,
        stop: StopSignal,
        share: Share,
    ) -> None:
        self._config = config
        self._store = store
        self._identity = identity
        self._ledger = ledger
        self._digests = digests
        self._report = report
        self._stop = stop
        self._share = share
        self._works: dict[str, Work] = {}
        self._closing = Closing(config, store, ledger, digests, report, share)
        self._hash_file = partial(_hash_of_model_file, digests)
        self._saved_at = time.monotonic()

    def score(
        self, reader: ReaderProcess, shards: list[Shard], tasks: list[Task], progress: Progress, load_model: LoadModel
    ) -> None:
        """Do what is left to do of ``tasks``, then publish if all of ``shards`` may be."""
        if not self._share.is_whole:
            self._report.share_bytes = sum(task.size_bytes for task in tasks)
            self._ledger.refresh()
            if has_nothing_to_do(self._ledger, self._store, shards, self._report):
                return  # the other ranks have published while this one began
        committer.begin_changes(self._store, self._identity.fingerprint)
        self._ledger.refresh()  # what a rank that published until just now has finished, it has also cleared
        self._report.save(self._store)
        with CommitThread() as commits:
            parts = self._parts(reader, tasks, commits)
            first = next(parts, None)
            if first is not None:  # otherwise all was committed before: no need of a model
                self._score_parts(chain([first], parts), commits, progress, load_model)
        self._closing.close(shards, self._stop.check)

    def _score_parts(
        self, parts: Iterator[Part], commits: CommitThread, progress: Progress, load_model: LoadModel
    ) -> None:
        """Records become predictions here."""
        from batchsent.engines.encoding import make_encode
        from batchsent.engines.local import tokenizing
        from batchsent.stages.classifier import classify
        from batchsent.stages.restorer import restore

        identity = self._identity
        device, source = self._device_and_model()
        make = partial(make_encode, source.directory, identity)
        workers, on_gpu = self._workers(device), device != "cpu"
        with tokenizing(parts, make, workers=workers, pin_memory=on_gpu, stop=self._stop) as encoded_parts:
            commits.start()
            model = self._checked(source, load_model(identity, source.directory, device))
            began = time.monotonic()
            with showing(progress, self._report):
                predicted = classify(
                    self._counted(encoded_parts),
                    model,
                    label_count=len(identity.labels),
                    multi_label=identity.multi_label,
                    check=self._stop.check,
                    temperature=identity.temperature,
                )
                for part, encoded, predictions in predicted:
                    self._report.count_classified(predictions)
                    scored = restore(
                        part,
                        encoded,
                        predictions,
                        identity.labels,
                        window_aggregate=identity.window_aggregate,
                        multi_label=identity.multi_label,
                    )
                    commits.submit(self._commit, scored, began, progress)
                commits.drain()

    # --- reading

    def _parts(self, reader: ReaderProcess, tasks: list[Task], commits: CommitThread) -> Iterator[Part]:
        """Every part that is not committed, shard by shard; the next shard is hashed while one is read."""
        with ThreadPoolExecutor(1, "hash") as ahead:
            for task, following in zip(tasks, [*tasks[1:], None], strict=True):
                self._stop.check()
                work = self._open(task)
                if work is not None and work.is_share_done:
                    commits.submit(self._ledger.settle, work)
                elif work is not None:
                    for index, part in enumerate(self._read(reader, work)):
                        yield part
                        # Begun after the first part, when the tokenizer processes have been forked.
                        if index == 0 and following is not None:
                            ahead.submit(self._digests.warm, following.shard.path)

    def _read(self, reader: ReaderProcess, work: Work) -> Iterator[Part]:
        """The parts of a shard that are missing, up to where it cannot be read."""
        parts = reader.read(self._read_request(work))
        while True:
            try:
                part = next(parts, None)
            except ShardError as error:
                self._fail(work.shard, error)
                return
            if part is None:
                return
            yield part

    def _fail(self, shard: Shard, error: Exception | str) -> None:
        self._ledger.fail(shard, error)
        self._report.failed_shards = self._ledger.failed

    def _open(self, task: Task) -> Work | None:
        """What is left of a shard, with what is done of it counted; None if nothing is, or it cannot be read."""
        if task.inspection.error is not None:
            self._fail(task.shard, task.inspection.error)
            return None
        try:
            work = self._ledger.open(task)
        except (ShardError, OSError) as error:
            self._fail(task.shard, error)
            return None
        if work is None:
            self._report.count_kept(task.size_bytes, finished=True)
        else:
            self._works[work.unit] = work
            self._report.count_kept(committed_bytes(work), finished=False)
        return work

    def _read_request(self, work: Work) -> ReadRequest:
        identity = self._identity
        return ReadRequest(
            shard=work.shard,
            unit=work.unit,
            digest=work.digest,
            done=work.progress.done,
            text_column=identity.text_column,
            kept=None if identity.keep_all else tuple(self._config.kept_columns()),
            encoding=identity.encoding,
            delimiter=identity.delimiter,
            rows_per_part=identity.rows_per_part,
            limit=identity.limit,
            layout=work.layout,
            parts=work.parts,
        )

    # --- scoring

    def _device_and_model(self) -> tuple[str, ModelSource]:
        identity = self._identity
        device = choose_device(self._config.device)
        require_backend(identity.backend, device)
        require_precision(identity.precision, device, identity.backend, identity.task)
        self._report.device = device
        log.info(
            "scoring %s with %s by %s on %s: precision %s, batching %s, %s tokens a batch, %d threads, %s rows a part",
            self._scope(),
            identity.model,
            identity.backend,
            device,
            identity.precision,
            identity.batching,
            f"{identity.batch_tokens:,}",
            identity.threads,
            f"{identity.rows_per_part:,}",
        )
        source = model_source(identity, self._config, self._hash_file)
        require_batching(identity.batching, source.directory, precision=identity.precision, device=device)
        return device, source

    def _scope(self) -> str:
        """What this run scores, for people."""
        report = self._report
        shards = f"{report.shard_count:,} shard{'s' * (report.shard_count != 1)}"
        if report.share_bytes is None:
            return shards
        return f"{report.share_bytes / max(1, report.input_bytes):.0%} of {shards}"

    def _checked(self, source: ModelSource, model: Model) -> Model:
        """``model``, if its files are those that were hashed before it was loaded."""
        self._stop.check()
        require_unchanged(source.directory, source.files, self._hash_file)
        return model

    def _counted(self, encoded_parts: Iterator[tuple[Part, EncodedPart]]) -> Iterator[tuple[Part, EncodedPart]]:
        for part, encoded in encoded_parts:
            self._report.count_encoded(part, encoded)
            self._warn_of_unknown_tokens(part)
            yield part, encoded

    def _workers(self, device: str) -> int:
        if isinstance(self._config.workers, int):
            return self._config.workers
        # A CPU model leaves a tokenizer little to do; one H100 is fed by ten to twelve of them.
        cores = available_cores() // self._share.local_world_size
        return 1 if device == "cpu" else max(1, min(12, cores - 2))

    def _warn_of_unknown_tokens(self, part: Part) -> None:
        if self._report.unknown_tokens_exceed(UNKNOWN_TOKEN_LIMIT):
            log.warning(
                "%.0f%% of the tokens up to %s are unknown to %s: it probably does not know this language; "
                "choose a --model that does",
                100 * self._report.unknown_token_count / self._report.token_count,
                part.shard.name,
                self._identity.model,
            )

    # --- committing

    def _commit(self, part: ScoredPart, began: float, progress: Progress) -> None:
        """Make a part durable, count it and show it. Runs on the thread that writes."""
        started = time.monotonic()
        self._ledger.commit(part)
        report = self._report
        report.stage_seconds.writing += time.monotonic() - started
        report.scoring_seconds = time.monotonic() - began
        report.count_committed(part, bytes_between(self._works[part.unit], part))
        progress.update(report)
        if time.monotonic() - self._saved_at > SAVE_INTERVAL_SECONDS:
            self._saved_at = time.monotonic()
            report.save(self._store)
        if self._config.on_bad_row == "fail":
            _require_no_bad_row(part)


def _hash_of_model_file(digests: DigestCache, path: str) -> str:
    try:
        return digests.digest(path).sha256
    except (ShardError, OSError) as error:
        name = Path(path).name
        raise ModelError(
            f"{name} of the model cannot be read or changes", "a model that holds still", "run again"
        ) from (error)


def _require_no_bad_row(part: ScoredPart) -> None:
    reasons, indices = part.table.column(REASON).to_pylist(), part.table.column(ROW_INDEX).to_pylist()
    for reason, row_index in zip(reasons, indices, strict=True):
        if reason not in (None, "empty_text"):
            raise IncompleteError(
                f"record {row_index} of {part.shard.name} is bad ({reason})",
                "no bad row (--on-bad-row fail)",
                "mend it, or run again with --on-bad-row reject",
            )
