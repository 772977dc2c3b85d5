"""Fault 4: the power goes at any moment of a run. Every state in which POSIX allows the disk to be afterwards.

What is promised then: ``_SUCCESS`` stands over what it vouches for and nothing else; a run that said it published did;
what was committed is not scored again; the next run publishes what a run on nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults import histories
from faults.disk_states import essence
from faults.inline import Inline
from faults.power_loss import Left, PowerLoss
from faults.tally import IS_FULL, Injections

Reviews = Callable[[int], list[str]]

NAMES = ("fresh", "changed", "restart")


@pytest.mark.in_process
@pytest.mark.fault(4, "power loss: each state that may be left of a run")
def test_04_power_loss(injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews) -> None:
    runs = {name: histories.make(name, inline.score, tmp_path / name, reviews(36)) for name in NAMES}
    losses = {name: PowerLoss(inline, history, tmp_path / f"{name} disk") for name, history in runs.items()}
    cases = [(name, left) for name, loss in losses.items() for left in loss.states()]
    for name, left in injections.of(cases, quick=30):
        assert losses[name].broken_promise(left) == ""
        injections.compare(runs[name].whole, losses[name].out)


@pytest.mark.in_process
@pytest.mark.fault(
    4, "power loss after a killed run and one that ended well: all states, for each call to be killed at"
)
def test_04_power_loss_after_a_kill(injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews) -> None:
    runs = {name: histories.make(name, inline.score, tmp_path / name, reviews(24)) for name in NAMES}
    losses = {name: PowerLoss(inline, history, tmp_path / f"{name} disk") for name, history in runs.items()}
    cases = [(name, call) for name, loss in losses.items() for call in runs[name].calls(inline.score, loss.out)[:-1]]
    tried = set()
    for name, call in injections.of(cases, quick=3):
        states = losses[name].states_after_a_kill(call.index)
        for state in states[:: 1 if IS_FULL else 40]:
            if (name, essence(state)) not in tried:
                tried.add((name, essence(state)))
                assert losses[name].broken_promise(Left(state)) == "", call
                injections.compare(runs[name].whole, losses[name].out)
