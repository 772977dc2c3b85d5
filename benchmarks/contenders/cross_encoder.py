"""sentence-transformers' ``CrossEncoder.predict``, which sorts by length and batches by itself.

It refuses single texts, so that it is given each as a pair with nothing: one separator token more.

Its own OpenVINO backend is optimum-intel's, whose releases (up to 2.2) ask for a transformers below 5.6 and so cannot
be installed beside batchsent. The variant 'openvino' therefore puts batchsent's int8 graph where that backend would put
its own, compiled as optimum-intel compiles: a latency hint, one request, everything else as the library has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers.modeling_outputs import SequenceClassifierOutput

from batchsent.models.openvino import import_openvino
from contenders import Answer, Ready, Score, Setting, Task
from contenders.plain_torch import DTYPES, PAIRED
from contenders.preparation import openvino_graph


def load(task: Task) -> Ready:
    """The encoder on its backend."""
    torch.set_num_threads(task.threads)
    dtype = DTYPES.get(task.precision, torch.float32)
    encoder: Any = CrossEncoder(
        str(task.model), device=task.device, local_files_only=True, model_kwargs={"dtype": dtype}
    )
    encoder.tokenizer.model_input_names = list(PAIRED)
    if task.variant == "openvino":
        encoder.model.forward = _forward(task)

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        pairs = [(text, "") for text in texts]

        def score() -> Answer:
            return Answer(
                encoder.predict(pairs, batch_size=setting["batch_size"], apply_softmax=True, show_progress_bar=False)
            )

        return score

    return ready


def _forward(task: Task) -> Any:
    """What OVModelForSequenceClassification.forward does."""
    graph = openvino_graph(task.model, quantized=True)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": task.threads}
    compiled = import_openvino().Core().compile_model(graph, "CPU", settings)

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_others: Any) -> SequenceClassifierOutput:
        outputs = compiled({"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        return SequenceClassifierOutput(logits=torch.from_numpy(outputs[0]))

    return forward
