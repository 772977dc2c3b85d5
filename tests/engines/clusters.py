"""A real Ray cluster of several nodes on this machine, whose nodes and actors can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

NODE_COUNT = 3
_ACTOR = "Map(_Actor)"


class Nodes:
    """Three nodes with one processor each, the first of which is the head."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._others: list[Any] = []
        self.restore()

    @property
    def address(self) -> str:
        """For ``--ray-address``."""
        return str(self._cluster.address)

    def add(self) -> None:
        """One more node."""
        self._others.append(self._cluster.add_node(num_cpus=1))

    def kill(self) -> None:
        """A node that is not the head dies, with all that runs on it."""
        self._cluster.remove_node(self._others.pop(0), allow_graceful=False)

    def restore(self) -> None:
        """As many nodes as at first."""
        while len(self._others) < NODE_COUNT - 1:
            self.add()

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


def replica_processes() -> list[psutil.Process]:
    """The actors' own; Ray names the process after what it does, and what it forks has its name too."""
    found = {}
    for process in psutil.process_iter(["cmdline", "ppid"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith("ray::") and _ACTOR in command[0]:
            found[process.pid] = process
    return [process for process in found.values() if process.info["ppid"] not in found]


def children_of_replicas() -> list[psutil.Process]:
    """Readers and tokenizers."""
    found: list[psutil.Process] = []
    for process in replica_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.children()
    return found


class Driver:
    """``batchsent score --engine ray`` in a process of its own."""

    def __init__(self, address: str, arguments: Sequence[Path | str], folder: Path) -> None:
        self._stderr = folder / "driver.stderr"
        command = [sys.executable, "-m", "batchsent", "score", *map(str, arguments)]
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*command, "--engine", "ray", "--ray-address", address, "--progress", "none"],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
            )

    @property
    def errors(self) -> str:
        """What it has said."""
        return self._stderr.read_text(encoding="utf-8")

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """To the driver alone."""
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float = 180) -> int:
        """Exit status, negative for a signal. Fails if it hangs."""
        try:
            return self._process.wait(timeout_seconds)
        finally:
            self._process.kill()

    def wait_for_parts(self, out: Path, count: int, timeout_seconds: float = 120) -> None:
        """Until so many parts are committed; or the run is over."""
        ends = time.monotonic() + timeout_seconds
        while not self.is_over and time.monotonic() < ends:
            if sum(1 for _ in out.glob("_batchsent/parts/*/*.parquet")) >= count:
                return
            time.sleep(0.02)


@contextlib.contextmanager
def running() -> Iterator[Nodes]:
    """A cluster that is gone afterwards."""
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.close()
