"""The model that a run's settings name, ready to compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.identity import Identity
from batchsent.models.graphs import graph_of
from batchsent.models.openvino import OpenVinoClassifier
from batchsent.models.prompts import Prompt, prompt_ids
from batchsent.models.resolution import read_model_config, require_unchanged

if TYPE_CHECKING:
    from batchsent.models.torch_classifier import TorchClassifier


def load_model(
    identity: Identity, directory: Path, device: str, check: Callable[[], None] = lambda: None
) -> TorchClassifier | OpenVinoClassifier:
    """Load the model in ``directory`` onto ``device``. ``check`` is called while it is converted, and may raise."""
    load = partial(
        load_torch_model,
        directory,
        prompt_of(identity),
        device=device,
        threads=identity.threads,
        check=partial(require_unchanged, directory, identity.model_files),
    )
    if identity.backend == "torch":
        packed_length = identity.max_length if identity.batching == "packed" else None
        return load(precision=identity.precision, packed_length=packed_length, is_compiled=identity.compiled)
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


def load_torch_model(
    directory: Path,
    prompt: Prompt | None,
    *,
    packed_length: int | None = None,
    is_compiled: bool = False,
    **settings: Any,
) -> TorchClassifier:
    """The model in ``directory``, asked by ``prompt`` or, without one, with its classification head.

    ``settings`` are those of :class:`TorchClassifier`; ``packed_length`` and ``is_compiled`` are for a head alone.
    """
    if prompt is None:
        from batchsent.models.sequence_classification import SequenceClassifier

        return SequenceClassifier(directory, packed_length=packed_length, is_compiled=is_compiled, **settings)
    from batchsent.models import causal, text_to_text
    from batchsent.models.pretrained import load_tokenizer
    from batchsent.models.torch_classifier import TorchClassifier

    family = causal if prompt.task == "causal" else text_to_text
    ids = prompt_ids(load_tokenizer(directory), prompt)
    return TorchClassifier(partial(family.load, directory), partial(family.likelihoods, prompt=ids), **settings)


def prompt_of(identity: Identity) -> Prompt | None:
    """How the model of a run is asked; None where a classification head answers."""
    if identity.prompt is None or identity.rendered_prompt is None:
        return None
    before, after = identity.rendered_prompt
    return Prompt(
        task=identity.task,
        template=identity.prompt,
        before=before,
        after=after,
        labels=identity.labels,
        words=identity.verbalizers,
        is_calibrated=identity.calibrate_prompt,
    )
