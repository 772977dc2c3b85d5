"""``transformers.pipeline("text-classification")``: texts in, labels out, on one thread of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import pipeline

from contenders import Answer, Ready, Score, Setting, Task
from contenders.plain_torch import DTYPES


def load(task: Task) -> Ready:
    """The pipeline as its documentation makes it, with every label's probability."""
    torch.set_num_threads(task.threads)
    make: Any = pipeline
    dtype = DTYPES.get(task.precision, torch.float32)
    classify = make("text-classification", model=str(task.model), device=task.device, dtype=dtype)
    index_of = {label: int(index) for index, label in classify.model.config.id2label.items()}

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        def score() -> Answer:
            # Characters stand for tokens: whoever sorts before the pipeline has no tokens yet.
            order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
            order = order if setting["sorted"] else list(range(len(texts)))
            ordered = [texts[index] for index in order]
            answers = classify(ordered, top_k=None, truncation=True, batch_size=setting["batch_size"])
            probabilities = np.empty((len(texts), len(index_of)), np.float32)
            for index, answer in zip(order, answers, strict=True):
                for entry in answer:
                    probabilities[index, index_of[entry["label"]]] = entry["score"]
            return Answer(probabilities)

        return score

    return ready
