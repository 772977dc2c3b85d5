"""A stock classifier → an OpenVINO graph, quantized to int8 if asked for. Runs in a process of its own.

A graph is only given away if it computes what torch computes. The same model gives the same graph: it is traced from
its weights, and quantized on texts that come with the package.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batchsent.errors import ConversionError
from batchsent.models.openvino import compile_graph, import_openvino, inputs_of
from batchsent.records import TokenBatch
from batchsent.stop import leave_with

if TYPE_CHECKING:
    from batchsent.models.sequence_classification import SequenceClassifier

CALIBRATION_TEXTS = Path(__file__).with_name("calibration_texts.txt")
REFUSED = "refused.json"
"""What is left instead of a graph: found, expected, remedy."""

TOLERANCE = 2e-3
"""Of a logit, between torch and the graph in fp32, relative to the largest."""


def convert(directory: Path, folder: Path, *, quantized: bool, max_length: int, parent: int) -> None:
    """Leave ``graph.xml`` and ``graph.bin`` of the model in ``directory`` in ``folder``, or the reason why not."""
    leave_with(parent)
    warnings.simplefilter("ignore")  # of the tracer, about the library's code
    try:
        graph = _graph(directory, quantized, max_length)
        # Weights as they are; by default they would be made half as precise.
        import_openvino().save_model(graph, folder / "graph.xml", compress_to_fp16=False)
    except ConversionError as error:
        (folder / REFUSED).write_text(json.dumps(error.args), encoding="utf-8")


def _graph(directory: Path, quantized: bool, max_length: int) -> Any:
    from batchsent.models.sequence_classification import SequenceClassifier

    model = SequenceClassifier(directory, precision="fp32", device="cpu", threads=1)
    batches = _calibration_batches(directory, max_length)
    try:
        graph = _traced(model)
        _require_equal(graph, model, batches)
        return _quantized(graph, batches, model.pad_token_id) if quantized else graph
    except ConversionError:
        raise
    except Exception as error:  # tracing runs the library's Python, and raises whatever that does
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConversionError(
            f"OpenVINO cannot convert {directory.name} ({reason})", "a model that it converts", "use --backend torch"
        ) from error


def _calibration_batches(directory: Path, max_length: int) -> list[TokenBatch]:
    """The shipped texts, two of about one length at a time, so that padding is seen too."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    texts = CALIBRATION_TEXTS.read_text(encoding="utf-8").splitlines()
    rows = sorted(tokenizer(texts, truncation=True, max_length=max_length)["input_ids"], key=len, reverse=True)
    pairs = [rows[index : index + 2] for index in range(0, len(rows), 2)]
    return [
        TokenBatch(
            np.array([token for row in pair for token in row], np.int32),
            np.array([len(row) for row in pair], np.int64),
            np.arange(len(pair)),
        )
        for pair in pairs
    ]


def _traced(model: SequenceClassifier) -> Any:
    import torch

    from batchsent.models.last_layer import narrowed

    openvino = import_openvino()

    class Traced(torch.nn.Module):
        """Ids and mask in, logits out, the two inputs by position."""

        def __init__(self) -> None:
            super().__init__()
            with torch.inference_mode():
                self.inner = narrowed(model.module)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    ids = torch.full((2, 8), model.pad_token_id, dtype=torch.int64)
    mask = torch.ones((2, 8), dtype=torch.int64)
    mask[1, 5:] = 0
    return openvino.convert_model(
        Traced().eval(),
        example_input={"input_ids": ids, "attention_mask": mask},
        input=[(name, [-1, -1], openvino.Type.i64) for name in ("input_ids", "attention_mask")],
    )


def _require_equal(graph: Any, model: SequenceClassifier, batches: list[TokenBatch]) -> None:
    """On an eighth of the texts, the longest among them."""
    compiled = compile_graph(graph, precision="fp32", threads=1)
    for batch in batches[::8]:
        expected = model.full_precision_logits(batch)
        found = compiled(inputs_of(batch, model.pad_token_id))[0]
        difference, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
        if not difference <= TOLERANCE * max(1.0, largest):
            raise ConversionError(
                f"the graph that OpenVINO makes of this model differs from it ({difference:.2g} of a logit)",
                f"at most {TOLERANCE:g}",
                "use --backend torch",
            )


def _quantized(graph: Any, batches: list[TokenBatch], pad_token_id: int) -> Any:
    """int8 by post-training quantization, as NNCF does it for transformers.

    Symmetric weights, asymmetric activations, outliers smoothed.
    """
    import_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset([inputs_of(batch, pad_token_id) for batch in batches])
    return nncf.quantize(graph, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches))
