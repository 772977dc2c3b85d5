"""Where DIR stands: published, in work, stopped or held back; by the locks, ``_SUCCESS`` and the runs' records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from socket import gethostname

from batchsent import checkpoint
from batchsent.checkpoint import Manifest
from batchsent.reporting.ranks import added_up, latest_runs, rank_states, state_of_world
from batchsent.reporting.run_report import RunReport
from batchsent.stores import Store


@dataclass(frozen=True)
class Standing:
    """What ``status`` and ``report`` say first."""

    state: str
    """In a word, and why if it is not what was wanted."""
    is_published: bool
    is_running: bool
    records: list[tuple[RunReport, str]]
    """Of the run that began last, or of its ranks, and when each was written."""
    run: RunReport | None
    """The same as one; None if nobody ran yet."""
    ranks: list[str]
    """What each rank is doing, where that says more than ``state``."""
    manifest: Manifest | None
    """Of the run that reached its end; None while the one that is there may still be of an earlier run."""


def standing_of(store: Store, *, is_locked: bool) -> Standing:
    """Look at a DIR that has settings; ``is_locked`` is what it was a moment before."""
    manifest = checkpoint.load_manifest(store)
    is_published = checkpoint.is_published(store)
    records = latest_runs(store, is_published=is_published)
    runs = [run for run, _ in records]
    run = added_up(runs) if runs else None
    ranks = rank_states(store, runs) if run is not None and run.world_size > 1 else []
    is_of_ranks = bool(ranks) and not is_published and (not is_locked or "running" in ranks)
    if is_of_ranks:
        state = state_of_world(runs, ranks)
    else:
        state = _state(run, is_locked=is_locked, is_published=is_published, has_locks=store.has_locks)
    # An audit of what was published before begins when every shard was found finished.
    has_kept_all = run is not None and run.world_size == 1 and 0 < run.shard_count <= run.kept_shard_count
    has_ended = is_published or has_kept_all or (run is not None and bool(run.totals))
    return Standing(
        state=state,
        is_published=is_published,
        is_running=is_locked and run is not None and ("running" in ranks if ranks else run.state == "running"),
        records=records,
        run=run,
        ranks=ranks if is_of_ranks else [],
        manifest=manifest if has_ended else None,
    )


def _state(run: RunReport | None, *, is_locked: bool, is_published: bool, has_locks: bool) -> str:
    if is_locked:
        return _state_in_flight(run, is_published=is_published)
    if is_published:  # what somebody accepted is said
        accepted = run.message if run is not None and run.state == "published" else ""
        return f"published: {accepted}" if accepted else "published"
    if run is None:
        return "stopped: nothing was scored yet; run the same command again"
    match run.state:
        case "running" if run.host != gethostname() or not has_locks:
            return (
                f"stopped, or running on {run.host} where this machine does not see its lock; "
                f"if it is not running there (pid {run.pid}), run the same command again to resume"
            )
        case "running":
            return (
                f"stopped: the run (pid {run.pid}) ended without saying why, as when it is killed or the machine "
                "goes down; run the same command again to resume"
            )
        case "stopped":
            return run.message
        case "failed" | "not published" | "held back":
            return f"{run.state}: {run.message}"
        case _:
            return f"not published: {checkpoint.SUCCESS} is missing or damaged; run the same command again"


def _state_in_flight(run: RunReport | None, *, is_published: bool) -> str:
    if run is not None and run.state == "running" and _may_live(run):
        return f"running (pid {run.pid} on {run.host})"
    return "published; a run is looking for changes now" if is_published else "running: it has just begun"


def _may_live(run: RunReport) -> bool:
    """Whether the lock may be this run's: one that was killed has left its record, until a new run has its own."""
    if run.host != gethostname():
        return True
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
