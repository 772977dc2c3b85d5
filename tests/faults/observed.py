"""What can be seen from outside while runs are at DIR, or after they were killed there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from batchsent.checkpoint import PARTS, SUCCESS
from batchsent.errors import BatchsentError
from batchsent.storage import TEMPORARY, LocalStore
from batchsent.verify import verify


def parts(directory: Path) -> dict[str, tuple[int, int]]:
    """Name → inode and mtime of the committed parts: what no later run may touch."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.glob(f"{PARTS}/*/*.parquet")}


def temporaries(directory: Path) -> list[str]:
    """Names of files that are being written, or that a killed run left."""
    return sorted(path.name for path in directory.glob(f"{TEMPORARY}/*"))


def wait_for_end_of(session: int, timeout_seconds: float = 20) -> list[str]:
    """Wait until no process of ``session`` is left; returns the command lines of those that stay."""
    deadline = time.monotonic() + timeout_seconds
    while (left := _alive(session)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _alive(session: int) -> list[str]:
    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            is_of_it = os.getsid(process.pid) == session
        except ProcessLookupError:
            continue
        if is_of_it and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.info["cmdline"] or ["?"]))
    return found


def broken_promise(directory: Path) -> str:
    """What is wrong with that which ``_SUCCESS`` vouches for; nothing if it is not there, or went away meanwhile."""
    store = LocalStore(directory)
    before = store.signature(SUCCESS)
    try:
        problems = verify(store).problems
    except BatchsentError:  # it is not there
        return ""
    is_there_still = before is not None and store.signature(SUCCESS) == before
    return "; ".join(problems) if is_there_still else ""
