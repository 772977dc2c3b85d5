"""A run on a disk that loses its power: what may be left of it, and which promise that breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from batchsent import checkpoint
from batchsent.errors import BatchsentError
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.storage import LocalStore
from batchsent.verify import verify
from faults.disk_model import Disk, State
from faults.disk_states import restore
from faults.histories import History
from faults.inline import Inline
from faults.system_calls import DeadError, Death, intercept
from support import published

Patch = pytest.MonkeyPatch

UNTRUE, GONE, LOST = "_SUCCESS is there, but", "_SUCCESS is gone", "the next run scores again what was committed"
"""Promises that are broken, in words."""


class Told(NoProgress):
    """What a run has told its user so far."""

    committed = 0
    """records"""
    is_published = False

    def update(self, report: RunReport) -> None:
        self.committed = report.record_count


@dataclass(frozen=True)
class Left:
    """What a power cut left, and what the user had been told by then."""

    state: State
    committed: int = 0
    is_published: bool = False


class PowerLoss:
    """A run on a disk of its own."""

    def __init__(self, inline: Inline, history: History, root: Path) -> None:
        self._inline = inline
        self._history = history
        self._root = root
        self._root.mkdir(exist_ok=True)
        self.out = root / "out"
        self._record_count = math.inf
        """What the run scores when nothing happens to it, once that is known."""

    def states(self, break_protocol: Callable[[Patch], None] = lambda _: None, limit: int | None = None) -> list[Left]:
        """All that may be left, whenever the power goes; each once, with the most that was told by then.

        With a ``limit``, no more than so many of each moment.
        """
        found: dict[State, Left] = {}
        told = Told()
        self._history.begin(self._inline.score, self.out)

        def look() -> None:
            for state in islice(disk.states(), limit):
                found[state] = Left(state, told.committed, told.is_published)

        with Patch.context() as patch:
            disk = Disk(self._root, patch.setattr)
            disk.on_change = look
            break_protocol(patch)
            self._run(told)
            told.is_published = True
            look()
        self._record_count = told.committed
        return list(found.values())

    def states_after_a_kill(self, index: int, break_protocol: Callable[[Patch], None] = lambda _: None) -> list[State]:
        """All that may be left where ``_SUCCESS`` may be, of a run that ends well after one that was killed at a call.

        The second finds all that the first one did, safe or not.
        """
        found: dict[State, None] = {}
        self._history.begin(self._inline.score, self.out)

        def look() -> None:
            if disk.may_hold(self.out / checkpoint.SUCCESS):
                found.update(dict.fromkeys(disk.states()))

        with Patch.context() as patch:
            disk = Disk(self._root, patch.setattr)
            break_protocol(patch)
            with Patch.context() as killing:
                intercept(Death(index, "after"), killing.setattr)
                with pytest.raises(DeadError):
                    self._run()
            disk.on_change = look
            self._run()
        return list(found)

    def is_at_stake(self, promise: str, left: Left) -> bool:
        """Whether ``left`` may break it at all."""
        if promise == GONE:
            return left.is_published
        return any(path == str(self.out / checkpoint.SUCCESS) for path, _ in left.state) == (promise == UNTRUE)

    def broken_promise(self, left: Left) -> str:
        """What is wrong with what is left, or with what the next run makes of it; empty if nothing is."""
        restore(self._root, left.state)
        if (self.out / checkpoint.SUCCESS).exists():
            problems = verify(LocalStore(self.out)).problems
            if problems:
                return f"{UNTRUE} {problems}"
        elif left.is_published:
            return GONE
        try:
            report = self._run()
        except BatchsentError as error:
            return f"the next run ends: {error}"
        if report.record_count > self._record_count - left.committed:
            return LOST
        return "" if published(self.out) == published(self._history.whole) else "the next run publishes something else"

    def _run(self, progress: NoProgress | None = None) -> RunReport:
        return self._inline.score(self._history.source, output=self.out, progress=progress, **self._history.options)
