"""Fault 9: a run sleeps, without the lock, while another finishes DIR; then it wakes up."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import psutil
import pytest

from faults.circumstances import asleep_before, without_lock
from faults.forked import Forked, Run, wait_until
from faults.observed import broken_promise
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]

BEFORE_ANY_CHANGE = ("make_directory", "/_batchsent/parts")
MOMENTS = (
    ("unlink", "_SUCCESS"),
    ("unlink", "manifest.json"),
    ("unlink", "config.json"),
    ("create", "tmp"),
    BEFORE_ANY_CHANGE,
    ("rename", "/parts/"),
    ("rename", "out/r.parquet"),
    ("rename", "rejects/r.parquet"),
    ("rename", "manifest.json"),
    ("rename", "_SUCCESS"),
    ("sync_directory", "/out"),
    ("remove_directory", "parts"),
)
"""System call and path before which the run falls asleep; no other look at DIR comes in between."""


@dataclass(frozen=True)
class Case:
    """Who sleeps when, and what the other does."""

    other: str
    moment: tuple[str, str] | float
    """Before a system call; or in seconds, the whole session."""


OTHERS = ("same settings", "other settings", "changed input", "more input", "both restart")
CASES = [
    *(Case(other, moment) for other, moment in product(OTHERS, MOMENTS)),
    *(Case(other, random.Random(f"{other} {n}").uniform(0, 1.5)) for n, other in product(range(4), OTHERS)),
]


@pytest.mark.real_process
@pytest.mark.fault(9, "a writer that wakes up late")
def test_09_late_writer(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    for case in injections.of(CASES, quick=3):
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        sources, out, whole = tmp_path / "case/in", tmp_path / "case/out", tmp_path / "case/whole"
        write_csv(sources / "r.csv", reviews(300))
        write_csv(sources / "s.csv", reviews(100))
        late: tuple[Path | str, ...] = (sources, "--output", out)
        following = late
        if case.other == "both restart":
            forked.finish(*late)
            late = following = (*late, "--limit", "250", "--restart")
        run = _asleep(forked, late, case.moment)
        match case.other:
            case "other settings":
                following = (*late, "--limit", "250", "--restart")
            case "changed input":
                write_csv(sources / "r.csv", reviews(310))
            case "more input":
                write_csv(sources / "more/t.csv", reviews(60))
        assert forked.start(*following, prepare=without_lock).wait() == 0
        run.signal(signal.SIGCONT)
        code = run.wait()
        assert code in {0, 75} or (code == 2 and "holds a run with other settings" in run.errors), run.errors
        assert not broken_promise(out)
        if case.moment == BEFORE_ANY_CHANGE:
            assert (out / "_SUCCESS").exists(), "it looked before it changed anything"
        forked.finish(*following)
        forked.finish(*following, "--output", whole)
        injections.compare(whole, out)


def _asleep(forked: Forked, command: tuple[Path | str, ...], moment: tuple[str, str] | float) -> Run:
    """A run that was started and sleeps now, or is over, if the moment did not come."""
    if isinstance(moment, float):
        run = forked.start(*command, prepare=without_lock)
        time.sleep(moment)
        run.signal(signal.SIGSTOP)
    else:
        run = forked.start(*command, prepare=partial(asleep_before, *moment))
        wait_until(lambda: _is_asleep(run), run)
    return run


def _is_asleep(run: Run) -> bool:
    try:
        return psutil.Process(run.pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False
