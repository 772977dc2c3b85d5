"""Tasks → committed parts, on this machine: what every engine calls.

    reader → encoder, batcher → classifier → restorer → writer, committer

``Scorer._score_parts`` is that line as code.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.batching import require_batching
from batchsent.checkpoint import Work
from batchsent.config import ScoreConfig
from batchsent.directory import HashFile, model_source
from batchsent.engines.commits import CommitThread
from batchsent.errors import IncompleteError, ShardError
from batchsent.identity import Identity
from batchsent.ledger import bytes_between, committed_bytes
from batchsent.machine import available_cores, choose_device, require_precision, why_not_faster
from batchsent.models import loading
from batchsent.models.openvino import require_backend
from batchsent.models.resolution import ModelSource, require_unchanged
from batchsent.records import Part, ScoredPart, Shard, Task
from batchsent.reporting.progress import Progress, showing
from batchsent.reporting.run_report import RunReport
from batchsent.run import Run
from batchsent.schema import REASON, ROW_INDEX
from batchsent.stages.reader import ReaderProcess, ReadRequest

if TYPE_CHECKING:
    from batchsent.stages.classifier import Model

log = logging.getLogger(__name__)

UNKNOWN_TOKEN_LIMIT = 0.2
"""Share of unknown tokens above which the model probably does not know the language."""

LoadModel = Callable[[Identity, Path, str], "Model"]


class Tasks:
    """What is to do, in order; more may come from another thread. It ends where none is left at the moment."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._left = deque(tasks)

    def add(self, task: Task) -> None:
        """One more, after the others."""
        self._left.append(task)

    def __iter__(self) -> Iterator[Task]:
        while self._left:
            yield self._left.popleft()

    def __bool__(self) -> bool:
        return bool(self._left)

    @property
    def following(self) -> Task | None:
        """The next one, which stays."""
        return self._left[0] if self._left else None


def _nothing(*_: object) -> None:
    """Nobody waits for it."""


