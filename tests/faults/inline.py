"""The whole job in this process, by the thousand: real planning, storage, checkpoints and commits.

What stands in: the reader and the tokenizer run in the calling thread, and the model adds up ids. A run takes some
20 ms. ``tests/faults/forked.py`` has real processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsent import job
from batchsent.config import ScoreConfig
from batchsent.engines import local
from batchsent.records import EncodedPart, Inspection, Part, TokenBatch
from batchsent.reporting.progress import NoProgress, Progress
from batchsent.reporting.run_report import RunReport
from batchsent.schema import TEXT
from batchsent.stages.encoder import Encoder
from batchsent.stages.reader import InspectRequest, ReaderProcess, ReadRequest
from batchsent.stages.reader.process import answers
from batchsent.stop import StopSignal

Logits = np.ndarray[Any, np.dtype[np.float32]]


class StandIn:
    """Logits from the ids alone, the same on every machine, whatever else is in the batch."""

    in_flight = 0

    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        return partial(self.full_precision_logits, batch)

    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        ids = batch.padded(0)
        sums = (ids * (1 + np.arange(ids.shape[1]) % 5)).sum(axis=1) % 97
        return np.stack([sums / 16 - 3, 3 - sums / 16], axis=1).astype(np.float32)


class InlineReader:
    """The reader's own code, without its process."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def inspect(self, requests: list[InspectRequest]) -> Iterator[Inspection]:
        for request in requests:
            yield from answers(request)  # type: ignore[misc]  # an inspection is answered by inspections

    def read(self, request: ReadRequest) -> Iterator[Part]:
        for part in answers(request):
            self._check()
            yield part  # type: ignore[misc]  # as above

    def __enter__(self) -> InlineReader:
        return self

    def __exit__(self, *exception: object) -> None: ...


class SharedReader(ReaderProcess):
    """A real reader process that serves many runs; another one only after it crashed."""

    def __exit__(self, *exception: object) -> None: ...


@contextlib.contextmanager
def _tokenizing(
    parts: Iterable[Part],
    make_encode: Callable[[], Callable[[Any], EncodedPart]],
    *,
    workers: int,
    pin_memory: bool,
    stop: StopSignal,
) -> Iterator[Iterator[tuple[Part, EncodedPart]]]:
    encode = make_encode()
    yield ((part, encode(part.records.column(TEXT))) for part in parts)


class KilledError(BaseException):
    """Stands for a kill after a commit."""


class KillAfter(NoProgress):
    """Ends a run when so many parts are committed."""

    def __init__(self, parts: int) -> None:
        self._parts = parts

    def update(self, report: RunReport) -> None:
        if report.part_count == self._parts:
            raise KilledError


class Inline:
    """``run_job`` inline; use the fixture of that name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        monkeypatch.setattr(job, "ReaderProcess", InlineReader)
        monkeypatch.setattr(local, "tokenizing", _tokenizing)
        monkeypatch.setattr("batchsent.stages.encoder.Encoder", cache(Encoder))
        # Real syncs would take most of the time; whoever tests them takes their place anyway.
        for call in ("fsync", "sync_directory"):
            monkeypatch.setattr(f"batchsent.posix.{call}", lambda *_: None)
        self._model = model

    def score(
        self,
        *inputs: Path | str,
        output: Path | str,
        progress: Progress | None = None,
        stop: StopSignal | None = None,
        stand_in: StandIn | None = None,
        **options: Any,
    ) -> RunReport:
        """As ``batchsent.score``, with parts of 10 records unless told otherwise."""
        defaults: dict[str, Any] = {"model": str(self._model), "precision": "fp32", "threads": 1, "device": "cpu"}
        defaults |= {"backend": "torch", "rows_per_part": 10}
        config = ScoreConfig(inputs=tuple(map(str, inputs)), output=str(output), **(defaults | options))
        return job.run_job(config, load_model=lambda *_: stand_in or StandIn(), progress=progress, stop=stop)
