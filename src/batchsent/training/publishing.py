"""DIR: which settings it was begun with, and the finished model in it.

    DIR/config.json, model.safetensors, tokenizer files     the model
    DIR/README.md, curves.svg, curves.png                   its card; with a grid also grid.csv, grid.svg, grid.png
    DIR/_finetune/config.json                               the settings
    DIR/_finetune/result.json                               what was published, with hashes
    DIR/_finetune/runs/                                     trainings: checkpoints, results

``config.json`` comes last and goes first: without it a directory is no model, so one that is half written is never
loaded.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from batchsent.errors import UsageError
from batchsent.models.resolution import sha256_of
from batchsent.storage import LocalStore
from batchsent.training.settings import Settings, require_same

INTERNAL = "_finetune"
SETTINGS = f"{INTERNAL}/config.json"
RESULT = f"{INTERNAL}/result.json"
RUNS = f"{INTERNAL}/runs"
MODEL = f"{INTERNAL}/model"

CONFIG = "config.json"
_NOT_OF_A_TOKENIZER = (CONFIG, "generation_config.json")


def recorded_settings(store: LocalStore) -> Settings | None:
    """The settings that DIR was begun with; None before its first use. Raises UsageError if it is not ours."""
    data = store.read_bytes(SETTINGS)
    if data is None:
        if store.exists(CONFIG):
            raise UsageError(
                f"{store.root} holds a model that was not trained there",
                "a directory of its own",
                "choose another --output",
            )
        return None
    try:
        return Settings.from_json(data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{store.path(SETTINGS)} is damaged or of another version of batchsent",
            "the settings of the training in DIR",
            "choose another --output, or remove DIR",
        ) from error


def adopt(store: LocalStore, settings: Settings, recorded: Settings | None, *, restart: bool) -> None:
    """Make DIR that of ``settings``. Raises SettingsChangedError if it has others, unless ``restart`` discards them."""
    if recorded is not None:
        if recorded == settings:
            return
        if not restart:
            require_same(settings, recorded, store.root)
        discard(store)
    store.publish_bytes(SETTINGS, settings.to_json())


def discard(store: LocalStore) -> None:
    """Remove the model that DIR holds, and all that was to become one."""
    store.remove(CONFIG)
    for name in _published(store)["files"]:
        store.remove(name)
    for folder in (RUNS, MODEL):
        store.remove_tree(folder)
    store.remove(RESULT)


def published_result(store: LocalStore, settings: Settings) -> dict[str, Any] | None:
    """What was published, if it is the model of ``settings`` and every file of it is as it was."""
    result = _published(store)
    if result["fingerprint"] != settings.fingerprint:
        return None
    is_whole = all(
        store.exists(name) and sha256_of(str(store.path(name))) == sha256 for name, sha256 in result["files"].items()
    )
    return result if is_whole else None


def _published(store: LocalStore) -> dict[str, Any]:
    try:
        content = json.loads(store.read_bytes(RESULT) or b"")
        return {"fingerprint": content["fingerprint"], "files": dict(content["files"]), "summary": content["summary"]}
    except (ValueError, TypeError, KeyError):
        return {"fingerprint": "", "files": {}, "summary": {}}


def publish(
    store: LocalStore, settings: Settings, base: Path, pages: dict[str, bytes], summary: dict[str, Any]
) -> None:
    """Put the model in ``_finetune/model`` into DIR, with the tokenizer of ``base`` and ``pages``."""
    model = store.path(MODEL)
    tokenizer = [name for name in settings.base_files if name not in _NOT_OF_A_TOKENIZER and ".safetensors" not in name]
    sources = {name: base / name for name in tokenizer}
    sources |= {path.name: path for path in sorted(model.iterdir())}
    config = sources.pop(CONFIG)
    store.remove(CONFIG)
    files = {name: store.publish_bytes(name, data).sha256 for name, data in sorted(pages.items())}
    for name, path in sources.items():
        files[name] = _copy(store, name, path)
    files[CONFIG] = sha256_of(str(config))
    content = {"fingerprint": settings.fingerprint, "files": files, "summary": summary}
    store.publish_bytes(RESULT, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    _copy(store, CONFIG, config)
    store.remove_tree(MODEL)


def _copy(store: LocalStore, name: str, path: Path) -> str:
    with path.open("rb") as source:
        return store.publish(name, lambda handle: shutil.copyfileobj(source, handle, 1 << 20)).sha256