class Scorer:
    """Scores and commits what it is given, on a DIR whose settings are settled. The model is loaded once."""

    def __init__(
        self,
        run: Run,
        *,
        load_model: LoadModel | None = None,
        neighbours: int = 1,
        done: Callable[[Task], None] = _nothing,
        record: Callable[[], None] = _nothing,
    ) -> None:
        """``neighbours`` is how many such processes share this machine's processors.

        ``done`` is called when all of a task is committed, or has failed; on the thread that writes or reads.
        ``record`` is called after each part, when the report has it.
        """
        self._run = run
        self._load_model = load_model or partial(loading.load_model, check=run.stop.check)
        self._neighbours = neighbours
        self._done = done
        self._record = record
        self._tasks: dict[Work, Task] = {}
        self._found: tuple[str, ModelSource] | None = None
        self._model: Model | None = None

    def score(self, reader: ReaderProcess, tasks: Tasks, progress: Progress) -> None:
        """Do what is left to do of ``tasks``."""
        with CommitThread() as commits:
            parts = self._parts(reader, tasks, commits)
            first = next(parts, None)
            if first is not None:  # otherwise all was committed before: no need of a model
                self._score_parts(chain([first], parts), commits, progress)

    def _score_parts(self, parts: Iterator[Part], commits: CommitThread, progress: Progress) -> None:
        """Records become predictions here."""
        from batchsent.engines.encoding import make_encode
        from batchsent.engines.local import tokenizing
        from batchsent.stages.classifier import classify
        from batchsent.stages.restorer import restore

        identity = self._run.identity
        device, source = self._device_and_model()
        make = partial(make_encode, source.directory, identity)
        workers, on_gpu = tokenizer_count(self._run.config, device, self._neighbours), device != "cpu"
        with tokenizing(parts, make, workers=workers, pin_memory=on_gpu, stop=self._run.stop) as encoded_parts:
            commits.start()
            model = self._loaded(source, device)
            began = time.monotonic() - self._run.report.scoring_seconds
            with showing(progress, self._run.report):
                predicted = classify(encoded_parts, model, identity.labelling, self._run.stop.check)
                for part, encoded, predictions in predicted:
                    self._run.report.count_scored(part, encoded, predictions)
                    warn_of_unknown_tokens(self._run.report, part.shard.name, identity)
                    scored = restore(part, encoded, predictions, identity.labelling)
                    commits.submit(self._commit, scored, began, progress)
                commits.drain()

    # --- reading

    def _parts(self, reader: ReaderProcess, tasks: Tasks, commits: CommitThread) -> Iterator[Part]:
        """Every part that is not committed, shard by shard; the next shard is hashed while one is read."""
        with ThreadPoolExecutor(1, "hash") as ahead:
            for task in tasks:
                self._run.stop.check()
                work = self._open(task)
                if work is None:
                    self._done(task)
                elif work.is_share_done:
                    commits.submit(self._settle, work, task)
                else:
                    self._tasks[work] = task
                    for index, part in enumerate(self._read(reader, work)):
                        yield part
                        # Begun after the first part, when the tokenizer processes have been forked.
                        if index == 0 and tasks.following is not None:
                            ahead.submit(self._run.digests.warm, tasks.following.shard.path)

    def _read(self, reader: ReaderProcess, work: Work) -> Iterator[Part]:
        """The parts of a shard that are missing, up to where it cannot be read."""
        parts = reader.read(self._read_request(work))
        while True:
            try:
                part = next(parts, None)
            except ShardError as error:
                self._fail(work.shard, error)
                self._done(self._tasks[work])
                return
            if part is None:
                return
            yield part

    def _fail(self, shard: Shard, error: Exception | str) -> None:
        self._run.ledger.fail(shard, error)
        self._run.report.failed_shards = self._run.ledger.failed

    def _open(self, task: Task) -> Work | None:
        """What is left of a shard, with what is done of it counted; None if nothing is, or it cannot be read."""
        if task.inspection.error is not None:
            self._fail(task.shard, task.inspection.error)
            return None
        try:
            work = self._run.ledger.open(task)
        except (ShardError, OSError) as error:
            self._fail(task.shard, error)
            return None
        if work is None:
            self._run.report.count_kept(task.size_bytes, finished=True)
        else:
            self._run.report.count_kept(committed_bytes(work), finished=False)
        return work

    def _read_request(self, work: Work) -> ReadRequest:
        identity = self._run.identity
        return replace(
            ReadRequest.of_texts(work.shard, work.digest, identity),
            unit=work.unit,
            done=work.done,
            kept=None if identity.keep_all else tuple(self._run.config.kept_columns()),
            layout=work.layout,
            parts=work.parts,
        )

    # --- scoring

    def _device_and_model(self) -> tuple[str, ModelSource]:
        if self._found is None:
            self._found = self._find_device_and_model()
        return self._found

    def _find_device_and_model(self) -> tuple[str, ModelSource]:
        identity = self._run.identity
        device, source = device_and_model(identity, self._run.config, self._run.digests.of_model)
        self._run.report.device = device
        log.info(
            "scoring %s with %s by %s on %s: precision %s, batching %s, %s tokens a batch, %s, %s rows a part",
            self._scope(),
            identity.model,
            identity.backend,
            device,
            identity.precision,
            identity.batching,
            f"{identity.batch_tokens:,}",
            f"{identity.threads} thread{'s' * (identity.threads != 1)}",
            f"{identity.rows_per_part:,}",
        )
        reason = why_not_faster(identity.precision) if device == "cpu" else None
        if reason is not None:
            log.warning("precision %s gains nothing here: %s; fp32 is faster", identity.precision, reason)
        return device, source

    def _scope(self) -> str:
        """What this run scores, for people."""
        report = self._run.report
        shards = f"{report.shard_count:,} shard{'s' * (report.shard_count != 1)}"
        if report.share_bytes is None:
            return shards
        return f"{report.share_bytes / max(1, report.input_bytes):.0%} of {shards}"

    def _loaded(self, source: ModelSource, device: str) -> Model:
        """The model, if its files are those that were hashed before it was loaded."""
        if self._model is None:
            model = self._load_model(self._run.identity, source.directory, device)
            self._run.stop.check()
            require_unchanged(source.directory, source.files, self._run.digests.of_model)
            self._model = model
        return self._model

    # --- committing

    def _settle(self, work: Work, task: Task) -> None:
        self._run.ledger.settle(work)
        self._done(task)

    def _commit(self, part: ScoredPart, began: float, progress: Progress) -> None:
        """Make a part durable, count it and show it. Runs on the thread that writes."""
        started = time.monotonic()
        work = self._run.ledger.commit(part)
        report = self._run.report
        report.stage_seconds.writing += time.monotonic() - started
        report.scoring_seconds = time.monotonic() - began
        report.count_committed(part, bytes_between(work, part))
        report.finished_shard_count = len(self._run.ledger.entries)
        report.mark()
        progress.update(report)
        if self._run.config.on_bad_row == "fail":
            _require_no_bad_row(part)
        if work.is_share_done:
            self._done(self._tasks[work])
        self._record()


def device_and_model(identity: Identity, config: ScoreConfig, hash_file: HashFile) -> tuple[str, ModelSource]:
    """Where the recorded settings are computed here, and the recorded model. Raises UsageError if they cannot be."""
    device = choose_device(config.device)
    require_backend(identity.backend, device)
    require_precision(identity.precision, device, identity.backend, identity.task)
    source = model_source(identity, config, hash_file)
    require_batching(identity.batching, source.directory, precision=identity.precision, device=device)
    return device, source


def tokenizer_count(config: ScoreConfig, device: str, neighbours: int = 1) -> int:
    """Processes that tokenize, where ``neighbours`` jobs share this machine's processors."""
    if isinstance(config.workers, int):
        return config.workers
    # A CPU model leaves a tokenizer little to do; one H100 is fed by ten to twelve of them.
    cores = available_cores() // neighbours
    return 1 if device == "cpu" else max(1, min(12, cores - 2))


def warn_of_unknown_tokens(report: RunReport, shard_name: str, identity: Identity) -> None:
    """Say it once, when so many are unknown that the model is probably the wrong one."""
    if report.unknown_tokens_exceed(UNKNOWN_TOKEN_LIMIT):
        log.warning(
            "%.0f%% of the tokens read so far, up to %s, are unknown to %s: it probably does not know this language; "
            "choose a --model that does",
            100 * report.unknown_token_count / report.token_count,
            shard_name,
            identity.model,
        )


def _require_no_bad_row(part: ScoredPart) -> None:
    reasons, indices = part.table.column(REASON).to_pylist(), part.table.column(ROW_INDEX).to_pylist()
    for reason, row_index in zip(reasons, indices, strict=True):
        if reason not in (None, "empty_text"):
            raise IncompleteError(
                f"record {row_index} of {part.shard.name} is bad ({reason})",
                "no bad row (--on-bad-row fail)",
                "mend it, or run again with --on-bad-row reject",
            )
