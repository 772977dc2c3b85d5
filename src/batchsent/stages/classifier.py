"""Token batches → probabilities: the forward passes of every part, and what happens when one fails.

Out of memory halves that batch and no other; a window that does not fit alone is given up. Logits that are not
finite are computed again in fp32; what still is not finite is rejected, never written.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from batchsent.errors import DeviceError
from batchsent.identity import Labelling
from batchsent.records import EncodedPart, Part, Predictions, RejectReason, TokenBatch

T = TypeVar("T")

Logits = npt.NDArray[np.float32]
"""[windows, labels]"""
Pending = Callable[[], Logits]
"""Waits for a forward pass and returns what it gave."""


class Model(Protocol):
    """What the classifier needs of a model."""

    in_flight: int
    """Passes that may be under way when another one is started: 0 where starting one computes it."""

    def start(self, batch: TokenBatch) -> Pending:
        """Begin a forward pass. Raises torch.OutOfMemoryError."""

    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        """A whole forward pass in fp32. Raises torch.OutOfMemoryError."""


def classify(
    parts: Iterable[tuple[Part, EncodedPart]],
    model: Model,
    labelling: Labelling,
    check: Callable[[], None],
) -> Iterator[tuple[Part, EncodedPart, Predictions]]:
    """Score ``parts``, in order. ``check`` is called before each batch and may raise to stop.

    The device has the next batches, also those of the next part, before the results of one are waited for.
    Raises DeviceError if the device fails.
    """
    in_flight: deque[tuple[_Scoring, TokenBatch, Pending]] = deque()
    scorings: deque[_Scoring] = deque()

    def finished(limit: int) -> Iterator[tuple[Part, EncodedPart, Predictions]]:
        """Wait for all but ``limit`` passes; give the parts that are complete."""
        while len(in_flight) > limit:
            scoring, batch, pending = in_flight.popleft()
            scoring.take(batch, pending)
        while scorings and scorings[0].is_complete:
            scoring = scorings.popleft()
            yield scoring.part, scoring.encoded, scoring.predictions(model, labelling)

    with _device_errors():
        for part, encoded in parts:
            scoring = _Scoring(part, encoded, len(labelling.labels))
            scorings.append(scoring)
            for batch, pending in scoring.passes(model, check):
                in_flight.append((scoring, batch, pending))
                yield from finished(model.in_flight)
            yield from finished(model.in_flight)
        yield from finished(0)


class _Scoring:
    """A part on the device."""

    def __init__(self, part: Part, encoded: EncodedPart, label_count: int) -> None:
        self.part, self.encoded = part, encoded
        self._logits = np.full((int(encoded.window_counts.sum()), label_count), np.nan, np.float32)
        self._failures: dict[int, RejectReason] = {}
        # A window that is in no batch has no token of its own: nothing that could be scored.
        unbatched = np.setdiff1d(np.arange(len(self._logits)), encoded.window_indices)
        self._failures |= dict.fromkeys(unbatched.tolist(), "empty_text")
        self._waiting, self._started = encoded.batches[::-1], 0
        self._seconds, self._split_count = 0.0, 0

    @property
    def is_complete(self) -> bool:
        """Whether every batch was computed."""
        return not self._waiting and not self._started

    def passes(self, model: Model, check: Callable[[], None]) -> Iterator[tuple[TokenBatch, Pending]]:
        """Start every batch, halved where the device has not enough memory for it."""
        while self._waiting:
            check()
            batch = self._waiting.pop()
            with self._timed():
                pending = _or_none(model.start, batch)
            if pending is not None:
                self._started += 1
                yield batch, pending
            elif smaller := batch.smaller():
                self._split_count += 1
                self._waiting += reversed(smaller)
            else:
                self._failures[int(batch.window_indices[0])] = "out_of_memory"

    def take(self, batch: TokenBatch, pending: Pending) -> None:
        """Wait for a pass that was started."""
        with self._timed():
            self._logits[batch.window_indices] = pending()
        self._started -= 1

    def predictions(self, model: Model, labelling: Labelling) -> Predictions:
        """When it is complete."""
        with self._timed():
            rerun_count = self._rerun_not_finite(model)
        temperature = labelling.temperature
        values = torch.from_numpy(self._logits if temperature is None else self._logits / np.float32(temperature))
        probabilities = (torch.sigmoid(values) if labelling.multi_label else torch.softmax(values, dim=-1)).numpy()
        return Predictions(probabilities, self._failures, self._seconds, self._split_count, rerun_count)

    def _rerun_not_finite(self, model: Model) -> int:
        """Score each window with logits that are not finite again, alone, in fp32; returns how many."""
        broken = np.flatnonzero(~np.isfinite(self._logits).all(axis=1))
        broken = np.setdiff1d(broken, list(self._failures))
        for batch in self.encoded.batches if len(broken) else []:
            for row in np.flatnonzero(np.isin(batch.window_indices, broken)).tolist():
                window = int(batch.window_indices[row])
                logits = _or_none(model.full_precision_logits, batch.between(row, row + 1))
                if logits is None:
                    self._failures[window] = "out_of_memory"
                elif not np.isfinite(logits).all():
                    self._failures[window] = "non_finite"
                else:
                    self._logits[window] = logits[0]
        return len(broken)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began


def _or_none(compute: Callable[[TokenBatch], T], batch: TokenBatch) -> T | None:
    """What ``compute`` gives; None if the device has not enough memory for it.

    The caller goes on outside the ``except`` block, because the exception keeps the tensors of the pass alive.
    """
    try:
        return compute(batch)
    except torch.OutOfMemoryError:
        pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


@contextlib.contextmanager
def _device_errors() -> Iterator[None]:
    try:
        yield
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"the device failed ({str(error).splitlines()[0]})",
            "a working device",
            "run again to resume; if it stays, look at the device",
        ) from error
