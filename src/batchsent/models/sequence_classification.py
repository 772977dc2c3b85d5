"""Any classifier that AutoModelForSequenceClassification loads: token ids in, float32 logits out.

Knows shapes and precisions. Does not know texts, parts or files of ours.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from batchsent.errors import ModelError
from batchsent.models.packed import PackedModel
from batchsent.models.weights import read_tensors
from batchsent.records import TokenBatch

DEFAULT_MAX_LENGTH = 512
"""For a model that names no limit of its own."""

CUDA_PASSES_IN_FLIGHT = 2
"""Queued behind the one whose logits are waited for: enough that the device is never without work."""

Logits = npt.NDArray[np.float32]

# Their first position is the padding index + 1, so so many fewer tokens fit (Liu et al. 2019, fairseq's layout).
_OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
    "ibert",
    "data2vec-text",
    "xmod",
    "luke",
    "esm",
)


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
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    try:
        config: Any = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{directory.name}'s config.json is not understood ({_first_line(error)})",
            "a model of the transformers library",
            "check the directory",
        ) from error
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
            "choose a classifier (text-to-text is not available in this version)",
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
        max_length=_max_length(directory, config),
        has_label_names=labels != tuple(f"LABEL_{index}" for index in range(len(labels))),
    )


def _max_length(directory: Path, config: Any) -> int:
    import json

    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        settings = json.loads((directory / "tokenizer_config.json").read_bytes())
        named = settings.get("model_max_length")
        # Tokenizers without a limit say 10^30.
        if isinstance(named, int | float) and 0 < named < 1_000_000:
            limits.append(int(named))
    return min(limits, default=DEFAULT_MAX_LENGTH)


class SequenceClassifier:
    """A loaded model on its device."""

    def __init__(
        self,
        directory: Path,
        *,
        precision: str,
        device: str,
        threads: int,
        packed_length: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Load the weights (safetensors only, no remote code).

        ``precision`` 'fp16' is autocast over fp32 weights; 'fp16-weights' and 'bf16' hold the weights so. Passes are
        packed if ``packed_length`` names the tokens of a text at most, for a model that can; else padded. ``check``
        is called after weights were loaded later than here, and may raise.
        """
        if device == "cpu":
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.in_flight = 0 if device == "cpu" else CUDA_PASSES_IN_FLIGHT
        self._directory, self._check = directory, check
        self._autocast = precision == "fp16"
        dtype = {"bf16": torch.bfloat16, "fp16-weights": torch.float16}.get(precision, torch.float32)
        self._model = _load(directory, dtype).to(self.device)
        is_reference = dtype == torch.float32 and not self._autocast and packed_length is None
        self._full_precision: Any = self._model if is_reference else None
        self._packed = None if packed_length is None else PackedModel(self._model, max_length=packed_length)

    @property
    def module(self) -> torch.nn.Module:
        """The library's own model."""
        module: torch.nn.Module = self._model
        return module

    @property
    def pad_token_id(self) -> int:
        """What fills the rows of a batch; any token does where the model has none for it, behind the mask."""
        return self._model.config.pad_token_id or 0

    @torch.inference_mode()
    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        """Begin a forward pass; what is returned waits for its logits. Raises torch.OutOfMemoryError."""
        with torch.autocast(self.device.type, dtype=torch.float16) if self._autocast else contextlib.nullcontext():
            logits = self._packed(batch) if self._packed else self._forward(self._model, batch)
        if self.device.type == "cpu":
            return logits.numpy
        # Copied by the device behind the pass, so that nobody waits before the logits are wanted.
        copy = torch.empty_like(logits, device="cpu", pin_memory=True)
        copy.copy_(logits, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self.device))

        def wait() -> Logits:
            copied.synchronize()
            return copy.numpy()

        return wait

    @torch.inference_mode()
    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        """A whole pass in fp32, padded, from weights that are loaded when they are first needed."""
        if self._full_precision is None:
            model = _load(self._directory, torch.float32).to(self.device)
            self._check()
            self._full_precision = model
        logits: Logits = self._forward(self._full_precision, batch).cpu().numpy()
        return logits

    def _forward(self, model: Any, batch: TokenBatch) -> torch.Tensor:
        """float32 logits [texts, labels] on the device, of a padded pass."""
        ids = torch.from_numpy(batch.token_ids).to(self.device, non_blocking=True)
        lengths = torch.from_numpy(batch.lengths).to(self.device, non_blocking=True)
        # Padded where it is computed: less to copy.
        mask = torch.arange(int(batch.lengths.max()), device=self.device)[None, :] < lengths[:, None]
        fill = model.config.pad_token_id or 0
        padded = torch.full(mask.shape, fill, dtype=torch.int64, device=self.device).masked_scatter_(mask, ids.long())
        logits: torch.Tensor = model(input_ids=padded, attention_mask=mask.long()).logits
        return logits.float()


def _load(directory: Path, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            architecture: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
            model, info = architecture.from_pretrained(
                None,  # no directory: nothing in it can name another file
                config=config,
                state_dict=read_tensors(directory),
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                attn_implementation=None,  # the library's choice: config.json may name code on the hub
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{directory.name} cannot be loaded ({_first_line(error)})",
            "complete safetensors weights that fit its config.json",
            "fetch or save it again",
        ) from error
    if info["missing_keys"]:
        named = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"{directory.name} has no weights for {named}",
            "a model with a trained classification head",
            "fine-tune it first, or choose a classifier",
        )
    if model.config.pad_token_id is None:
        _add_padding_token(model)
    for tensor in chain(model.parameters(), model.buffers()):
        # The library maps the file: whoever writes to it would change the weights of a model that is in use.
        tensor.data = tensor.data.clone()
    return model.eval()


def _add_padding_token(model: Any) -> None:
    """Give a decoder without a padding token one that no text contains.

    Such models find a text's last token by looking for the first padding token, so reusing the end-of-text
    token, as is often done, picks a wrong one wherever a text holds it.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(vocabulary + 1, mean_resizing=False)
    model.config.pad_token_id = vocabulary


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's own progress bars and notices: what matters we say ourselves."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
