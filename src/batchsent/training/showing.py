"""How far a training is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

from batchsent.reporting.progress import LOG_INTERVAL_SECONDS, spoken_seconds

log = logging.getLogger(__name__)


class Showing:
    """Of one training after the other."""

    def __init__(self, asked: str) -> None:
        """``asked`` is what ``--progress`` says."""
        if asked == "auto":
            asked = "bar" if sys.stderr is not None and sys.stderr.isatty() else "log"
        self._kind = asked
        self._bar: Any = None
        self._task: Any = None
        self._last = self._began = time.monotonic()
        self._first_step = 0

    def start(self, title: str, step: int, step_count: int) -> None:
        """A training begins, or goes on at ``step``."""
        self._last = self._began = time.monotonic()
        self._first_step = step
        if self._kind == "bar":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("epoch {task.fields[epoch]:.2f}"),
                TextColumn("loss {task.fields[loss]}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]} left"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=step_count, completed=step, epoch=0.0, loss="?", left="?")
            self._bar.start()

    def step(self, step: int, step_count: int, epoch: float, loss: float) -> None:
        """So many steps are done; ``loss`` is the latest mean, or not a number before there is one."""
        done = step - self._first_step
        seconds = (time.monotonic() - self._began) * (step_count - step) / done if done > 0 else None
        shown = "?" if math.isnan(loss) else f"{loss:.4f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, loss=shown, left=spoken_seconds(seconds))
        elif self._kind == "log" and time.monotonic() - self._last >= LOG_INTERVAL_SECONDS:
            self._last = time.monotonic()
            left = spoken_seconds(seconds)
            log.info("step %d of %d, epoch %.2f, loss %s, at most %s left", step, step_count, epoch, shown, left)

    def stop(self) -> None:
        """It is over, well or not."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
