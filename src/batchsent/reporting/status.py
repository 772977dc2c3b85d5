"""How far DIR is: what is committed and published there, and what the latest run says of itself.

Only reads. What counts is on disk: records, rejects and parts are counted there; rate and time left are the run's.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, PartState
from batchsent.errors import UsageError
from batchsent.identity import Identity
from batchsent.reporting.committed import UNREADABLE, Committed, finished_shards, read_committed
from batchsent.reporting.progress import remaining_seconds, share_done, spoken_bytes, spoken_seconds
from batchsent.reporting.ranks import lines_of_ranks
from batchsent.reporting.run_report import RunReport
from batchsent.reporting.standing import standing_of
from batchsent.reporting.summary import drift_line
from batchsent.schema import REASON, value_counts
from batchsent.stores import Store

FAILURES_SHOWN = 5

Lines = list[tuple[str, str]]


def status_lines(store: Store, identity: Identity | None) -> Lines:
    """(name, value) pairs; ``identity`` is what ``config.json`` holds. Raises UsageError if DIR is not ours."""
    # Before the run's record: a run that ends in between has said so by then, and does not look killed.
    is_locked = store.is_locked()
    if identity is None:
        if not is_locked:
            raise not_ours(store)
        return [("state", "running: it has just begun, its settings are not written yet")]
    standing = standing_of(store, is_locked=is_locked)
    run = standing.run
    lines = [
        ("state", standing.state),
        *(lines_of_ranks(standing.ranks) if standing.ranks else []),
        ("model", f"{identity.model} ({_short(identity.model_version)})"),
        ("precision", identity.precision),
    ]
    if run is not None and run.device:
        lines.append(("device", run.device))
    if standing.manifest is not None:
        lines += manifest_lines(standing.manifest)
    else:
        lines += _committed_lines(store, identity, run)
    if run is not None and run.drift:
        lines.append(("drift", drift_line(run.drift)))
    if run is not None:
        updated_at = max(updated_at for _, updated_at in standing.records)
        lines += _run_lines(run, updated_at, is_running=standing.is_running)
    return lines


def not_ours(store: Store) -> UsageError:
    """The error for a directory in which no run ever began."""
    if isinstance(store.root, Path) and not store.root.is_dir():
        what = "is a file" if store.root.exists() else "does not exist"
        return UsageError(f"{store.root} {what}", "the --output directory of 'batchsent score'", "check the path")
    return UsageError(
        f"{store.root} has no {checkpoint.CONFIG}: it is not a batchsent directory",
        "the --output directory of 'batchsent score'",
        "check the path",
    )


# --- what is on disk


def _count_parts(store: Store, names: Sequence[str]) -> tuple[int, Counter[str]]:
    """Records, and of them the rejects by reason."""
    record_count, rejects = 0, Counter[str]()
    for name in names:
        with contextlib.suppress(*UNREADABLE), store.open(name) as handle:
            # Without threads: Arrow's may still be about when the process ends, a moment later.
            table = pq.ParquetFile(handle, pre_buffer=False).read(columns=[REASON], use_threads=False)
            record_count += PartState.from_metadata(table.schema.metadata).record_count
            rejects.update(value_counts(table.column(REASON)))
    return record_count, rejects


# --- lines


def manifest_lines(manifest: Manifest) -> Lines:
    """What a run that reached its end has done, and the first of what failed."""
    done, failed = len(manifest.shards), len(manifest.failed)
    totals = manifest.totals()
    shards = f"{done:,} of {done + failed:,} done" + (f", {failed:,} failed" if failed else "")
    lines = [("shards", shards)]
    lines += [("failed", reason) for reason in list(manifest.failed.values())[:FAILURES_SHOWN]]
    if failed > FAILURES_SHOWN:
        lines.append(("failed", f"... and {failed - FAILURES_SHOWN:,} more, in {checkpoint.MANIFEST}"))
    lines.append(("records", f"{totals['record_count']:,}, {totals['row_count']:,} of them scored"))
    lines += _reject_lines(totals["reject_counts"])
    return [*lines, ("audit", str(manifest.audit))] if manifest.audit else lines


def _committed_lines(store: Store, identity: Identity, run: RunReport | None) -> Lines:
    committed, lines = read_committed(store), Lines()
    if run is not None:
        done = min(_done_count(store, identity, committed, run), run.shard_count)
        lines.append(("shards", f"{done:,} of {run.shard_count:,} done"))
        finished_bytes = sum(entry.input_size_bytes for entry in committed.finished.values())
        run.kept_bytes = max(run.kept_bytes, finished_bytes - run.committed_bytes)
        lines.append(("input", f"{share_done(run):.1%} of {spoken_bytes(run.input_bytes)} done"))
    record_count, rejects = _count_parts(store, committed.open_parts)
    for entry in committed.finished.values():
        rejects.update(entry.reject_counts)
    lines.append(("records", f"{committed.record_count + record_count:,} committed, not published yet"))
    lines.append(("parts", f"{committed.part_count:,} committed"))
    return lines + _reject_lines(rejects)


def _done_count(store: Store, identity: Identity, committed: Committed, run: RunReport) -> int:
    """Shards that are finished: as the run has counted those that it found so, or as they are seen on the disk."""
    if run.world_size > 1:  # a shard is finished for each of the ranks that have parts of it
        return len(finished_shards(store, identity, committed))
    started = datetime.fromisoformat(run.started_at).timestamp()
    by_run = sum(written_at >= started for written_at in committed.finished_at.values())
    # Kept shards are counted as the run comes to them, those on disk at once.
    return max(len(committed.finished), run.kept_shard_count + by_run)


def _reject_lines(counts: dict[str, int]) -> Lines:
    return [("rejected", ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items())) or "none")]


def _run_lines(run: RunReport, updated_at: str, *, is_running: bool) -> Lines:
    lines: Lines = []
    if run.record_count:
        lines.append(("speed", f"{run.rows_per_second:,.1f} rows/s ({run.record_count:,} records by this run)"))
    if is_running:
        left = remaining_seconds(run)
        lines.append(("time left", "not known yet" if left is None else f"about {spoken_seconds(left)}"))
    lines.append(("started", _moment(run.started_at)))
    lines.append(("last update", _moment(updated_at)))
    return lines


def _moment(iso: str) -> str:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return "?"
    age_seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {_age(age_seconds)} ago"


def _age(seconds: float) -> str:
    days = round(seconds / 86_400)
    return f"{days} days" if days > 1 else spoken_seconds(seconds)


def _short(version: str) -> str:
    """Enough of a commit or hash to know it by."""
    kind, colon, digits = version.rpartition(":")
    return f"{kind}{colon}{digits[:12]}"
