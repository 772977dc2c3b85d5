"""What every family shares: a model of the transformers library from a directory, and how much text it takes.

Weights come from safetensors files alone, no code of theirs is run, and nothing in the directory names another file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.errors import ModelError
from batchsent.models.weights import read_tensors

if TYPE_CHECKING:
    import torch

DEFAULT_MAX_LENGTH = 512
"""For a model that names no limit of its own."""

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


def read_config(directory: Path) -> Any:
    """The library's configuration of the model in ``directory``. Raises ModelError if it is not understood."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{directory.name}'s config.json is not understood ({_first_line(error)})",
            "a model of the transformers library",
            "check the directory",
        ) from error


def max_length(directory: Path, config: Any) -> int:
    """Tokens that the model takes at most: what its positions and its tokenizer's settings allow."""
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


def load_tokenizer(directory: Path) -> Any:
    """The library's tokenizer in ``directory``. Raises ModelError if there is none."""
    from transformers import AutoTokenizer

    # It warns of every text over the model's length; cutting is what we are here for.
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"the tokenizer in {directory.name} cannot be loaded ({type(error).__name__})",
            "tokenizer files as save_pretrained writes them",
            "fetch or save the model again",
        ) from error


def load_pretrained(
    directory: Path, architectures: Mapping[type, Any], dtype: torch.dtype, *, expected: str, remedy: str
) -> Any:
    """The model in ``directory`` as the one of ``architectures`` for its configuration, in ``dtype``, for inference.

    Raises ModelError if it cannot be loaded; with what is ``expected`` and the ``remedy`` if weights are missing.
    """
    config = read_config(directory)
    if type(config) not in architectures:
        raise ModelError(f"{directory.name} is a {config.model_type} model", expected, remedy)
    model, missing = from_tensors(directory, config, architectures[type(config)], dtype)
    if missing:
        named = ", ".join(sorted(missing)[:3])
        raise ModelError(f"{directory.name} has no weights for {named}", expected, remedy)
    return model.eval()


def from_tensors(
    directory: Path,
    config: Any,
    architecture: Any,
    dtype: torch.dtype,
    select: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda tensors: tensors,
) -> tuple[Any, set[str]]:
    """(a model of ``architecture`` with what ``select`` takes of the weights in ``directory``, names that lack).

    What lacks is initialized at random. Raises ModelError if the model cannot be loaded.
    """
    from safetensors import SafetensorError

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, info = architecture.from_pretrained(
                None,  # no directory: nothing in it can name another file
                config=config,
                state_dict=select(read_tensors(directory)),
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
    for tensor in chain(model.parameters(), model.buffers()):
        # The library maps the file: whoever writes to it would change the weights of a model that is in use.
        tensor.data = tensor.data.clone()
    return model, set(info["missing_keys"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own progress bars and notices: what matters we say ourselves."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
