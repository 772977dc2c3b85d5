"""Writing on a thread of its own, a little behind the device."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, Self

P = ParamSpec("P")

IN_FLIGHT = 2
"""Commits that may wait: enough to hide a slow disk's hiccup, few enough to bound memory."""


class CommitThread:
    """Runs what it is given one after the other; what one raises surfaces at the next call."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "commit")
        self._futures: deque[Future[Any]] = deque()
        self._held: list[Callable[[], object]] | None = []
        self._lock = threading.Lock()  # parts come from the main thread, finished shards from the one that reads

    def start(self) -> None:
        """Begin with what was submitted so far: the thread must not exist when other processes are forked."""
        held, self._held = self._held or [], None
        for call in held:
            self.submit(call)

    def submit(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` after those before it; waits while too many are in flight."""
        if self._held is not None:
            self._held.append(partial(function, *args, **kwargs))
            return
        with self._lock:
            while len(self._futures) >= IN_FLIGHT:
                self._futures.popleft().result()
            self._futures.append(self._executor.submit(function, *args, **kwargs))

    def drain(self) -> None:
        """Wait for all of them. Raises what the first one that failed raised."""
        with self._lock:
            while self._futures:
                self._futures.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            if kind is None:
                self.start()
                self.drain()
        finally:
            # What was scored is committed even when the run stops: it would only be scored again.
            self._executor.shutdown(wait=True)
