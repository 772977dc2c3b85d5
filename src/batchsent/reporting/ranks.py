"""Several ranks on one DIR, seen as one run: the last record of each, added up, and what each is doing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from socket import gethostname
from typing import Any

from batchsent.checkpoint import RUNS
from batchsent.reporting.run_report import RunReport, StageSeconds
from batchsent.stores import Store

_UNSEEN = "stopped, or running"
"""Where this machine does not see the locks of a rank."""


def latest_runs(store: Store, *, is_published: bool) -> list[tuple[RunReport, str]]:
    """The record of the run that began last, and when it was written; of ranks, the last one of each.

    The newest first; empty if nobody ran yet. Where DIR is not published, what comes before a rank that published it
    is of other input.
    """
    found: dict[int, tuple[RunReport, str]] = {}
    for run, updated_at in recorded_runs(store):
        newest = next(iter(found.values()), (run, ""))[0]
        if run.world_size != newest.world_size or (found and run.state == "published" and not is_published):
            break
        found.setdefault(run.rank, (run, updated_at))
        if len(found) == run.world_size:
            break
    return list(found.values())


def recorded_runs(store: Store) -> Iterator[tuple[RunReport, str]]:
    """Every run's record and when it was written, the run that began last first."""
    for name in reversed(store.list(RUNS)):
        record = _read(store, name)
        if record is not None:
            yield _as_report(record), str(record.get("updated_at", ""))


def _read(store: Store, name: str) -> dict[str, Any] | None:
    try:
        content = json.loads(store.read_bytes(f"{RUNS}/{name}") or b"")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _as_report(record: dict[str, Any]) -> RunReport:
    known = {f.name for f in fields(RunReport)} - {"stage_seconds"}
    run = RunReport(**{name: value for name, value in record.items() if name in known})
    seconds = record.get("stage_seconds", {})
    run.stage_seconds = StageSeconds(**{f.name: seconds.get(f.name, 0.0) for f in fields(StageSeconds)})
    return run


def added_up(runs: list[RunReport]) -> RunReport:
    """All ranks as one run, as far as they have records; of one run, that one."""
    if len(runs) == 1 and runs[0].world_size == 1:
        return runs[0]
    return replace(
        runs[0],
        started_at=min(run.started_at for run in runs),
        scoring_seconds=max(run.scoring_seconds for run in runs),
        record_count=sum(run.record_count for run in runs),
        committed_bytes=sum(run.committed_bytes for run in runs),
        kept_bytes=sum(run.kept_bytes for run in runs),
        kept_shard_count=sum(run.kept_shard_count for run in runs),
        device=", ".join(sorted({run.device for run in runs if run.device})),
        failed_shards=dict(sorted({k: v for run in reversed(runs) for k, v in run.failed_shards.items()}.items())),
        totals=next((run.totals for run in runs if run.totals), {}),
        drift=next((run.drift for run in runs if run.drift), {}),
        share_bytes=None,
    )


def rank_states(store: Store, runs: list[RunReport]) -> list[str]:
    """What each rank is doing, by rank, in a word or two."""
    last = {run.rank: run for run in runs}
    return [
        _state(last.get(rank), is_locked=store.is_locked(rank), has_locks=store.has_locks)
        for rank in range(runs[0].world_size)
    ]


def _state(run: RunReport | None, *, is_locked: bool, has_locks: bool) -> str:
    if is_locked:
        return "running"
    if run is None:
        return "not begun"
    if run.state != "running":
        return run.state
    return "stopped" if has_locks and run.host == gethostname() else f"{_UNSEEN} on {run.host}"


def state_of_world(runs: list[RunReport], states: list[str]) -> str:
    """What a person should know of the ranks together, where DIR is not published."""
    count, running = len(states), [rank for rank, state in enumerate(states) if state == "running"]
    if running:
        return f"running: {len(running)} of {count} ranks"
    for run in sorted(runs, key=lambda run: run.rank):
        if run.state in ("failed", "not published", "held back"):
            return f"{run.state}: rank {run.rank}/{count}: {run.message}"
    open_ranks = [str(rank) for rank, state in enumerate(states) if state not in ("share done", "published")]
    if open_ranks:
        which = f"rank{'s' * (len(open_ranks) > 1)} {', '.join(open_ranks)}"
        if any(state.startswith(_UNSEEN) for state in states):
            return f"{_UNSEEN}: {which} of {count}; where one does not run any more, run it again to resume"
        them = "it" if len(open_ranks) == 1 else "them"
        return f"stopped: {which} of {count} did not finish; run {them} again to resume, or all ranks"
    return "not published, though every share was done: parts or _SUCCESS are missing or damaged; run all ranks again"


def lines_of_ranks(states: list[str]) -> list[tuple[str, str]]:
    """Which ranks are in which state, one line."""
    by_state: dict[str, list[str]] = {}
    for rank, state in enumerate(states):
        by_state.setdefault(state, []).append(str(rank))
    return [("ranks", "; ".join(f"{state}: {', '.join(ranks)}" for state, ranks in by_state.items()))]
