"""Fault 7: SIGTERM and SIGINT at random moments, once and twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest

from faults.circumstances import leaving_temporaries_in, saying_so, slow_disk, slow_input, together
from faults.forked import Forked, Run, wait_until
from faults.observed import temporaries, wait_for_end_of
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]

STOP_SECONDS = 10
"""From a signal to the end, as promised."""


@dataclass(frozen=True)
class Signals:
    """What a run gets, and when."""

    first: signal.Signals
    second: signal.Signals | None
    gap_seconds: float
    to_group: bool
    """As a terminal and a service manager do; else to the job alone."""
    moment: float
    """From 0, its beginning, to 1, its end."""
    circumstance: str


CIRCUMSTANCES: dict[str, Callable[[], None]] = {
    "quick": together,
    "slow disk": partial(slow_disk, 0.02),
    "slow input": partial(slow_input, 0.2),
}


def chosen(seed: int) -> Signals:
    """Signals of every kind in turn, at a random moment."""
    chooser = random.Random(seed)
    both = (signal.SIGTERM, signal.SIGINT)
    return Signals(
        first=both[seed % 2],
        second=chooser.choice(both) if seed % 3 == 2 else None,
        gap_seconds=chooser.choice([0, chooser.uniform(0, 0.3)]),
        to_group=chooser.random() < 0.5,
        moment=chooser.random(),
        circumstance=chooser.choice(["quick", "quick", "slow disk", "slow input"]),
    )


@pytest.mark.real_process
@pytest.mark.fault(7, "SIGTERM, SIGINT, twice, at random moments")
def test_07_signals(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/r.csv", reviews(900))
    write_csv(tmp_path / "in/s.csv", reviews(300))
    command = (tmp_path / "in", "--progress", "none", "--output")
    forked.finish(*command, tmp_path / "whole")
    out, scratch = tmp_path / "out", tmp_path / "scratch"

    def start(circumstance: str, directory: Path) -> Run:
        left = partial(leaving_temporaries_in, scratch)
        prepare = partial(together, left, CIRCUMSTANCES[circumstance], partial(saying_so, tmp_path))
        run = forked.start(*command, directory, prepare=prepare)
        wait_until((tmp_path / f"began-{run.pid}").exists, run)
        return run

    @cache
    def seconds(circumstance: str) -> float:
        """Of a whole run."""
        run, began = start(circumstance, tmp_path / circumstance), time.monotonic()
        assert run.wait() == 0, run.errors
        return time.monotonic() - began

    for signals in injections.of([chosen(seed) for seed in range(200)], quick=4):
        moment = signals.moment * seconds(signals.circumstance)
        run = start(signals.circumstance, out)
        time.sleep(moment)
        _send(run, signals)
        code = run.wait(STOP_SECONDS)
        _require_right_end(code, signals, run, out)
        assert not wait_for_end_of(run.pid)
        assert not list(scratch.iterdir()), "left in the system's folder of temporaries"
        if code == 0:
            injections.compare(tmp_path / "whole", out)
            shutil.rmtree(out)
    forked.finish(*command, out)
    injections.compare(tmp_path / "whole", out)
    assert not temporaries(out)


def _send(run: Run, signals: Signals) -> None:
    for number in (signals.first, signals.second):
        if number is not None and signals.to_group:
            run.signal(number)
        elif number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, number)
        time.sleep(signals.gap_seconds)


def _require_right_end(code: int, signals: Signals, run: Run, out: Path) -> None:
    status = code if code >= 0 else 128 - code  # as a shell says it: it ended before it could handle the signal
    lines = [line for line in run.errors.splitlines() if line]
    assert status in {0, *(128 + number for number in (signals.first, signals.second) if number)}, run.errors
    assert all(line.startswith("error: stopped by SIG") for line in lines), run.errors
    assert len(lines) <= 1
    if signals.second is None:
        assert not temporaries(out)
        assert (code <= 0) == (not lines), "one line, if it was stopped"
        record = _record_of(run, out)
        assert record is None or record["state"] == ("stopped" if code else "published"), record


def _record_of(run: Run, out: Path) -> dict[str, object] | None:
    """What the run says of itself in DIR; None if it did not get that far."""
    records = [json.loads(path.read_bytes()) for path in out.glob("_batchsent/runs/*.json")]
    return next((record for record in records if record["pid"] == run.pid), None)
