"""The base model: with a head for the labels to learn, and what of it is trained.

Read as every model is (``models.pretrained``): safetensors only, no code of its own. Only the head may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.errors import BatchsentError, ModelError, UsageError
from batchsent.models.pretrained import from_tensors, read_config
from batchsent.models.weights import WEIGHTS

if TYPE_CHECKING:
    import torch

_LORA_ALPHA = 2.0
"""Times the rank: how much the adapters count beside the matrices."""
_LORA_DROPOUT = 0.05


@dataclass(frozen=True)
class Trainable:
    """A loaded base model."""

    model: Any
    """The library's, in fp32."""
    merge: Callable[[], Any]
    """Makes of it a plain model: adapters become part of the matrices that they stand beside."""
    has_new_head: bool

    @property
    def pad_token_id(self) -> int:
        """What fills the rows of a batch."""
        return int(self.model.config.pad_token_id)

    def parameter_counts(self) -> tuple[int, int]:
        """(parameters that are trained, all of them)"""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.model.parameters()]
        return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)


def require_base(name: str, directory: Path) -> None:
    """Raise ModelError unless the model in ``directory`` can have a classification head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = read_config(directory)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or config.is_encoder_decoder:
        raise ModelError(
            f"{name} is a {config.model_type} model",
            "an encoder or decoder that takes a classification head, such as BERT or GPT-2",
            "choose another --base-model",
        )


def load_base(
    directory: Path, labels: tuple[str, ...], *, multi_label: bool, method: str = "full", lora_rank: int | None = None
) -> Trainable:
    """Load the model in ``directory`` with a head for ``labels``; a head of just these labels is kept.

    ``method`` 'full' trains everything, 'head' only what is not the encoder, 'lora' that and adapters of ``lora_rank``.
    A new head is drawn from torch's random numbers. Raises ModelError if weights of the encoder are missing.
    """
    import torch
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    from batchsent.models.sequence_classification import add_padding_token

    config = read_config(directory)
    architecture: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    had = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    was_multi_label = config.problem_type == "multi_label_classification"
    keeps_head = (had, was_multi_label) == (labels, multi_label)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = "multi_label_classification" if multi_label else "single_label_classification"
    prefix = f"{architecture.base_model_prefix}."

    def encoder_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        # A model without any head is saved without the prefix.
        if keeps_head or not any(name.startswith(prefix) for name in tensors):
            return tensors
        return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    model, missing = from_tensors(directory, config, architecture, torch.float32, encoder_of)
    lacks = sorted(name for name in missing if _is_encoder(name, prefix))
    if lacks:
        raise ModelError(
            f"{directory.name} has no weights for {', '.join(lacks[:3])}",
            "the weights of a whole encoder; only its head may be missing",
            "fetch or save it again",
        )
    if model.config.pad_token_id is None:
        add_padding_token(model)
    head = [name for name, _ in model.named_parameters() if not _is_encoder(name, prefix)]
    merge = _adapted(model, prefix, lora_rank) if lora_rank else lambda: model
    if method != "full":
        _train_only(model, head, and_adapters=method == "lora")
    return Trainable(model, merge, bool(missing))


def _is_encoder(name: str, prefix: str) -> bool:
    # A pooler stands in the encoder and belongs to the head: models that were only pretrained have none.
    return name.startswith(prefix) and not name.removeprefix(prefix).startswith("pooler.")


def _train_only(model: Any, names: list[str], *, and_adapters: bool) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names or (and_adapters and "lora_" in name))


def _adapted(model: Any, prefix: str, rank: int) -> Callable[[], Any]:
    """Put adapters beside every matrix of the encoder; what is returned merges them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    try:
        from peft import LoraConfig, LoraModel
    except ImportError as error:
        raise UsageError(
            "--lora-rank, and peft is not installed", "the lora extra", "pip install 'batchsent[lora]'"
        ) from error
    matrices = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and _is_encoder(name, prefix)
    }
    config = LoraConfig(
        r=rank,
        lora_alpha=round(_LORA_ALPHA * rank),
        lora_dropout=_LORA_DROPOUT,
        target_modules=list(matrices),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in matrices.values()),  # GPT-2's lie the other way
    )
    merge: Callable[[], Any] = LoraModel(model, config, "default").merge_and_unload
    return merge


def take_weights(model: Any, folder: Path) -> None:
    """Give ``model`` the weights of a checkpoint. Raises BatchsentError if they are not its own, all of them."""
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    if missing or unexpected:
        named = ", ".join([*missing, *unexpected][:3])
        raise BatchsentError(
            f"the checkpoint {folder.name} and the model differ in {named}",
            "weights under the names that the model gives them",
            "report it, with the name of the base model",
        )
