"""SIGINT and SIGTERM: a flag that the job looks at where it can stop cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from batchsent.errors import AbandonedError, StoppedError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PARENT_SECONDS = 1.0


def leave_with(parent: int) -> None:
    """End this process soon after process ``parent`` has ended, however that happens.

    A child that is blocked in a write to a pipe whose other end it holds itself would otherwise stay for ever.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()


@contextlib.contextmanager
def out_of_reach() -> Iterator[None]:
    """A program that is started within never gets the two signals: the job decides when it stops.

    A terminal and a service manager send them to every process of the job, also to one that is just starting.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignal:
    """Whether the run shall end: a signal came, or it has failed.

    Remembers the first signal; a second one ends the process at once, which is safe at any instant.
    """

    def __init__(self, *, is_kept: bool = True) -> None:
        """``is_kept``: whether what was done until then is, so that the same command goes on from there."""
        self._is_kept = is_kept
        self._received: int | None = None
        self._abandoned = False

    def install(self) -> None:
        """Handle the two signals from now on (main thread only).

        Until the process has ended: to a run that is over they must not do anything, least of all to its exit code.
        """
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raise StoppedError if a signal came, AbandonedError if the run has failed on another thread."""
        self.check_signal()
        if self._abandoned:
            raise AbandonedError("the run has failed")

    def check_signal(self) -> None:
        """Raise StoppedError if a signal came: for what is done after a run, also after one that has failed."""
        if self._received is not None:
            raise StoppedError(self._received, is_kept=self._is_kept)

    def abandon(self) -> None:
        """The run has failed: the threads that work for it end at their next check."""
        self._abandoned = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._received is not None:
            os._exit(128 + number)
        self._received = number
