"""The weights of a model: safetensors files right in its directory, and nothing else.

transformers gets the tensors, not the files. It would let ``config.json`` and the index of the weights name others:
pickles, or files that nobody hashed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from batchsent.errors import ModelError

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def weight_files(directory: Path) -> list[str]:
    """Names of the files that the weights are read from: a directory may hold them several times.

    Raises ModelError if there are none, or if the index names anything but safetensors files beside it.
    """
    if (directory / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (directory / INDEX).is_file():
        raise ModelError(
            f"{directory.name} has neither {WEIGHTS} nor {INDEX}",
            "weights of the names that save_pretrained gives them",
            "rename or save them again",
        )
    try:
        names = sorted(set(json.loads((directory / INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{INDEX} of {directory.name} is not an index of weights",
            "what save_pretrained writes",
            "fetch or save it again",
        ) from error
    for name in names:
        if not name.endswith(".safetensors") or Path(name).name != name or not (directory / name).is_file():
            raise ModelError(
                f"{INDEX} of {directory.name} names {name!r}",
                "safetensors files beside it",
                "fetch or save it again",
            )
    return names


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Parameter name → tensor, which may still be a view of its file. Raises ModelError, OSError, SafetensorError."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for name in weight_files(directory):
        tensors |= load_file(directory / name)
    return tensors
