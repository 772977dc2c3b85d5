"""Fault 1: kill -9 right before and right after each step of the protocol."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faults import histories
from faults.forked import Forked
from faults.inline import Inline
from faults.system_calls import Call, DeadError, Death, intercept, kill_at
from faults.tally import Injections

Reviews = Callable[[int], list[str]]
MOMENTS = ("before", "after")


def _require_nothing_left(out: Path) -> None:
    """Neither temporaries nor parts."""
    assert not list((out / "_batchsent/tmp").iterdir())
    assert not (out / "_batchsent/parts").exists()


@pytest.mark.in_process
@pytest.mark.fault(1, "kill -9 before and after every system call")
def test_01_dead_at_every_call(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    runs = {name: histories.make(name, inline.score, tmp_path / name, reviews(36)) for name in histories.NAMES}
    cases = [
        (name, call, moment)
        for name, history in runs.items()
        for call in history.calls(inline.score, out)
        for moment in MOMENTS
    ]
    for name, call, moment in injections.of(cases, quick=12):
        history, death = runs[name], Death(call.index, moment)
        history.begin(inline.score, out)
        with monkeypatch.context() as patch:
            intercept(death, patch.setattr)
            with pytest.raises(DeadError):
                inline.score(history.source, output=out, **history.options)
        inline.score(history.source, output=out, **history.options)
        injections.compare(history.whole, out)
        _require_nothing_left(out)


def _first_and_last(calls: list[Call]) -> list[Call]:
    """Of each step and kind."""
    first = {(call.step, call.kind): call for call in reversed(calls)}
    last = {(call.step, call.kind): call for call in calls}
    return sorted({*first.values(), *last.values()}, key=lambda call: call.index)


@pytest.mark.real_process
@pytest.mark.fault(1, "kill -9 before and after every step on every kind of file")
def test_01_killed_at_every_step(
    injections: Injections,
    inline: Inline,
    forked: Forked,
    tmp_path: Path,
    reviews: Reviews,
) -> None:
    out = tmp_path / "out"

    def score(source: Path, /, *, output: Path, **options: Any) -> None:
        assert not options
        forked.finish(source, "--output", output)

    # The same calls as in a process of its own, but for a record of the run that is saved more often if it is slow.
    traced = partial(inline.score, rows_per_part=50)
    runs = {name: histories.make(name, score, tmp_path / name, reviews(180)) for name in ("fresh", "changed")}
    cases = [
        (name, call, moment)
        for name, history in runs.items()
        for call in _first_and_last(history.calls(traced, out))
        for moment in MOMENTS
    ]
    for name, call, moment in injections.of(cases, quick=3):
        history = runs[name]
        history.begin(traced, out)
        run = forked.start(
            history.source, "--output", out, prepare=partial(kill_at, call.step, call.kind, call.occurrence, moment)
        )
        assert run.wait() == -signal.SIGKILL, f"{call} was not reached: {run.errors}"
        score(history.source, output=out)
        injections.compare(history.whole, out)
        _require_nothing_left(out)
