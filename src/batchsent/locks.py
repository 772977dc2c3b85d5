"""Who may be at DIR at once: one run, or the ranks of one world, each of them once.

A run holds the lock alone. Ranks share it: the first, which could have had it alone, leaves in the file how many they
are, and whoever finds another number there stays out. Locks go with the process that held them, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

WAIT_SECONDS = 1.0
"""'batchsent status' holds a lock for an instant to see whether it is free."""
_POLL_SECONDS = 0.05


class HeldError(Exception):
    """Somebody else has it."""


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold ``path``, and nobody else does. Raises HeldError; OSError where the file system has no locks."""
    lock = FileLock(path, timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise HeldError from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def in_turn(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Hold ``path`` when whoever has it is done; ``check`` is called meanwhile, and may raise. Raises OSError."""
    lock = FileLock(path, timeout=_POLL_SECONDS)
    while True:
        check()
        with contextlib.suppress(Timeout):
            lock.acquire()
            break
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def among_ranks(path: Path, world_size: int) -> Iterator[None]:
    """Hold ``path`` together with ranks of the same world. Raises HeldError, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not _joined(descriptor, world_size):
            if time.monotonic() > deadline:
                raise HeldError
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            # Said aloud: processes that were forked meanwhile, and end a moment later, hold it too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _joined(descriptor: int, world_size: int) -> bool:
    """Whether the shared lock is ours, and the world in the file too."""
    said = b"%d\n" % world_size
    if _lock(descriptor, fcntl.LOCK_EX):  # nobody is here: what the file says is of the past
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, said, 0)
    # Between the two locks somebody else may have it alone, and write another number.
    if not _lock(descriptor, fcntl.LOCK_SH):
        return False
    if os.pread(descriptor, len(said) + 1, 0) == said:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
