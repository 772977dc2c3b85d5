"""How much memory a command and its children take at most, role by role."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

Peaks = dict[str, float]
"""Role → megabytes: each process's own peak, those of one role added up."""


def watched(arguments: list[str]) -> tuple[str, Peaks]:
    """Run a script of Python with its arguments; what it printed and its peaks. Raises SystemExit if it fails."""
    peaks: dict[int, tuple[str, int]] = {}
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        watch = threading.Thread(target=_watch, args=(process.pid, peaks))
        watch.start()
        printed = process.communicate()[0]
        watch.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with exit {process.returncode}")
    by_role: Peaks = {}
    for role, size in peaks.values():
        by_role[role] = by_role.get(role, 0.0) + size / 1e6
    return printed, by_role


def _watch(root_pid: int, peaks: dict[int, tuple[str, int]]) -> None:
    """Each process's high-water mark as the kernel keeps it, looked at until the root is gone."""
    while psutil.pid_exists(root_pid) and psutil.Process(root_pid).status() != psutil.STATUS_ZOMBIE:
        try:
            root = psutil.Process(root_pid)
            for process in [root, *root.children(recursive=True)]:
                role = "job" if process.pid == root_pid else _role(process)
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                mark = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peaks[process.pid] = (role, int(mark.split()[1]) * 1024)
        except (psutil.Error, OSError, StopIteration):
            pass
        time.sleep(0.05)


def _role(process: psutil.Process) -> str:
    return "reader" if any("stages.reader" in part for part in process.cmdline()) else "tokenizers"
