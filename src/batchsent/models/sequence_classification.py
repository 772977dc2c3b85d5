"""Any classifier that AutoModelForSequenceClassification loads: token ids in, float32 logits out.

Knows shapes and precisions. Does not know texts, parts or files of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from batchsent.errors import ModelError
from batchsent.models.last_layer import narrowed
from batchsent.models.packed import PackedModel
from batchsent.models.pretrained import load_pretrained, max_length, read_config
from batchsent.models.torch_classifier import Pass, TorchClassifier, padded
from batchsent.records import TokenBatch


@dataclass(frozen=True)
class Classification:
    """What a classifier's configuration says it answers."""

    labels: tuple[str, ...]
    """In the order of the logits."""
    multi_label: bool
    max_length: int
    """Tokens that the model takes at most."""
    has_label_names: bool
    """False where the labels are only LABEL_0, LABEL_1, …"""


def describe(directory: Path) -> Classification:
    """Read what the model in ``directory`` answers. Raises ModelError if that is not a classification."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = read_config(directory)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{directory.name} is a {config.model_type} model",
            "one that AutoModelForSequenceClassification loads",
            "choose a classifier",
        )
    if config.is_encoder_decoder:
        raise ModelError(
            f"{directory.name} is a {config.model_type} model",
            "an encoder or decoder with a classification head",
            "choose a classifier, or pass --task text-to-text",
        )
    labels = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    if len(labels) < 2 or config.problem_type == "regression":
        raise ModelError(
            f"{directory.name} has one logit (regression)",
            "a classifier with two labels or more",
            "choose another model",
        )
    if len(set(labels)) < len(labels):
        raise ModelError(
            f"two labels of {directory.name} have one name: {', '.join(labels)}",
            "distinct label names",
            "mend id2label in its config.json",
        )
    return Classification(
        labels=labels,
        multi_label=config.problem_type == "multi_label_classification",
        max_length=max_length(directory, config),
        has_label_names=labels != tuple(f"LABEL_{index}" for index in range(len(labels))),
    )


class SequenceClassifier(TorchClassifier):
    """A loaded encoder or decoder with a classification head."""

    def __init__(
        self,
        directory: Path,
        *,
        precision: str,
        device: str,
        threads: int,
        packed_length: int | None = None,
        is_compiled: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Passes are packed if ``packed_length`` names the tokens of a window at most, for a model that can.

        ``is_compiled`` has torch.compile make them, where they are packed.
        The rest as in :class:`TorchClassifier`.
        """
        make_pass: Callable[[Any], Pass] = _narrow_padded_pass
        if packed_length is not None:
            make_pass = partial(PackedModel, max_length=packed_length, is_compiled=is_compiled)
        super().__init__(
            partial(_load, directory),
            make_pass,
            _padded_pass,
            precision=precision,
            device=device,
            threads=threads,
            check=check,
        )

    @property
    def pad_token_id(self) -> int:
        """What fills the rows of a batch; any token does where the model has none for it, behind the mask."""
        return self._model.config.pad_token_id or 0


def _narrow_padded_pass(model: Any) -> Pass:
    return _padded_pass(narrowed(model))


def _padded_pass(model: Any) -> Pass:
    """A window a row, padded to the longest."""

    def compute(batch: TokenBatch) -> torch.Tensor:
        ids, mask = padded(batch, model.config.pad_token_id or 0, model.device)
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask.long()).logits
        return logits.float()

    return compute


def _load(directory: Path, dtype: torch.dtype) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    model = load_pretrained(
        directory,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        dtype,
        expected="a model with a trained classification head",
        remedy="fine-tune it first, or choose a classifier",
    )
    if model.config.pad_token_id is None:
        add_padding_token(model)
    return model


def add_padding_token(model: Any) -> None:
    """Give a decoder without a padding token one that no text contains.

    Such models find a text's last token by looking for the first padding token, so reusing the end-of-text
    token, as is often done, picks a wrong one wherever a text holds it.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(vocabulary + 1, mean_resizing=False)
    model.config.pad_token_id = vocabulary
