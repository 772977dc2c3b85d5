"""When a run's parts are committed: what is published, what speaks against it, what is left to other ranks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batchsent import checkpoint
from batchsent.audit import Auditor
from batchsent.checkpoint import Audit, Manifest
from batchsent.drift import DriftGate
from batchsent.errors import BatchsentError, DriftError, IncompleteError, LockedError, StorageError
from batchsent.records import Shard
from batchsent.run import Run
from batchsent.shares import Share
from batchsent.stages import committer
from batchsent.stores import look_at_each

log = logging.getLogger(__name__)


def published_before(run: Run, shards: Sequence[Shard]) -> Manifest | None:
    """The manifest, if there is nothing to do; then the run's report says so.

    ``_SUCCESS`` vouches for just these shards, unchanged, and as many rows as asked for were audited.
    """
    store, ledger = run.store, run.ledger
    if not checkpoint.is_published(store) or ledger.listed.keys() != {shard.name for shard in shards}:
        return None
    if not all(look_at_each(store, ledger.is_finished, shards)):
        return None
    manifest = checkpoint.load_manifest(store)
    if manifest is None or not manifest.has_audit_of(run.config.audit):
        return None
    run.report.end("nothing to do")
    run.report.count_all(manifest)
    run.report.kept_shard_count = len(shards)
    run.report.kept_bytes = run.report.own_bytes
    return manifest


def judge_published(run: Run, manifest: Manifest, drift_gate: DriftGate | None) -> None:
    """Tell what the gates of this run say of a DIR that is published; it stays so, as others may have read it.

    Raises UsageError if the baseline is of other labels.
    """
    bad = bad_rows(run, manifest)
    found: list[BatchsentError] = [] if bad is None else [bad]
    if drift_gate is not None:
        drift_gate.require_labels(run.identity.labels)
        run.report.drift = drift_gate.told(manifest)
        try:
            drift_gate.require_little_drift(manifest, run.store.root)
        except DriftError as error:
            found.append(error)
    for obstacle in found:
        log.warning("published before, and it stays so, but: %s; expected %s", *obstacle.args[:2])


def bad_rows(run: Run, manifest: Manifest) -> IncompleteError | None:
    """What ``--max-reject-rate`` and ``--on-bad-row`` say of it."""
    totals = manifest.totals()
    bad, total = manifest.bad_row_count(), totals["record_count"]
    limit = 0.0 if run.config.on_bad_row == "fail" else run.config.max_reject_rate
    if bad <= limit * total:
        return None
    counts = totals["reject_counts"].items()
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts if reason != "empty_text")
    return IncompleteError(
        f"{bad:,} of {total:,} records are bad ({reasons})",
        f"at most {limit:.2%}",
        f"look at {run.store.path(checkpoint.REJECTS)}, or run again with a higher --max-reject-rate",
    )


@dataclass(frozen=True)
class Closing:
    """The end of a run."""

    run: Run
    share: Share
    drift_gate: DriftGate | None
    auditor: Auditor

    def close(self, shards: Sequence[Shard]) -> None:
        """Publish, unless other ranks are still to do so; the last one finds nothing missing.

        Raises IncompleteError if something speaks against it, DriftError if it has moved too far from the baseline,
        StoppedError if the run is to stop.
        """
        self.run.stop.check()
        if self.share.is_whole:
            self._publish(shards)
            return
        with contextlib.suppress(StorageError):
            self.run.digests.save()  # before the look: the last rank need not hash what another one has
        missing = self.run.ledger.unfinished(shards)
        if missing:
            self._leave_to_others(len(missing))
            return
        try:
            self._publish(shards)
        except LockedError:
            if not checkpoint.is_published(self.run.store):
                raise
            self._publish(shards)  # another rank was faster by a moment: see it through

    def _leave_to_others(self, count: int) -> None:
        """This rank's share is done. Raises IncompleteError if a shard failed in it, which no other rank can know."""
        self.run.report.failed_shards = self.run.ledger.failed
        if self.run.ledger.failed:
            raise self._failed(self.run.ledger.failed)
        left = f"{count:,} shard{'s' * (count != 1)} still in work by other ranks"
        self.run.report.end("share done", left)

    def _publish(self, shards: Sequence[Shard]) -> None:
        """Manifest, then ``_SUCCESS`` if nothing speaks against it. Raises IncompleteError if something does."""
        manifest = self.run.ledger.manifest()
        self.run.report.failed_shards = manifest.failed
        if {entry.shard for entry in manifest.shards} | manifest.failed.keys() != {shard.name for shard in shards}:
            raise BatchsentError("shards are unaccounted for", "each finished or failed", "this is a bug, report it")
        obstacle = self._obstacle(manifest)
        if obstacle is None:
            manifest = replace(manifest, audit=self._audit(manifest, shards))
            obstacle = self._failed_audit(manifest.audit)
        self.run.report.count_all(manifest)
        committer.publish_manifest(self.run.store, manifest)
        if obstacle is not None:
            raise obstacle
        self._require_little_drift(manifest)
        committer.publish_success(self.run.store, manifest, self.run.digests.is_intact)
        self.run.report.end("published")

    def _failed(self, failed: dict[str, str]) -> IncompleteError:
        return IncompleteError(
            f"{len(failed)} of {self.run.report.shard_count} shards failed ({next(iter(failed.values()))})",
            "every shard scored",
            "mend or remove them and run again: the others are kept",
        )

    def _obstacle(self, manifest: Manifest) -> IncompleteError | None:
        """What speaks against publishing what was scored, without a look at it: shards that failed, bad rows."""
        if manifest.failed:
            return self._failed(manifest.failed)
        return bad_rows(self.run, manifest)

    def _audit(self, manifest: Manifest, shards: Sequence[Shard]) -> Audit | None:
        """Of ``manifest``: the one that DIR records, if these are the shards that it was of; else a new one."""
        recorded = checkpoint.load_manifest(self.run.store)
        if recorded is not None and recorded.shards == manifest.shards and recorded.has_audit_of(self.run.config.audit):
            return recorded.audit
        return self.auditor.audit(manifest, shards) if self.run.config.audit else None

    def _failed_audit(self, audit: Audit | None) -> IncompleteError | None:
        if audit is None or audit.is_passed:
            return None
        return IncompleteError(
            f"the audit found probabilities that are not those of the text alone in fp32 ({audit})",
            f"differences up to {audit.limit:g}, as precision {self.run.identity.precision} makes them",
            "score into another --output, in fp32 or on another machine, and compare",
        )

    def _require_little_drift(self, manifest: Manifest) -> None:
        if self.drift_gate is not None:
            self.run.report.drift = self.drift_gate.told(manifest)
            self.drift_gate.require_little_drift(manifest, self.run.store.root)
