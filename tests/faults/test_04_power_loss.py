"""Fault 4: the power goes at any moment of a run. Every state in which POSIX allows the disk to be afterwards.

What is promised then: ``_SUCCESS`` stands over what it vouches for and nothing else; a run that said it published did;
what was committed is not scored again; the next run publishes what a run on nothing does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from batchsent import checkpoint, posix, success
from batchsent.checkpoint import Manifest
from batchsent.errors import BatchsentError
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.stages import committer
from batchsent.storage import LocalStore
from batchsent.verify import verify
from faults import histories
from faults.disk_model import Disk, State, essence, restore
from faults.histories import History
from faults.inline import Inline
from faults.system_calls import Call, DeadError, Death, intercept
from faults.tally import IS_FULL, Injections
from support import published

Reviews = Callable[[int], list[str]]
Patch = pytest.MonkeyPatch

NAMES = ("fresh", "changed", "restart")

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


# --- a model that finds nothing is worth nothing


def _without(step: str, kind: str | None, patch: Patch) -> None:
    """Leave out a step for a kind of file, or for all."""

    def around(call: Call, act: Callable[[], Any]) -> Any:
        return None if call.step == step and kind in (None, call.kind) else act()

    intercept(around, patch.setattr)


def _success_early(patch: Patch) -> None:
    """``_SUCCESS`` before the manifest."""

    def publish(store: LocalStore, manifest: Manifest) -> None:
        store.publish_bytes(checkpoint.SUCCESS, checkpoint.success_line(manifest.to_json()).encode())
        store.publish_bytes(checkpoint.MANIFEST, manifest.to_json())

    patch.setattr(committer, "publish_manifest", publish)


def _clean_up_early(patch: Patch) -> None:
    """Parts go before the manifest says that they are not needed any more, let alone ``_SUCCESS``."""
    publish_manifest = committer.publish_manifest

    def publish(store: LocalStore, manifest: Manifest) -> None:
        store.remove_tree(checkpoint.PARTS)
        publish_manifest(store, manifest)

    patch.setattr(committer, "publish_manifest", publish)


def _take_back_unsafely(patch: Patch) -> None:
    """``_SUCCESS`` may come back while what it vouches for is replaced."""
    patch.setattr(success, "take_back", lambda store: posix.unlink(store.path(checkpoint.SUCCESS)))


BROKEN: dict[str, tuple[str, str, Callable[[Patch], None]]] = {
    "no fsync of files": ("fresh", "the next run ends: ", partial(_without, "fsync", None)),
    "no sync of directories": ("fresh", LOST, partial(_without, "sync_directory", None)),
    "_SUCCESS early": ("fresh", UNTRUE, _success_early),
    "clean-up early": ("fresh", LOST, _clean_up_early),
    "_SUCCESS taken back unsafely": ("changed", UNTRUE, _take_back_unsafely),
    "no fsync of parts": ("fresh", LOST, partial(_without, "fsync", "part")),
    "no sync of their folders": ("fresh", LOST, partial(_without, "sync_directory", "part")),
    "no sync of folders that are made": ("fresh", LOST, partial(_without, "sync_directory", "directory")),
    "no sync of DIR in the end": ("fresh", GONE, partial(_without, "sync_directory", "_SUCCESS")),
    **{
        f"no fsync of {kind}": ("fresh", UNTRUE, partial(_without, "fsync", kind))
        for kind in ("config", "output", "rejects", "manifest", "_SUCCESS")
    },
}
SOME = 30
"""States of each moment that are looked at: where nothing is ever safe there are millions."""


@pytest.mark.in_process
@pytest.mark.fault(4, "power loss: protocols that are broken on purpose, each of them caught")
def test_04_broken_protocols_are_caught(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews
) -> None:
    runs = {name: histories.make(name, inline.score, tmp_path / name, reviews(36)) for name in ("fresh", "changed")}
    for what, (name, promise, break_protocol) in injections.of(list(BROKEN.items()), quick=7):
        loss = PowerLoss(inline, runs[name], tmp_path / what)
        states = [left for left in loss.states(break_protocol, limit=SOME) if loss.is_at_stake(promise, left)]
        random.Random(0).shuffle(states)
        assert any(loss.broken_promise(left).startswith(promise) for left in states), what


@pytest.mark.in_process
@pytest.mark.fault(4, "power loss: what a killed run did not make safe, neglected on purpose, each time caught")
def test_04_neglect_after_a_kill_is_caught(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews
) -> None:
    def neglect(patch: Patch) -> None:
        patch.setattr(LocalStore, "make_durable", lambda *_, **__: None)

    for name, step, file in injections.of(
        [("fresh", "make_directory", "deep"), ("changed", "unlink", "s.parquet")], quick=2
    ):
        history = histories.make(name, inline.score, tmp_path / name, reviews(24))
        loss = PowerLoss(inline, history, tmp_path / f"{name} disk")
        call = next(
            call
            for call in history.calls(inline.score, loss.out)
            if call.step == step and call.arguments[0].name == file
        )
        states = loss.states_after_a_kill(call.index, neglect)
        random.Random(0).shuffle(states)
        assert any(loss.broken_promise(Left(state)).startswith(UNTRUE) for state in states), name
