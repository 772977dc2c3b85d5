"""A model of any family on its device, by torch: token batches in, float32 logits out, a pass later.

Knows devices and precisions. What a family computes of a batch is a pass, which the family makes of its loaded model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from batchsent.models.autocast import cast_ahead
from batchsent.records import TokenBatch

CUDA_PASSES_IN_FLIGHT = 2
"""Queued behind the one whose logits are waited for: enough that the device is never without work."""

_AUTOCAST = torch.float16

Logits = npt.NDArray[np.float32]
"""[windows, labels]"""
Pass = Callable[[TokenBatch], torch.Tensor]
"""Computes float32 logits [windows, labels] on the device. Raises torch.OutOfMemoryError."""


class TorchClassifier:
    """A loaded model. Implements ``stages.classifier.Model``."""

    def __init__(
        self,
        load: Callable[[torch.dtype], Any],
        make_pass: Callable[[Any], Pass],
        make_reference_pass: Callable[[Any], Pass] | None = None,
        *,
        precision: str,
        device: str,
        threads: int,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """``load`` gives the library's model in a dtype, on the CPU; ``make_pass`` what computes a batch with it.

        ``make_reference_pass`` is for fp32 where that is not the same; neither of them changes the model.
        ``precision`` 'fp16' is autocast over fp32 weights; 'fp16-weights' and 'bf16' hold the weights so.
        ``check`` is called after weights were loaded later than here, and may raise.
        """
        if device == "cpu":
            torch.set_num_threads(threads)
        else:
            leave_out_cudnn_attention()
        self.device = torch.device(device)
        self.in_flight = 0 if device == "cpu" else CUDA_PASSES_IN_FLIGHT
        self._load, self._check = load, check
        self._make_reference_pass = make_reference_pass or make_pass
        self._autocast = precision == "fp16"
        dtype = {"bf16": torch.bfloat16, "fp16-weights": torch.float16}.get(precision, torch.float32)
        self._model = load(dtype).to(self.device)
        self._pass = self._made(make_pass, self._model, self._autocast)
        self._is_full = dtype == torch.float32
        is_reference = self._is_full and not self._autocast and make_reference_pass is None
        self._reference_pass: Pass | None = self._pass if is_reference else None

    @property
    def module(self) -> torch.nn.Module:
        """The library's own model."""
        module: torch.nn.Module = self._model
        return module

    @torch.inference_mode()
    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        """Begin a forward pass; what is returned waits for its logits. Raises torch.OutOfMemoryError."""
        with self._precisely(self._autocast):
            logits = self._pass(batch)
        if self.device.type == "cpu":
            return logits.numpy
        # Copied by the device behind the pass, so that nobody waits before the logits are wanted.
        copy = torch.empty_like(logits, device="cpu", pin_memory=True)
        copy.copy_(logits, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self.device))

        def wait() -> Logits:
            copied.synchronize()
            return copy.numpy()

        return wait

    @torch.inference_mode()
    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        """A whole pass in fp32, padded, from weights that are loaded when they are first needed."""
        if self._reference_pass is None:
            model = self._model
            if not self._is_full:
                model = self._load(torch.float32).to(self.device)
                self._check()
            self._reference_pass = self._made(self._make_reference_pass, model, autocast=False)
        logits: Logits = self._reference_pass(batch).cpu().numpy()
        return logits

    @torch.inference_mode()
    def _made(self, make_pass: Callable[[Any], Pass], model: Any, autocast: bool) -> Pass:
        # Some compute with the model at once.
        with self._precisely(autocast):
            return make_pass(cast_ahead(model, _AUTOCAST) if autocast else model)

    def _precisely(self, autocast: bool) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=_AUTOCAST) if autocast else contextlib.nullcontext()


def leave_out_cudnn_attention() -> None:
    """Have this process compute attention by torch's other kernels.

    On Hopper and later torch prefers cuDNN's, which plans every new shape on the host for tens of milliseconds
    (https://github.com/pytorch/pytorch/pull/155958); batches sorted by length hardly ever have a shape twice. Once and
    for all: torch's switch is the process's, and threads that turn it on and off again would meet.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def batch_of(rows: Sequence[Sequence[int]]) -> TokenBatch:
    """A batch of these rows of ids, the longest first."""
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
    ids = [np.array(rows[row], np.int32) for row in order]
    return TokenBatch(np.concatenate(ids), np.array([len(row) for row in ids], np.int64), np.array(order, np.int64))


def padded(batch: TokenBatch, fill: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids int64, mask bool), [windows, longest] each, filled up on the right. Padded on the device: less to copy."""
    ids = torch.from_numpy(batch.token_ids).to(device, non_blocking=True)
    lengths = torch.from_numpy(batch.lengths).to(device, non_blocking=True)
    mask = torch.arange(int(batch.lengths.max()), device=device)[None, :] < lengths[:, None]
    rows = torch.full(mask.shape, fill, dtype=torch.int64, device=device).masked_scatter_(mask, ids.long())
    return rows, mask
