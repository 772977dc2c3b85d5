"""``batchsent publish``: what the drift gate held back is published after all, because a person looked at it."""

from __future__ import annotations

import hashlib
import time

from batchsent import checkpoint
from batchsent.checkpoint import Manifest
from batchsent.digests import DigestCache
from batchsent.directory import recorded_identity
from batchsent.errors import IncompleteError
from batchsent.reporting.ranks import recorded_runs
from batchsent.reporting.run_report import RunReport
from batchsent.reporting.status import not_ours
from batchsent.stages import committer
from batchsent.stores import Store, look_at_each


def accept_drift(store: Store) -> RunReport:
    """Publish what is in DIR, if nothing but its drift spoke against that; done before, it changes nothing.

    Raises UsageError if DIR is not ours, IncompleteError if there is more against it, LockedError if a run is at DIR.
    """
    began = time.monotonic()
    if recorded_identity(store) is None:
        raise not_ours(store)
    report = RunReport()
    with store.lock():
        store.remove_orphans()
        data, manifest = store.read_bytes(checkpoint.MANIFEST), checkpoint.load_manifest(store)
        if data is None or manifest is None:
            raise _not_held_back(store, "no run has finished it")
        report.shard_count = report.kept_shard_count = len(manifest.shards)
        report.count_all(manifest)
        if checkpoint.is_published(store):
            committer.confirm_success(store)
            report.end("nothing to do")
            return report
        held_back = _last_to_end_with(store, manifest)
        if held_back is None or held_back.state != "held back":
            raise _not_held_back(store, (held_back and held_back.message) or "a run has begun to change it since")
        digests = DigestCache(store)
        if not all(look_at_each(store, digests.is_intact, (file for e in manifest.shards for file in e.files))):
            raise _not_held_back(store, "its files are not those that were held back")
        committer.publish_success(store, manifest, digests.is_intact)
        report.inputs, report.drift, report.device = held_back.inputs, held_back.drift, held_back.device
        report.end("published", f"drift accepted, which had held back the run {held_back.run_id}")
        report.seconds = time.monotonic() - began
        report.save(store)
    return report


def _last_to_end_with(store: Store, manifest: Manifest) -> RunReport | None:
    """The newest run that came as far as to write ``manifest``."""
    sha256 = hashlib.sha256(manifest.to_json()).hexdigest()
    return next((run for run, _ in recorded_runs(store) if run.manifest_sha256 == sha256), None)


def _not_held_back(store: Store, why: str) -> IncompleteError:
    return IncompleteError(
        f"{store.root} was not held back by the drift gate ({why})",
        "a run that ended with exit 4",
        "run the same score command again to finish it",
    )
