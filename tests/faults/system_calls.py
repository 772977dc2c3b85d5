"""The system calls by which a run changes DIR, one after the other, each with the kind of file that it is for.

``intercept`` puts a function around all of them: it may look, refuse, or never come back.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from batchsent import posix
from batchsent.storage import LocalStore

STEPS = (
    *("create", "write", "fsync", "close", "rename", "link", "unlink"),
    *("make_directory", "remove_directory", "sync_directory"),
)

_KINDS = {
    r"_SUCCESS$": "_SUCCESS",
    r"_batchsent/config\.json$": "config",
    r"_batchsent/manifest\.json$": "manifest",
    r"_batchsent/digests\.json$": "digests",
    r"_batchsent/parts/[^/]+/shard-": "shard entry",
    r"_batchsent/parts/[^/]+/.": "part",
    r"_batchsent/rejects/.*\.parquet$": "rejects",
    r"_batchsent/runs/.": "run record",
    r"_batchsent/tmp/.": "temporary",
    r"\.parquet$": "output",
}


@dataclass(frozen=True)
class Call:
    """One call of a function of ``batchsent.posix``."""

    index: int
    """Its position in the run."""
    step: str
    kind: str
    occurrence: int
    """Its position among those of its step and kind."""
    arguments: tuple[Any, ...] = field(compare=False, repr=False)


Around = Callable[[Call, Callable[[], Any]], Any]
"""Gets the call and what makes it; returns what the call returns, or raises."""


def intercept(around: Around, replace: Callable[[object, str, Any], None] = setattr) -> None:
    """Put ``around`` around every call from now on; ``monkeypatch.setattr`` as ``replace`` ends that with the test."""
    now = _Publishing()
    lock, counts = threading.Lock(), Counter[tuple[str, str] | None]()
    publish = LocalStore.publish

    def publishing(store: LocalStore, name: str, *arguments: Any, **options: Any) -> Any:
        now.name = name
        try:
            return publish(store, name, *arguments, **options)
        finally:
            now.name, now.is_created = None, False

    def call(step: str, real: Callable[..., Any], *arguments: Any) -> Any:
        kind = now.kind(step, arguments[0])
        with lock:
            index, occurrence = counts[None], counts[step, kind]
            counts.update([None, (step, kind)])
        return around(Call(index, step, kind, occurrence, arguments), partial(real, *arguments))

    replace(LocalStore, "publish", publishing)
    for step in STEPS:
        replace(posix, step, partial(call, step, getattr(posix, step)))


class _Publishing(threading.local):
    """The name that this thread is publishing: while it is written, a file has only a temporary one."""

    name: str | None = None
    is_created = False
    """Before that, the folders on the way are made."""

    def kind(self, step: str, target: Path | int) -> str:
        """Of the file that a call is for."""
        self.is_created |= step == "create" and self.name is not None
        if self.name is not None and self.is_created:
            return _kind_of(self.name)
        return "temporary" if isinstance(target, int) else _kind_of(str(target))


def _kind_of(path: str) -> str:
    return next((kind for pattern, kind in _KINDS.items() if re.search(pattern, path)), "directory")


class DeadError(BaseException):
    """The process is dead; nothing that catches errors catches this."""


class Death:
    """The process is killed right before or right after a call: it changes nothing any more."""

    def __init__(self, index: int, moment: str) -> None:
        self._index = index
        self._moment = moment
        self.happened = False

    def __call__(self, call: Call, act: Callable[[], Any]) -> Any:
        if not self.happened and call.index == self._index and self._moment == "after":
            self.happened = True
            act()
        elif self.happened or call.index == self._index:
            self.happened = True
            if call.step == "close":  # the kernel does it, and the locks of the dead are free
                act()
        else:
            return act()
        raise DeadError


class Trace:
    """Remembers the calls of a run that nothing happens to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call, act: Callable[[], Any]) -> Any:
        self.calls.append(call)
        return act()


def kill_at(step: str, kind: str, occurrence: int, moment: str) -> None:
    """In a process of its own: let it kill itself and its helpers right before or right after a call."""

    def around(call: Call, act: Callable[[], Any]) -> Any:
        if (call.step, call.kind, call.occurrence) != (step, kind, occurrence):
            return act()
        if moment == "after":
            with contextlib.suppress(OSError):  # a call that fails, as removing what is not there, is over too
                act()
        os.killpg(os.getpgrp(), signal.SIGKILL)
        return signal.pause()  # another thread may be the first to notice

    intercept(around)
