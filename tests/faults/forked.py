"""Real processes without the seconds of imports: a fork server that has torch, transformers and batchsent loaded.

A run is the command line itself, with its reader, its tokenizers and its signal handlers, in a session of its own; a
stand-in takes the model's place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["batchsent.job", "batchsent.cli.score", "batchsent.engines.local", "transformers.models.auto", "faults.inline"]
)

Prepare = Callable[[], None]


class Run:
    """A run that was started; ``stderr`` is a file."""

    def __init__(self, arguments: Sequence[Path | str], stderr: Path, prepare: Prepare | None) -> None:
        self.stderr = stderr
        self._process = CONTEXT.Process(target=_main, args=([str(a) for a in arguments], str(stderr), prepare))
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the job; its session has the same number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.exitcode is not None

    def kill(self) -> None:
        """SIGKILL to the job and all its helpers at once, as a machine that goes down does it."""
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """To the whole session; nothing happens if it is over."""
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # it has no session of its own yet
                os.kill(self.pid, number)

    def wait(self, timeout_seconds: float = 60) -> int:
        """Exit status, negative for a signal. Fails if it hangs."""
        self._process.join(timeout_seconds)
        code = self._process.exitcode
        if code is None:
            self.signal(signal.SIGKILL)
            raise TimeoutError(f"the run hangs; stderr:\n{self.errors}")
        return code

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return self.stderr.read_text(encoding="utf-8") if self.stderr.exists() else ""


class Forked:
    """Starts runs; use the fixture of that name."""

    def __init__(self, model: Path, scratch: Path) -> None:
        self._options: list[Path | str] = ["--model", model, "--precision", "fp32", "--threads", "1", "--device", "cpu"]
        self._options += ["--backend", "torch"]
        self._scratch = scratch
        self._count = 0
        self._runs: list[Run] = []

    def start(self, *arguments: Path | str, prepare: Prepare | None = None) -> Run:
        """``batchsent score ARGUMENTS``; ``prepare``, a function of a module, is called in the process first."""
        self._count += 1
        stderr = self._scratch / f"stderr-{self._count}"
        run = Run(["score", *self._options, "--rows-per-part", "50", *arguments], stderr, prepare)
        self._runs.append(run)
        return run

    def finish(self, *arguments: Path | str) -> None:
        """Run until it has published."""
        run = self.start(*arguments)
        code = run.wait()
        assert code == 0, run.errors

    def close(self) -> None:
        """Nothing is left behind, not even by a test that failed."""
        for run in self._runs:
            if not run.is_over:
                run.kill()


def wait_until(condition: Callable[[], bool], run: Run, timeout_seconds: float = 60) -> None:
    """Until something is so, or the run is over."""
    deadline = time.monotonic() + timeout_seconds
    while not run.is_over and not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def _main(arguments: list[str], stderr: str, prepare: Prepare | None) -> None:
    """In the process: become a batchsent command."""
    os.setsid()
    log = os.open(stderr, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    from batchsent.cli import main
    from batchsent.models import loading
    from faults.inline import StandIn

    loading.load_model = lambda *_, **__: StandIn()  # type: ignore[assignment]
    if prepare is not None:
        prepare()
    main(arguments)
