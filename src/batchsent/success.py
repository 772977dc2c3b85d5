"""``_SUCCESS``: what it vouches for, kept true even where locks do not work and another run is at DIR too.

A run takes ``_SUCCESS`` away before its first change. If it is there again, another run has published DIR meanwhile
(this one slept, say, on a node that was suspended). So a run looks before each change to what is published, and
looks again after it; and whoever writes ``_SUCCESS`` looks again at all that it vouches for. Of two runs that each
write first and look then, at least one sees what the other did, and takes ``_SUCCESS`` away: DIR is not published
any more, which the next run mends, instead of damaged with nobody the wiser.

What no file system can rule out: a run that is stopped or killed between a change and its second look leaves a
``_SUCCESS`` over a file that it does not fit. ``verify`` finds it, and so does the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import IO

from batchsent import checkpoint
from batchsent.checkpoint import FileEntry, Manifest
from batchsent.errors import BatchsentError, LockedError
from batchsent.identity import Identity
from batchsent.storage import Published
from batchsent.stores import Store, look_at_each


def take_back(store: Store) -> None:
    """Remove ``_SUCCESS``, durably."""
    store.remove(checkpoint.SUCCESS)


def require_settings(store: Store, fingerprint: str) -> None:
    """Raise LockedError if DIR was given other settings since this run began."""
    data = store.read_bytes(checkpoint.CONFIG)
    try:
        current = None if data is None else Identity.from_json(data).fingerprint
    except (ValueError, TypeError, KeyError, AttributeError):
        current = None
    if current != fingerprint:
        raise _overtaken(store, "gave it other settings")


def require_ours(store: Store, fingerprint: str) -> None:
    """Raise LockedError if another run gave DIR other settings, or published it, since this run's first change."""
    require_settings(store, fingerprint)
    if store.exists(checkpoint.SUCCESS):
        raise _overtaken(store, "published it")


def put(store: Store, fingerprint: str, name: str, write: Callable[[IO[bytes]], object]) -> Published:
    """Publish a file that ``_SUCCESS`` will vouch for. Raises LockedError if DIR is not this run's any more."""
    published = store.publish(name, write, before_rename=partial(require_ours, store, fingerprint))
    look_again(store, name, published.sha256)
    return published


def drop(store: Store, fingerprint: str, name: str) -> None:
    """Remove a file that no longer belongs to what DIR publishes. Raises LockedError as :func:`put`."""
    require_ours(store, fingerprint)
    store.remove(name)
    look_again(store, name, None)


def look_again(store: Store, name: str, sha256: str | None) -> None:
    """After ``name`` was made to hold what has this hash (None: was removed): was DIR published meanwhile?

    If so, and with another content of ``name``, takes ``_SUCCESS`` back and raises LockedError.
    """
    if not store.exists(checkpoint.SUCCESS):
        return
    listed = {file.path: file.sha256 for entry in checkpoint.listed_shards(store).values() for file in entry.files}
    if listed.get(name, sha256) != sha256 or not checkpoint.is_published(store):
        keep_back(store)


def keep_back(store: Store) -> None:
    """Raise LockedError if another run published DIR meanwhile, and take ``_SUCCESS`` back: it is wrong by now."""
    if store.exists(checkpoint.SUCCESS):
        take_back(store)
        raise _overtaken(store, "published it")


def vouch(store: Store, manifest: Manifest, is_intact: Callable[[FileEntry], bool]) -> None:
    """Write ``_SUCCESS`` over what is durable, then look at all of it again.

    Raises LockedError if another run has changed it; ``_SUCCESS`` is taken back then.
    """
    data = manifest.to_json()
    if not is_vouched_for(store, manifest):
        require_ours(store, manifest.fingerprint)
        store.publish_bytes(checkpoint.SUCCESS, checkpoint.success_line(data).encode())
    try:
        require_settings(store, manifest.fingerprint)
        files = (file for entry in manifest.shards for file in entry.files)
        if store.read_bytes(checkpoint.MANIFEST) != data or not all(look_at_each(store, is_intact, files)):
            raise _overtaken(store, "changed what it holds")
    except BatchsentError:
        take_back(store)
        raise


def is_vouched_for(store: Store, manifest: Manifest) -> bool:
    """Whether another run has published just this meanwhile."""
    return checkpoint.is_published(store) and store.read_bytes(checkpoint.MANIFEST) == manifest.to_json()


def _overtaken(store: Store, did: str) -> LockedError:
    return LockedError(
        f"another run on {store.root} {did} meanwhile", "one run at a time", "run again to finish what is left"
    )
