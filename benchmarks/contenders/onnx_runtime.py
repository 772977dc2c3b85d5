"""ONNX Runtime on the CPU: length-sorted, padded batches through an exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import AutoTokenizer

from contenders import Answer, Ready, Score, Setting, Task
from contenders.plain_torch import by_length, padded_batches
from contenders.preparation import onnx_path


def load(task: Task) -> Ready:
    """A session over the graph in the task's precision."""
    tokenizer: Any = AutoTokenizer.from_pretrained(task.model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    path = str(onnx_path(task.folder, task.precision))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        rows = [np.array(ids, np.int64) for ids in tokenizer(list(texts), truncation=True)["input_ids"]]

        def score() -> Answer:
            order, found = by_length(rows), []
            for ids, mask in padded_batches(rows, order, setting["batch_size"], tokenizer.pad_token_id):
                found.append(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
            logits = torch.from_numpy(np.concatenate(found)[np.argsort(order)])
            return Answer(torch.softmax(logits, dim=-1).numpy())

        return score

    return ready
