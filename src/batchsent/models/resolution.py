"""A model's name → a directory of files whose hashes are known, safe to load.

Four sources: the model in the package, a local directory, one in an object store, a hub repository (through
huggingface_hub, with its cache and ``HF_HUB_OFFLINE``). Loads no weights and neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from batchsent.errors import HubUnreachableError, ModelError
from batchsent.identity import files_version
from batchsent.models.nearby import near_model
from batchsent.models.remote import fetched
from batchsent.models.safety import read_json_object, require_safe
from batchsent.objects.uris import is_object

EMBEDDED = "embedded"
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded"

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*bpe.codes",
    "dict.txt",
    "entity_vocab.json",
    "tekken.json",
    "word_pronunciation.json",
    "word_shape.json",
)
"""What a model is read from: nothing else is fetched or hashed, or decides a number. No pickle is among them."""

_EXPECTED = "'embedded', a model directory or a hub id"
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded."""

    name: str
    """'embedded', the hub's own id, or the directory's name."""
    directory: Path
    revision: str | None
    """Commit, for a hub model."""
    files: dict[str, str]
    """File name → SHA-256 in hex."""

    @property
    def version(self) -> str:
        """The commit, or the hash over the files' hashes."""
        return self.revision or files_version(self.files)


def resolve_model(name: str, revision: str | None, hash_file: Callable[[str], str]) -> ModelSource:
    """Find ``name``, fetch it if need be, check that it is safe and hash its files with ``hash_file``.

    Raises ModelError if it is no model that can be loaded safely, HubUnreachableError if the hub is needed and
    does not answer.
    """
    if name == EMBEDDED:
        if revision is not None:
            raise _no_revision(name, revision)
        return _source(EMBEDDED, EMBEDDED_DIRECTORY, None, hash_file)
    if is_object(name):
        if revision is not None:
            raise _no_revision(name, revision)
        directory = fetched(name, MODEL_FILES)
        return _source(directory.name, directory, None, hash_file)
    directory = local_directory(name)
    if directory.is_dir():
        if revision is not None:
            raise _no_revision(name, revision)
        return _source(directory.resolve().name, directory, None, hash_file)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"{name} is not a directory", _EXPECTED, _remedy(name, "check the path"))
    repository, commit, snapshot = _from_hub(name, revision)
    return _source(repository, snapshot, commit, hash_file)


def sha256_of(path: str) -> str:
    """In hex, of a file's bytes as they are now."""
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_unchanged(directory: Path, files: Mapping[str, str], hash_file: Callable[[str], str] = sha256_of) -> None:
    """Raise ModelError unless ``directory`` still holds ``files`` (name → SHA-256): what was just read of them counts.

    Whoever reads of a model while a run goes on asks this afterwards.
    """
    for name, sha256 in files.items():
        try:
            found = hash_file(str(directory / name))
        except OSError:
            found = ""
        if found != sha256:
            raise ModelError(
                f"{name} of the model in {directory.name} changed while it was loaded",
                "a model that holds still",
                "run again",
            )


def local_directory(name: str) -> Path:
    """Where ``name`` lies if it is a directory; '~' is the user's home."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - leaves '~nobody' as it is, where pathlib raises


def _remedy(name: str, otherwise: str, *, may_be_right: bool = False) -> str:
    near = near_model(name)
    if near is None:
        return otherwise
    return f"{otherwise} (or did you mean {near!r}?)" if may_be_right else f"did you mean {near!r}?"


def _no_revision(name: str, revision: str) -> ModelError:
    return ModelError(f"--revision {revision} for {name}", "a revision only for hub models", "drop --revision")


def _source(name: str, directory: Path, revision: str | None, hash_file: Callable[[str], str]) -> ModelSource:
    files = sorted(p.name for p in directory.iterdir() if any(fnmatch(p.name, pattern) for pattern in MODEL_FILES))
    require_safe(name, directory, files)
    return ModelSource(name, directory, revision, {file: hash_file(str(directory / file)) for file in files})


def read_model_config(directory: Path) -> dict[str, Any]:
    """``config.json`` as a dictionary. Raises ModelError if it is not one."""
    return read_json_object(directory / "config.json")


def _from_hub(name: str, revision: str | None) -> tuple[str, str, Path]:
    """(repository, commit, directory of the snapshot)."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's or httpx2's, by version
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if revision is not None and _COMMIT.fullmatch(revision):
        cached = _from_cache(name, revision)
        if cached is not None and (cached[2] / "config.json").exists() and any(cached[2].glob("*.safetensors")):
            return cached  # a commit never changes: no need to ask
    repository, commit = name, revision
    try:
        if not constants.HF_HUB_OFFLINE:
            info = HfApi().model_info(name, revision=revision)
            # The hub answers for a name of old, without its namespace, with the name that it has now.
            repository, commit = info.id, info.sha
            return (
                repository,
                str(commit),
                Path(snapshot_download(repository, revision=commit, allow_patterns=list(MODEL_FILES))),
            )
    except HFValidationError as error:
        raise ModelError(
            f"{name!r} is neither a directory nor a hub id", _EXPECTED, _remedy(name, "check the name")
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision!r}", "a branch, tag or commit", "check it on the hub"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{name} is not on the hub, or not for this user",
            _EXPECTED,
            _remedy(name, "check the name, or log in with 'hf auth login'"),
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        cached = _from_cache(name, revision)
        if cached is None:
            raise HubUnreachableError(
                f"the model hub does not answer and {name} is not in the cache ({type(error).__name__})",
                "a hub that answers, or a model in the cache",
                _remedy(name, "run again later, or name a local directory", may_be_right=True),
            ) from error
        return cached
    cached = _from_cache(name, revision)
    if cached is None:
        raise ModelError(
            f"{name} is not in the cache and HF_HUB_OFFLINE is set",
            "a cached model",
            _remedy(name, "fetch it once without HF_HUB_OFFLINE", may_be_right=True),
        )
    return cached


def _from_cache(name: str, revision: str | None) -> tuple[str, str, Path] | None:
    """The snapshot that the cache holds, under the name given or, for a bare name, under any namespace."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = [r for r in scan_cache_dir().repos if r.repo_type == "model"]
    except CacheNotFound:
        return None
    bare = "/" not in name
    exact = [r for r in repositories if r.repo_id == name]
    namespaced = [r for r in repositories if bare and r.repo_id.partition("/")[2] == name]
    if not exact and len(namespaced) > 1:
        names = " and ".join(sorted(r.repo_id for r in namespaced))
        raise ModelError(f"{name} is in the cache as {names}", "one model", "name it with its namespace")
    for repository in exact or namespaced:
        for found in repository.revisions:
            if found.commit_hash == revision or (revision or "main") in found.refs:
                return repository.repo_id, found.commit_hash, found.snapshot_path
    return None
