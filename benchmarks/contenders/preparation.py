"""What is made of a model once, before anybody is timed: graphs for OpenVINO, graphs for ONNX Runtime.

Each is made in a process of its own, and its seconds are reported apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from contenders import Task


def prepare(name: str, task: Task) -> None:
    """Make what ``name`` says of the task's model."""
    MAKERS[name](task)


def onnx_path(folder: Path, precision: str) -> Path:
    """Where the exported graph lies."""
    return folder / f"model-{precision}.onnx"


def openvino_graph(directory: Path, *, quantized: bool) -> Any:
    """batchsent's own graph of the model, from its cache or made now."""
    from batchsent.models.graphs import graph_of
    from batchsent.models.sequence_classification import describe
    from contenders.engine import source_of

    source = source_of(directory)
    max_length = describe(directory).max_length
    return graph_of(directory, source.files, quantized=quantized, max_length=max_length, check=lambda: None)


def _openvino(task: Task) -> None:
    openvino_graph(task.model, quantized=False)


def _openvino_int8(task: Task) -> None:
    openvino_graph(task.model, quantized=True)


def _onnx(task: Task) -> None:
    """By torch's own exporter, rows and length free."""
    import torch
    from transformers import AutoModelForSequenceClassification

    classifier: Any = AutoModelForSequenceClassification
    model = classifier.from_pretrained(task.model, dtype=torch.float32).eval()

    class Exported(torch.nn.Module):
        """Ids and mask in, logits out."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    ids = torch.full((3, 17), model.config.pad_token_id or 0, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    free = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}
    program = torch.onnx.export(
        Exported().eval(),
        (ids, mask),
        dynamo=True,
        dynamic_shapes=(free, free),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch exported no program")
    program.save(str(onnx_path(task.folder, "fp32")))


def _onnx_int8(task: Task) -> None:
    """Weights once, activations batch by batch: the library's dynamic quantization, with its defaults."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    paths = (onnx_path(task.folder, precision) for precision in ("fp32", "int8"))
    quantize_dynamic(*paths, weight_type=QuantType.QInt8)


MAKERS: dict[str, Callable[[Task], None]] = {
    "OpenVINO": _openvino,
    "OpenVINO int8": _openvino_int8,
    "ONNX fp32": _onnx,
    "ONNX int8": _onnx_int8,
}
