"""A process for each contender: it loads its model once and waits at a pipe while others are timed."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from contenders import Contender, Probabilities, Score, Setting, Task

T = TypeVar("T")

SETTLE_SECONDS = 0.3
"""Before a turn: the threads of whoever had the turn before spin for a moment until they sleep."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads and tokenizers in any state


class ContenderError(Exception):
    """Why a contender has no result."""


@dataclass(frozen=True)
class Timed:
    """One turn."""

    seconds: float
    scoring_seconds: float | None
    probabilities: Probabilities | None


def missing_packages(contender: Contender) -> list[str]:
    """What it needs and is not installed."""
    return [name for name in contender.packages if not _is_installed(name)]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def in_a_process(function: Callable[..., T], *arguments: Any, log: Path) -> T:
    """What ``function`` gives in a process that ends afterwards. Raises ContenderError if it fails."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN, initializer=_talk_to, initargs=(log,)) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise ContenderError("its process was killed") from error
        except Exception as error:  # a library raises what it likes
            raise ContenderError(_reason(error)) from error


class Worker:
    """The handle of a process that has loaded its model."""

    def __init__(self, contender: Contender, task: Task, texts: Sequence[str]) -> None:
        """Start it and wait until it has loaded. Raises ContenderError if it cannot."""
        self._pipe, theirs = _SPAWN.Pipe()
        arguments = (theirs, contender.module, task, list(texts))
        self._process = _SPAWN.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.load_seconds: float = self._received()

    def score(self, row_count: int, setting: Setting) -> Timed:
        """Let it score its first ``row_count`` texts. Raises ContenderError if it fails."""
        time.sleep(SETTLE_SECONDS)
        self._pipe.send((row_count, setting))
        timed: Timed = self._received()
        return timed

    def end(self) -> None:
        """Let the process go."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()

    def _received(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            raise ContenderError("its process was killed") from error
        if isinstance(answer, ContenderError):
            self.end()
            raise answer
        return answer


def _serve(pipe: Connection, module: str, task: Task, texts: list[str]) -> None:
    """The worker's own loop: load, then a turn for every message, until the pipe closes."""
    _talk_to(task.log)
    try:
        began = time.perf_counter()
        ready = importlib.import_module(module).load(task)
        pipe.send(time.perf_counter() - began)
        scores: dict[str, Score] = {}
        while True:
            row_count, setting = pipe.recv()
            key = f"{row_count} {setting}"
            if key not in scores:
                scores[key] = ready(texts[:row_count], setting)
            began = time.perf_counter()
            answer = scores[key]()
            seconds = time.perf_counter() - began
            pipe.send(Timed(seconds, answer.scoring_seconds, answer.probabilities))
    except EOFError:
        return
    except Exception as error:  # a library raises what it likes, and the others go on
        pipe.send(ContenderError(_reason(error)))


def _talk_to(log: Path) -> None:
    """Libraries print; what this program prints is to stay readable."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['it said nothing'])[0][:200]}"
