"""Fault 4: a model that finds nothing is worth nothing. Protocols that are broken on purpose break a promise in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batchsent import checkpoint, posix, success
from batchsent.checkpoint import Manifest
from batchsent.stages import committer
from batchsent.storage import LocalStore
from faults import histories
from faults.inline import Inline
from faults.power_loss import GONE, LOST, UNTRUE, Left, Patch, PowerLoss
from faults.system_calls import Call, intercept
from faults.tally import Injections

Reviews = Callable[[int], list[str]]


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
