"""Every ``auto`` becomes a value, once, by a fixed rule: ScoreConfig + model + machine → Identity.

The numbers stand in docs/benchmarks.md. Nothing here is timed, so two machines of one kind decide alike.
"""

from __future__ import annotations

import logging

from batchsent import machine
from batchsent.batching import choose_batching
from batchsent.config import AUTO, ScoreConfig
from batchsent.errors import UsageError
from batchsent.identity import SCHEMA_VERSION, Identity
from batchsent.models.resolution import ModelSource

log = logging.getLogger(__name__)

CPU_BATCH_TOKENS = 2_048
"""The activations of so many tokens stay in a core's cache; from 1,024 to 4,096 the rate is within a few percent."""
CUDA_BATCH_TOKENS = 33_792
"""Six whole waves over the 132 multiprocessors of an H100; smaller devices halve what does not fit."""
CPU_ROWS_PER_PART = 2_048
"""Some ten seconds of work: what a kill costs at most."""
CUDA_ROWS_PER_PART = 16_384
"""About a second of work, and long enough that sorting within it leaves little padding."""


def resolve(config: ScoreConfig, source: ModelSource, device: str) -> Identity:
    """The settings of a run that begins now. Raises UsageError or ModelError."""
    from batchsent.models.sequence_classification import describe

    model = describe(source.directory)
    if not model.has_label_names:
        log.warning(
            "%s has no label names; its labels are %s; set id2label in its config.json to name them",
            source.name,
            ", ".join(model.labels),
        )
    max_length = model.max_length if config.max_length == AUTO else config.max_length
    if max_length > model.max_length:
        raise UsageError(
            f"--max-length {max_length}",
            f"at most {model.max_length}, the limit of {source.name}",
            "choose a smaller one",
        )
    on_cpu = device == "cpu"
    precision = machine.choose_precision(config.precision, device)
    return Identity(
        schema_version=SCHEMA_VERSION,
        text_column=config.text_column,
        keep=config.keep,
        keep_all=config.keep_all,
        label_column=config.label_column,
        encoding=config.encoding,
        delimiter=config.delimiter,
        limit=config.limit,
        model=source.name,
        requested_revision=config.revision,
        revision=source.revision,
        model_files=source.files,
        labels=model.labels,
        multi_label=model.multi_label,
        task="sequence-classification",
        precision=precision,
        backend="torch",
        batching=choose_batching(
            config.batching, source.directory, precision=precision, device=device, max_length=max_length
        ),
        batch_tokens=_or(config.batch_tokens, CPU_BATCH_TOKENS if on_cpu else CUDA_BATCH_TOKENS),
        threads=_or(config.threads, machine.available_cores()),
        rows_per_part=_or(config.rows_per_part, CPU_ROWS_PER_PART if on_cpu else CUDA_ROWS_PER_PART),
        max_length=max_length,
        long_text=config.long_text,
    )


def _or(asked: int | str, rule: int) -> int:
    return rule if isinstance(asked, str) else asked
