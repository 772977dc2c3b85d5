"""batchsent without its job: batches of the batcher through the classifier, as many passes in flight as it has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchsent.config import ScoreConfig
from batchsent.engines.encoding import make_encode
from batchsent.identity import Identity
from batchsent.models.loading import load_model
from batchsent.models.resolution import ModelSource, resolve_model
from batchsent.resolve import resolve
from batchsent.stages.classifier import classify
from contenders import Answer, Ready, Score, Setting, Task

COMPILED = "packed and compiled"
NO_PART: Any = None
"""The classifier hands a part through and looks at none of it."""


def source_of(directory: Path) -> ModelSource:
    """The model in ``directory``, with the hashes of its files."""
    return resolve_model(str(directory), None, lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest())


def load(task: Task) -> Ready:
    """The model as the job loads it, on the backend or with the batching that the variant names."""
    source = source_of(task.model)
    identity = identity_of(task, source)
    model = load_model(identity, source.directory, task.device)

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        budget = identity.batch_tokens if setting["batch_tokens"] == "auto" else setting["batch_tokens"]
        encode = make_encode(source.directory, replace(identity, batch_tokens=budget))
        column, size = pa.chunked_array([list(texts)]), identity.rows_per_part
        parts = [encode(column.slice(start, size)) for start in range(0, len(column), size)]
        if task.device != "cpu":  # as the loader of the job does it
            parts = [part.pin_memory() for part in parts]

        def score() -> Answer:
            predicted = classify(((NO_PART, part) for part in parts), model, identity.labelling, lambda: None)
            found = [answer.probabilities[part.text_of_record] for _, part, answer in predicted]
            return Answer(np.concatenate(found))

        return score

    return ready


def identity_of(task: Task, source: ModelSource) -> Identity:
    """What the job would decide for the task."""
    identity = resolve(ScoreConfig(inputs=("-",), output="-", **options(task)), source, task.device)
    return replace(identity, compiled=task.variant == COMPILED)


def options(task: Task) -> dict[str, Any]:
    """The options of ``batchsent score`` that say what the task says."""
    given: dict[str, Any] = {"model": str(task.model), "precision": task.precision, "device": task.device}
    given["threads"] = task.threads
    batching = "packed" if task.variant == COMPILED else task.variant
    return given | ({"backend": task.variant} if task.device == "cpu" else {"batching": batching})
