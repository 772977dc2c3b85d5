"""How far DIR is: what is committed and published there, and what the latest run says of itself.

Only reads. What counts is on disk: records, rejects and parts are counted there; rate and time left are the run's.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, PartState, ShardEntry
from batchsent.errors import UsageError
from batchsent.identity import Identity
from batchsent.reporting.progress import remaining_seconds, share_done, spoken_seconds
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
        lines += _committed_lines(read_committed(store, run), run)
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


@dataclass
class Committed:
    """What the parts folder holds: everything that was committed since DIR was last published."""

    finished: list[ShardEntry] = field(default_factory=list)
    finished_by_run_count: int = 0
    """Of these, by the run that was asked about."""
    part_count: int = 0
    record_count: int = 0
    reject_counts: Counter[str] = field(default_factory=Counter)


def read_committed(store: Store, run: RunReport | None) -> Committed:
    """Count it. Hashes nothing and removes nothing; a run may work on it meanwhile."""
    committed = Committed()
    started = datetime.fromisoformat(run.started_at).timestamp() if run is not None else 0.0
    for unit in sorted(checkpoint.units(store)):
        names = store.list(f"{checkpoint.PARTS}/{unit}")
        # Two files of one index come of an out-of-memory split; one of them counts.
        parts = {name.partition("-")[0]: name for name in reversed(names) if name.endswith(".parquet")}
        committed.part_count += len(parts)
        entry = checkpoint.load_entry(store, unit)
        if entry is None:
            for name in parts.values():
                _count_part(store, f"{checkpoint.PARTS}/{unit}/{name}", committed)
            continue
        committed.finished.append(entry)
        committed.record_count += entry.record_count
        committed.reject_counts.update(entry.reject_counts)
        entries = (f"{checkpoint.PARTS}/{unit}/{name}" for name in names if name.endswith(".json"))
        committed.finished_by_run_count += any((store.modified_seconds(name) or 0.0) >= started for name in entries)
    return committed


def _count_part(store: Store, name: str, committed: Committed) -> None:
    # One that has just been removed, or is damaged, does not count; the next run sees to it.
    with contextlib.suppress(OSError, pa.ArrowException, KeyError), store.open(name) as handle:
        # Without threads: Arrow's may still be about when the process ends, a moment later.
        table = pq.ParquetFile(handle, pre_buffer=False).read(columns=[REASON], use_threads=False)
        committed.record_count += PartState.from_metadata(table.schema.metadata).record_count
        committed.reject_counts.update(value_counts(table.column(REASON)))


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


def _committed_lines(committed: Committed, run: RunReport | None) -> Lines:
    lines: Lines = []
    if run is not None:
        # Kept shards are counted as the run comes to them, those on disk at once.
        done = max(len(committed.finished), run.kept_shard_count + committed.finished_by_run_count)
        lines.append(("shards", f"{min(done, run.shard_count):,} of {run.shard_count:,} done"))
        finished_bytes = sum(entry.input_size_bytes for entry in committed.finished)
        run.kept_bytes = max(run.kept_bytes, finished_bytes - run.committed_bytes)
        lines.append(("input", f"{share_done(run):.1%} of {_size(run.input_bytes)} done"))
    lines.append(("records", f"{committed.record_count:,} committed, not published yet"))
    lines.append(("parts", f"{committed.part_count:,} committed"))
    return lines + _reject_lines(committed.reject_counts)


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


def _size(size_bytes: int) -> str:
    if size_bytes < 1_000:
        return f"{size_bytes} bytes"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.3g} MB"
