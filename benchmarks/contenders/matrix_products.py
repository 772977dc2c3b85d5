"""The limit: the model's matrix products alone, for as many tokens, in the same precision.

The linear layers of the encoder one behind the other, with their shapes and nothing between them; no attention, no
activation, no normalization, and no head, which sees one token a text. Faster than that the same model cannot be
computed by the same library.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from batchsent.models.openvino import compile_graph, import_openvino
from contenders import Answer, Ready, Score, Setting, Task

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load(task: Task) -> Ready:
    """The products by torch, or by OpenVINO if the variant says so."""
    torch.set_num_threads(task.threads)
    tokenizer: Any = AutoTokenizer.from_pretrained(task.model)
    layers = _layers(task)
    multiply = _by_openvino(task, layers) if task.variant == "openvino" else _by_torch(task, layers)

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        token_count = sum(map(len, tokenizer(list(texts), truncation=True)["input_ids"]))
        chunk = setting["rows"]
        counts = [min(chunk, token_count - start) for start in range(0, token_count, chunk)]

        def score() -> Answer:
            multiply(counts)
            return Answer(None)

        return score

    return ready


def _layers(task: Task) -> torch.nn.Sequential:
    """Layers of the shapes of the encoder's own, each of which takes what the one before gives."""
    auto: Any = AutoModel
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.from_pretrained(task.model))
    shapes = [
        (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    ]
    if any(out != into for (_, out), (into, _) in pairwise(shapes)):
        raise ValueError(f"these layers do not follow one another: {shapes[:6]}")
    torch.manual_seed(0)
    # torch's own initialization keeps the values small from layer to layer.
    return torch.nn.Sequential(*(torch.nn.Linear(into, out) for into, out in shapes)).eval()


def _width(layers: torch.nn.Sequential) -> int:
    first = layers[0]
    assert isinstance(first, torch.nn.Linear)
    return first.in_features


def _by_torch(task: Task, layers: torch.nn.Sequential) -> Any:
    dtype, width = DTYPES.get(task.precision, torch.float32), _width(layers)
    layers = layers.to(task.device, dtype)

    @torch.inference_mode()
    def multiply(counts: list[int]) -> None:
        block = torch.ones(max(counts), width, device=task.device, dtype=dtype)
        for count in counts:
            layers(block[:count])
        if task.device != "cpu":
            torch.cuda.synchronize()

    return multiply


def _by_openvino(task: Task, layers: torch.nn.Sequential) -> Any:
    """As many requests at once as there are threads, each on one: as batchsent's engine computes."""
    openvino, width = import_openvino(), _width(layers)
    example = torch.randn(64, width)
    graph = openvino.convert_model(layers, example_input=example, input=[([-1, width], openvino.Type.f32)])
    if task.precision == "int8":
        import nncf

        samples = [np.random.default_rng(seed).standard_normal((64, width), np.float32) for seed in range(8)]
        graph = nncf.quantize(graph, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER)
    compiled = compile_graph(graph, precision=task.precision, threads=task.threads)
    queue = openvino.AsyncInferQueue(compiled, task.threads)

    def multiply(counts: list[int]) -> None:
        block = np.ones((max(counts), width), np.float32)
        for count in counts:
            queue.start_async([block[:count]])
        queue.wait_all()

    return multiply
