"""What a model directory must not bring: code of its own, pickles, and the names of files that were not hashed.

transformers does what the JSON files of a model say. Even where it runs no remote code, they can have it open other
files, so what is more than a plain model is refused before the library sees it. The weights never reach the library
as files at all: see ``weights.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.models.weights import weight_files

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*bpe.codes")

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "tf_model.h5", "flax_model.msgpack")

_OBEYED = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
"""Their keys decide what the library does."""

_OTHER_FILES = {"config.json": "configuration_files", "tokenizer_config.json": "fast_tokenizer_files"}
"""Keys that have the library read another file in the place of this one or its like."""


def require_safe(name: str, directory: Path, files: list[str]) -> None:
    """Raise ModelError unless ``directory`` is a plain model; ``files`` is what of it will be hashed and read."""
    if "config.json" not in files:
        raise ModelError(
            f"{name} has no config.json", "a model directory as save_pretrained writes it", "check the path"
        )
    gone = [file for file in files if not (directory / file).is_file()]
    if gone:
        raise ModelError(f"{name} lacks {gone[0]}: a link to a file that is gone", "a complete model", "fetch it again")
    settings = {file: read_json_object(directory / file) for file in _OBEYED if file in files}
    _require_no_code(name, settings)
    _require_no_other_files(name, directory, settings)
    _require_tokenizer_and_weights(name, directory, files)


def read_json_object(path: Path) -> dict[str, Any]:
    """A settings file of a model. Raises ModelError if it is not a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object", "what save_pretrained writes", "check the directory")
    return content


def _require_no_code(name: str, settings: dict[str, dict[str, Any]]) -> None:
    for file, content in settings.items():
        # Wherever it stands: the library looks for it in the configuration of a part of a model too.
        if any(True for _ in _values_of("auto_map", content)):
            raise ModelError(
                f"{name} brings its own Python code (auto_map in {file})",
                "a model of the transformers library",
                "choose another: remote code is never run",
            )


def _require_no_other_files(name: str, directory: Path, settings: dict[str, dict[str, Any]]) -> None:
    named = [(file, key) for file, key in _OTHER_FILES.items() if key in settings.get(file, {})]
    special_tokens = settings.get("special_tokens_map.json", {})
    # The library takes it for the tokenizer's own setting: a vocabulary, from any place.
    named += [("special_tokens_map.json", key) for key in special_tokens if key.endswith("_file")]
    if named:
        file, key = named[0]
        raise ModelError(
            f"{name} is to be read from other files than usual ({key} in {file})",
            "files of their usual names",
            "save it again with save_pretrained",
        )
    if any(value is not None for value in _values_of("quantization_config", settings["config.json"])):
        # It would need code of other packages, and compute in another precision than --precision says.
        raise ModelError(
            f"{name} is quantized (quantization_config in config.json)",
            "weights in fp32, fp16 or bf16",
            "choose the model that it was made from",
        )
    if (directory / "adapter_config.json").exists():
        raise ModelError(
            f"{name} has an adapter (adapter_config.json), which would be left out",
            "a model that is complete without",
            "merge the adapter into the weights and save that",
        )


def _values_of(key: str, content: dict[str, Any]) -> Iterator[Any]:
    """What ``key`` is set to, however deep it stands."""
    left: list[Any] = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _require_tokenizer_and_weights(name: str, directory: Path, files: list[str]) -> None:
    if not any(fnmatch(file, pattern) for file in files for pattern in _VOCABULARIES):
        # The library would make up a tokenizer that knows no word.
        raise ModelError(
            f"{name} has no tokenizer",
            "tokenizer.json or a vocabulary beside the weights",
            "save its tokenizer there too",
        )
    if not any(file.endswith(".safetensors") for file in files):
        pickled = sorted(p.name for p in directory.iterdir() if any(fnmatch(p.name, pattern) for pattern in _PICKLES))
        has = f"only {', '.join(pickled)}" if pickled else "no weights"
        raise ModelError(
            f"{name} has {has}",
            "weights in safetensors, which cannot run code",
            "convert it with save_pretrained and use that directory",
        )
    weight_files(directory)
