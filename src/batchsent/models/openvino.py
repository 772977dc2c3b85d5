"""A converted classifier on the CPU by OpenVINO: token ids in, float32 logits out.

As many passes at once as there are threads, each on one of them: small matrices keep one core busier than two cores
that wait for each other, and a pass gives the same bits whatever runs beside it.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchsent.errors import DeviceError, UsageError
from batchsent.machine import is_avx2_widest, is_bf16_faster
from batchsent.records import TokenBatch

if TYPE_CHECKING:
    from batchsent.models.torch_classifier import TorchClassifier

Logits = npt.NDArray[np.float32]

_PATIENCE_SECONDS = 10.0
"""After which a pass that has not answered is asked whether it failed: the queue's callback says only what came."""


def is_installed() -> bool:
    """Whether the extra ``[openvino]`` is here. Imports nothing."""
    return find_spec("openvino") is not None and find_spec("nncf") is not None


def require_backend(backend: str, device: str) -> None:
    """Raise UsageError if ``backend`` does not run on ``device`` here."""
    if backend == "openvino" and device != "cpu":
        raise UsageError(f"openvino on {device}", "the CPU", "pass --device cpu, or --backend torch")
    if backend == "openvino" and not is_installed():
        raise UsageError(
            "openvino is not installed", "the packages of the extra", "install it: pip install 'batchsent[openvino]'"
        )


def import_openvino() -> Any:
    """The library, without the module by which it reports its use to its maker: a batch job calls nobody."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # how Python forbids an import
    import openvino

    return openvino


def compile_graph(graph: Any, *, precision: str, threads: int) -> Any:
    """``graph`` for ``threads`` passes at once, each on one thread, in ``precision`` ('fp32', 'bf16' or 'int8').

    What int8 does not quantize is computed in bf16 where that is faster than fp32.
    """
    openvino = import_openvino()
    is_half = precision == "bf16" or (precision == "int8" and is_bf16_faster())
    if precision == "fp32" and is_avx2_widest():
        graph = _with_gelu_apart(graph)
    return openvino.Core().compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if is_half else "f32",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # in a container the first cores are others' too
        },
    )


def _with_gelu_apart(graph: Any) -> Any:
    """A copy of ``graph`` whose GELUs are written out, so that none becomes part of the matrix product before it.

    Where there is no AVX-512, OpenVINO computes a product alone by MLAS, and one with a GELU in it by oneDNN, which
    takes longer than the two after each other: docs/decisions/0019-gelu-apart.md. OpenVINO puts the usual ways of
    writing a GELU together again; x/2 + x/2 · erf(x/√2) it does not know.
    """
    from openvino import opset13 as operations

    copy = graph.clone()
    for gelu in copy.get_ordered_ops():
        if gelu.get_type_name() == "Gelu" and gelu.get_attributes()["approximation_mode"] == "ERF":
            value = gelu.input_value(0)
            half = operations.multiply(value, np.float32(0.5))
            error = operations.erf(operations.multiply(value, np.float32(np.sqrt(0.5))))
            gelu.output(0).replace(operations.add(half, operations.multiply(half, error)).output(0))
    return copy


class OpenVinoClassifier:
    """A compiled graph with a queue of passes. Implements ``stages.classifier.Model``."""

    def __init__(
        self,
        graph: Any,
        *,
        precision: str,
        threads: int,
        pad_token_id: int,
        load_full_precision: Callable[[], TorchClassifier],
    ) -> None:
        """``load_full_precision`` loads the model by torch, when a text has to be computed again in fp32."""
        compiled = compile_graph(graph, precision=precision, threads=threads)
        self._queue = import_openvino().AsyncInferQueue(compiled, threads)
        self._queue.set_callback(_answer)
        # A queue that is dropped while one of its threads still returns from a callback ends the process (SIGABRT).
        weakref.finalize(self, _settle, self._queue)
        self.in_flight = threads - 1
        self._pad_token_id = pad_token_id
        self._load_full_precision = load_full_precision
        self._full_precision: TorchClassifier | None = None

    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        """Begin a pass on the next thread that is free; what is returned waits for its logits [texts, labels]."""
        answer: Future[Logits] = Future()
        try:
            self._queue.start_async(inputs_of(batch, self._pad_token_id), answer)
        except RuntimeError as error:
            raise _failed(error) from error
        return partial(self._wait, answer)

    def _wait(self, answer: Future[Logits]) -> Logits:
        while True:
            try:
                return answer.result(_PATIENCE_SECONDS)
            except TimeoutError:
                self._raise_failure()

    def _raise_failure(self) -> None:
        try:
            self._queue.wait_all()
        except RuntimeError as error:
            raise _failed(error) from error

    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        """A whole pass in fp32 by torch."""
        if self._full_precision is None:
            self._full_precision = self._load_full_precision()
        return self._full_precision.full_precision_logits(batch)


def _settle(queue: Any) -> None:
    """Wait until no thread of ``queue`` has anything left to do; what failed was or is told by who waits for it."""
    with contextlib.suppress(RuntimeError):
        queue.wait_all()


def _answer(request: Any, answer: Future[Logits]) -> None:
    # Copied: the request's next pass writes into the same memory.
    answer.set_result(np.array(request.get_output_tensor(0).data, np.float32))


def _failed(error: RuntimeError) -> DeviceError:
    last = str(error).strip().splitlines()[-1][:200]
    return DeviceError(f"OpenVINO failed ({last})", "a pass that ends", "run again to resume, or use --backend torch")


def read_graph(xml: bytes, weights: bytes) -> Any:
    """A graph from the two files that OpenVINO saves it in."""
    openvino = import_openvino()
    tensor = openvino.Tensor(np.frombuffer(weights, np.uint8), shared_memory=False)
    return openvino.Core().read_model(model=xml, weights=tensor)


def inputs_of(batch: TokenBatch, pad_token_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """What a graph takes, [texts, longest] each."""
    ids = batch.padded(pad_token_id)
    mask = np.arange(ids.shape[1]) < batch.lengths[:, None]
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
