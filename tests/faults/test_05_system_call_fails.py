"""Fault 5: EIO, ENOSPC or EDQUOT from the Nth system call, once or from then on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from batchsent.errors import StorageError
from faults import histories
from faults.inline import Inline
from faults.system_calls import Call, intercept
from faults.tally import Injections
from support import published

Reviews = Callable[[int], list[str]]

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
AFTERWARDS = ("run record", "digests")
"""Written down when all else is done: a run does not fail for them."""


class Failure:
    """A disk that answers with an error from a call on, and what it is asked that it should not be."""

    def __init__(self, index: int, error_number: int, *, is_lasting: bool) -> None:
        self._index = index
        self._error_number = error_number
        self._is_lasting = is_lasting
        self._unsafe: set[Any] = set()
        """Descriptors of files, open still, whose fsync failed."""
        self.has_failed = False
        self.wrong: list[str] = []

    def __call__(self, call: Call, act: Callable[[], Any]) -> Any:
        target = call.arguments[0]
        if call.step == "fsync" and target in self._unsafe:
            self.wrong.append(f"{call} is tried again")
        if self.has_failed and call.step in ("rename", "link") and call.kind == "_SUCCESS":
            self.wrong.append("published in spite of the failure")
        if call.index != self._index and not (self.has_failed and self._is_lasting):
            if call.step == "close":
                self._unsafe.discard(target)
            return act()
        self.has_failed = True
        if call.step == "fsync":
            self._unsafe.add(target)
        elif call.step == "write":
            os.write(target, call.arguments[1][: len(call.arguments[1]) // 2])
        elif call.step == "close":
            act()
        raise OSError(self._error_number, os.strerror(self._error_number))


def _require_whole_files(out: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Each file holds what it held before, or what it is to hold; nothing in between."""
    for name, data in published(out).items():
        assert data in (before.get(name), after.get(name)), name
    for path in (out / "_batchsent").glob("parts/*/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in path.name


@pytest.mark.in_process
@pytest.mark.fault(5, "EIO, ENOSPC, EDQUOT on the Nth system call, once and lasting")
def test_05_system_call_fails(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    runs = {name: histories.make(name, inline.score, tmp_path / name, reviews(36)) for name in histories.NAMES}
    cases = []
    for name, history in runs.items():
        calls = history.calls(inline.score, out)
        last = max(call.index for call in calls if call.kind not in AFTERWARDS)
        cases += [(name, *case, case[0].index <= last) for case in product(calls, ERRORS, (False, True))]
    for name, call, error_number, is_lasting, is_needed in injections.of(cases, quick=25):
        history, failure = runs[name], Failure(call.index, error_number, is_lasting=is_lasting)
        history.begin(inline.score, out)
        before = published(out)
        with monkeypatch.context() as patch:
            intercept(failure, patch.setattr)
            with pytest.raises(StorageError) if is_needed else contextlib.nullcontext():
                inline.score(history.source, output=out, **history.options)
        assert failure.has_failed
        assert failure.wrong == []
        _require_whole_files(out, before, published(history.whole))
        inline.score(history.source, output=out, **history.options)
        injections.compare(history.whole, out)
        assert not list((out / "_batchsent/tmp").iterdir())
