"""The model and a loop: batches of so many rows, sorted by length, padded to their longest. Also the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from contenders import Answer, Probabilities, Ready, Score, Setting, Task

DTYPES = {"bf16": torch.bfloat16, "fp16-weights": torch.float16}
"""'fp16' is autocast over fp32 weights."""
PAIRED = ("input_ids", "attention_mask")
"""What a pair is given to every CrossEncoder as, so that one reference fits them: batchsent's graphs take no more."""


@dataclass(frozen=True)
class Facts:
    """What only a process with torch in it can say of a model and texts."""

    gpu: str | None
    """What the device calls itself; None on a CPU."""
    token_counts: list[int]
    """Of each text, cut to the model's length."""
    expected: dict[str, Probabilities]
    """In fp32, of the texts and of their pairs with nothing."""


def load(task: Task) -> Ready:
    """Load the library's own model, without anything around it."""
    torch.set_num_threads(task.threads)
    tokenizer: Any = AutoTokenizer.from_pretrained(task.model)
    classifier: Any = AutoModelForSequenceClassification
    dtype = DTYPES.get(task.precision, torch.float32)
    model = classifier.from_pretrained(task.model, dtype=dtype).to(task.device).eval()

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        encoded = tokenizer(list(texts), truncation=True)["input_ids"]
        rows = [np.array(ids, np.int64) for ids in encoded]

        @torch.inference_mode()
        def score() -> Answer:
            with torch.autocast("cuda", torch.float16) if task.precision == "fp16" else contextlib.nullcontext():
                return Answer(padded_passes(model, rows, setting["batch_size"], tokenizer.pad_token_id))

        return score

    return ready


def padded_passes(model: Any, rows: list[Any], batch_size: int, fill: int) -> Probabilities:
    """Length-sorted, ``batch_size`` rows at a time, back in the order of ``rows``."""
    order, found = by_length(rows), []
    for ids, mask in padded_batches(rows, order, batch_size, fill):
        inputs = (torch.from_numpy(ids).to(model.device), torch.from_numpy(mask).to(model.device))
        logits = model(input_ids=inputs[0], attention_mask=inputs[1]).logits
        found.append(torch.softmax(logits.float(), dim=-1).cpu().numpy())
    return np.concatenate(found)[np.argsort(order)]


def by_length(rows: list[Any]) -> Any:
    """Indices, the longest row first."""
    return np.argsort([-len(ids) for ids in rows], kind="stable")


def padded_batches(rows: list[Any], order: Any, batch_size: int, fill: int) -> list[tuple[Any, Any]]:
    """(ids, mask) of [batch_size, longest] each."""
    batches = []
    for start in range(0, len(order), batch_size):
        batch = [rows[index] for index in order[start : start + batch_size]]
        longest = max(map(len, batch))
        ids = np.full((len(batch), longest), fill, np.int64)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        mask = np.arange(longest) < np.array([[len(tokens)] for tokens in batch])
        batches.append((ids, mask.astype(np.int64)))
    return batches


def device_name(device: str) -> str:
    """What a GPU calls itself."""
    return torch.cuda.get_device_name(device)


def facts(task: Task, texts: Sequence[str], rows: int) -> Facts:
    """Of the task's model and ``texts``; the reference of the first ``rows`` of them."""
    tokenizer: Any = AutoTokenizer.from_pretrained(task.model)
    return Facts(
        gpu=None if task.device == "cpu" else device_name(task.device),
        token_counts=[len(ids) for ids in tokenizer(list(texts), truncation=True)["input_ids"]],
        expected=_reference(task, tokenizer, texts[:rows]),
    )


def _reference(task: Task, tokenizer: Any, texts: Sequence[str]) -> dict[str, Probabilities]:
    """What the model says in fp32: of each text, and of each as the first of a pair with nothing.

    On the CPU a text at a time, so that nothing is padded.
    """
    torch.set_num_threads(task.threads)
    classifier: Any = AutoModelForSequenceClassification
    model = classifier.from_pretrained(task.model, dtype=torch.float32).to(task.device).eval()
    alone = tokenizer(list(texts), truncation=True)["input_ids"]
    paired = tokenizer(list(texts), [""] * len(texts), truncation=True)["input_ids"]
    batch_size = 1 if task.device == "cpu" else 64
    with torch.inference_mode():
        return {
            name: padded_passes(model, [np.array(ids, np.int64) for ids in rows], batch_size, tokenizer.pad_token_id)
            for name, rows in (("texts", alone), ("pairs", paired))
        }
