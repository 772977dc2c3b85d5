"""The models that this machine has, for who misspells the name of one or presses Tab."""

from __future__ import annotations

import os
from pathlib import Path

from batchsent.suggestions import nearest


def cached_repositories() -> list[str]:
    """Ids of the models in the hub's cache, sorted."""
    from huggingface_hub import constants

    try:
        folders = os.listdir(constants.HF_HUB_CACHE)  # noqa: PTH208
    except OSError:
        return []
    # The layout of the cache is documented: models--NAMESPACE--NAME.
    return sorted(f.removeprefix("models--").replace("--", "/") for f in folders if f.startswith("models--"))


def near_model(name: str) -> str | None:
    """The model of this machine that ``name`` may be misspelt for: 'embedded', one in the hub's cache or a directory.

    None if there is none, or ``name`` is in the cache: then it is not misspelt.
    """
    known = {"embedded": "embedded"}
    for repository in cached_repositories():
        known |= {repository.rpartition("/")[2]: repository, repository: repository}
    if name in known:
        return None
    near = nearest(name, known)
    return _near_directory(name) if near is None else known[near]


def _near_directory(name: str) -> str | None:
    """The model directory that a path leads to, what does not exist on its way taken for the folder most like it."""
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - raises nothing
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        if not (found / part).is_dir():
            near = nearest(part, _folders(found))
            if near is None:
                return None
            part = near
        found /= part
    return str(found) if (found / "config.json").is_file() else None


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return []
