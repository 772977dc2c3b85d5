"""The model that a run's settings name, ready to compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.identity import Identity
from batchsent.models.graphs import graph_of
from batchsent.models.openvino import OpenVinoClassifier
from batchsent.models.resolution import read_model_config, require_unchanged

if TYPE_CHECKING:
    from batchsent.models.sequence_classification import SequenceClassifier


def load_model(
    identity: Identity, directory: Path, device: str, check: Callable[[], None] = lambda: None
) -> SequenceClassifier | OpenVinoClassifier:
    """Load the model in ``directory`` onto ``device``. ``check`` is called while it is converted, and may raise."""
    from batchsent.models.sequence_classification import SequenceClassifier

    load = partial(
        SequenceClassifier,
        directory,
        device=device,
        threads=identity.threads,
        check=partial(require_unchanged, directory, identity.model_files),
    )
    if identity.backend == "torch":
        packed_length = identity.max_length if identity.batching == "packed" else None
        return load(precision=identity.precision, packed_length=packed_length)
    graph = graph_of(
        directory,
        identity.model_files,
        quantized=identity.precision == "int8",
        max_length=identity.max_length,
        check=check,
    )
    return OpenVinoClassifier(
        graph,
        precision=identity.precision,
        threads=identity.threads,
        pad_token_id=read_model_config(directory).get("pad_token_id") or 0,
        load_full_precision=partial(load, precision="fp32"),
    )
