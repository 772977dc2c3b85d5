"""Token batches → probabilities: the forward passes of a part, and what happens when one fails.

Out of memory halves that batch and no other; a row that does not fit alone is rejected. Logits that are not
finite are computed again in fp32; what still is not finite is rejected, never written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from batchsent.errors import DeviceError
from batchsent.records import EncodedPart, Predictions, RejectReason, TokenBatch

Ids = npt.NDArray[np.int64]


class Model(Protocol):
    """What the classifier needs of a model: float32 logits [rows, labels], or torch.OutOfMemoryError."""

    def logits(self, input_ids: Ids, lengths: Ids) -> torch.Tensor: ...

    def full_precision_logits(self, input_ids: Ids, lengths: Ids) -> torch.Tensor: ...


def classify(
    part: EncodedPart, model: Model, *, label_count: int, multi_label: bool, check: Callable[[], None]
) -> Predictions:
    """Score every batch of ``part``; ``check`` is called between batches and may raise to stop."""
    began = time.perf_counter()
    logits = np.full((len(part.token_counts), label_count), np.nan, np.float32)
    failures: dict[int, RejectReason] = {}
    splits, in_flight = 0, []
    pending = part.batches[::-1]
    # A text that is in no batch has no token of its own: nothing that could be scored.
    batched = np.concatenate([np.empty(0, np.int64), *(batch.text_indices for batch in pending)])
    failures |= dict.fromkeys(np.setdiff1d(np.arange(len(logits)), batched).tolist(), "empty_text")
    try:
        while pending:
            check()
            batch = pending.pop()
            result = _forward(model.logits, batch)
            if result is not None:
                in_flight.append((batch.text_indices, result))
            elif len(batch.lengths) > 1:
                splits += 1
                pending += _halves(batch)[::-1]
            else:
                failures[int(batch.text_indices[0])] = "out_of_memory"
        # Copied once a part, after every pass was queued: a copy waits for the device.
        for text_indices, result in in_flight:
            logits[text_indices] = result.cpu().numpy()
        rerun = _rerun_not_finite(part, model, logits, failures)
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"the device failed ({str(error).splitlines()[0]})",
            "a working device",
            "run again to resume; if it stays, look at the device",
        ) from error
    return Predictions(_probabilities(logits, multi_label), failures, time.perf_counter() - began, splits, rerun)


def _forward(logits: Callable[[Ids, Ids], torch.Tensor], batch: TokenBatch) -> torch.Tensor | None:
    """The batch's logits; None if the device has not enough memory for it.

    The caller goes on outside the ``except`` block, because the exception keeps the tensors of the pass alive.
    """
    try:
        return logits(batch.input_ids, batch.lengths)
    except torch.OutOfMemoryError:
        pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _halves(batch: TokenBatch) -> list[TokenBatch]:
    middle = len(batch.lengths) // 2
    halves = []
    for rows in (slice(None, middle), slice(middle, None)):
        lengths = batch.lengths[rows]
        halves.append(TokenBatch(batch.input_ids[rows, : lengths[0]], lengths, batch.text_indices[rows]))
    return halves


def _rerun_not_finite(
    part: EncodedPart, model: Model, logits: npt.NDArray[np.float32], failures: dict[int, RejectReason]
) -> int:
    """Score each text with logits that are not finite again, alone, in fp32; returns how many."""
    broken = {text for text in np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist() if text not in failures}
    for batch in part.batches if broken else []:
        for row, text in enumerate(batch.text_indices.tolist()):
            if text not in broken:
                continue
            length = batch.lengths[row : row + 1]
            alone = TokenBatch(batch.input_ids[row : row + 1, : length[0]], length, batch.text_indices[row : row + 1])
            result = _forward(model.full_precision_logits, alone)
            if result is None:
                failures[text] = "out_of_memory"
            elif not bool(torch.isfinite(result).all()):
                failures[text] = "non_finite"
            else:
                logits[text] = result.cpu().numpy()[0]
    return len(broken)


def _probabilities(logits: npt.NDArray[np.float32], multi_label: bool) -> npt.NDArray[np.float32]:
    values = torch.from_numpy(logits)
    return (torch.sigmoid(values) if multi_label else torch.softmax(values, dim=-1)).numpy()
