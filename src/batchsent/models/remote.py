"""A model in an object store → a directory in the user's cache, fetched once a version.

The directory is named after what the store says of each file, so another version is another directory, and one that
was left half fetched is completed. What is in it is then checked and hashed as any directory is.
"""

from __future__ import annotations

import logging
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError
from batchsent.identity import checksum_of
from batchsent.models.cache import cache_directory
from batchsent.objects import access
from batchsent.objects.reading import ObjectFile
from batchsent.objects.uris import normalized
from batchsent.storage import LocalStore

log = logging.getLogger(__name__)

_REFUSED_WITH = "adapter_config.json"
"""Not read, but its presence speaks against a model."""


def fetched(name: str, patterns: tuple[str, ...]) -> Path:
    """The directory with the files of the model at URI ``name`` that ``patterns`` match.

    Raises ModelError if there is none or it changes meanwhile, StorageError if the store does not answer.
    """
    uri = normalized(name, "--model")
    files = {
        file: details
        for file, details in access.below(uri).items()
        if "/" not in file and any(fnmatch(file, pattern) for pattern in (*patterns, _REFUSED_WITH))
    }
    if not files:
        raise ModelError(f"{uri} holds no model", "a folder as save_pretrained writes it", "check the URI")
    seen = {file: access.signature_of(details) for file, details in files.items()}
    key = checksum_of({"uri": uri, "files": {file: [s.version, s.size_bytes] for file, s in seen.items()}})
    folder = f"models/{key}/{uri.rpartition('/')[2]}"
    store = LocalStore(cache_directory())
    for file, signature in seen.items():
        kept = store.signature(f"{folder}/{file}")
        if kept is None or kept.size_bytes != signature.size_bytes:
            _fetch(store, f"{uri}/{file}", f"{folder}/{file}", signature.version)
    return store.path(folder)


def _fetch(store: LocalStore, uri: str, name: str, version: str) -> None:
    changed = ModelError(f"{uri} changed while it was fetched", "a model that holds still", "run again")
    log.info("fetching %s into %s", uri, store.root)

    def write(handle: Any) -> None:
        try:
            with ObjectFile(uri, changed, version) as source:
                shutil.copyfileobj(source, handle, 1 << 20)
        except FileNotFoundError:
            raise changed from None

    store.create()
    store.publish(name, write)
