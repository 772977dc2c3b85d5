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


class StopSignal:
    """Whether the run shall end: a signal came, or it has failed.

    Remembers the first signal; a second one ends the process at once, which is safe at any instant.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._abandoned = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the two signals (main thread only)."""
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise StoppedError if a signal came, AbandonedError if the run has failed on another thread."""
        if self._received is not None:
            raise StoppedError(self._received)
        if self._abandoned:
            raise AbandonedError("the run has failed")

    def abandon(self) -> None:
        """The run has failed: the threads that work for it end at their next check."""
        self._abandoned = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._received is not None:
            os._exit(128 + number)
        self._received = number
