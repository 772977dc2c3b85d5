"""What ``forked`` runs may be given as ``prepare=``: functions that change the world of the process they run in."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from batchsent import digests, posix
from batchsent.storage import LocalStore, hash_stream


def together(*circumstances: Callable[[], None]) -> None:
    """All of them."""
    for circumstance in circumstances:
        circumstance()


def saying_so(folder: Path) -> None:
    """That the process is about to run its command: by a file of its number."""
    (folder / f"began-{os.getpid()}").touch()


def as_rank(rank: int, world_size: int) -> None:
    """As torchrun starts it."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}


def without_lock() -> None:
    """As on a network file system where locks do nothing."""
    for name in ("lock", "turn"):
        setattr(LocalStore, name, lambda *_: contextlib.nullcontext())


def slow_disk(seconds: float) -> None:
    """Each sync takes its time."""
    for name in ("fsync", "sync_directory"):
        _before(name, lambda *_: time.sleep(seconds))


def slow_input(seconds: float) -> None:
    """Input and model files are hashed in small blocks, each of which takes its time."""

    class Slow:
        def __init__(self, stream: IO[bytes]) -> None:
            self._stream = stream

        def read(self, _size: int) -> bytes:
            time.sleep(seconds)
            return self._stream.read(1 << 16)

    def hash_slowly(stream: Any, check: Callable[[], None] = lambda: None) -> str:
        return hash_stream(Slow(stream), check)  # type: ignore[arg-type]  # all that is used of a stream

    digests.hash_stream = hash_slowly  # type: ignore[attr-defined]  # where it is called


def asleep_before(call: str, fragment: str) -> None:
    """Without a lock; stops itself right before the first system call ``call`` on a path with ``fragment`` in it."""
    without_lock()
    is_awake = False

    def sleep(*arguments: Any) -> None:
        nonlocal is_awake
        if not is_awake and fragment in str(arguments[-1]):
            is_awake = True
            # By way of this thread: the process as a whole would stop a moment later.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    _before(call, sleep)


def leaving_temporaries_in(folder: Path) -> None:
    """Whatever the process leaves in the system's folder of temporaries, it leaves there."""
    folder.mkdir(exist_ok=True)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None


def _before(name: str, act: Callable[..., None]) -> None:
    call = getattr(posix, name)

    def acting(*arguments: Any) -> Any:
        act(*arguments)
        return call(*arguments)

    setattr(posix, name, acting)


def limit_file_size(size_bytes: int) -> None:
    """No file may grow beyond that; as a batch system's limits, or ``ulimit -f``."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
