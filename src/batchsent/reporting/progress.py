"""How far a run is: a bar on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from batchsent.reporting.run_report import RunReport

log = logging.getLogger(__name__)

LOG_INTERVAL_SECONDS = 10.0


class Progress(Protocol):
    """Shown from the first part to the last."""

    def start(self, report: RunReport) -> None:
        """Scoring begins."""

    def update(self, report: RunReport) -> None:
        """A part was committed."""

    def stop(self) -> None:
        """Scoring is over, well or not."""


@contextlib.contextmanager
def showing(progress: Progress, report: RunReport) -> Iterator[None]:
    """Between ``start`` and ``stop``."""
    progress.start(report)
    try:
        yield
    finally:
        progress.stop()


def choose_progress(asked: str) -> Progress:
    """``--progress``: auto is a bar where stderr is a terminal."""
    if asked == "auto":
        # A process may have been started without a stderr.
        asked = "bar" if sys.stderr is not None and sys.stderr.isatty() else "log"
    match asked:
        case "bar":
            return BarProgress()
        case "log":
            return LogProgress()
        case _:
            return NoProgress()


class NoProgress:
    """Silence."""

    def start(self, report: RunReport) -> None: ...

    def update(self, report: RunReport) -> None: ...

    def stop(self) -> None: ...


class LogProgress:
    """A line every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def start(self, report: RunReport) -> None: ...

    def update(self, report: RunReport) -> None:
        if time.monotonic() - self._last < LOG_INTERVAL_SECONDS:
            return
        self._last = time.monotonic()
        log.info(
            "%s rows, %.0f rows/s, %.0f%% of the %s, %s left",
            f"{report.record_count:,}",
            report.rows_per_second,
            100 * share_done(report),
            "input" if report.share_bytes is None else "share",
            spoken_seconds(remaining_seconds(report)),
            extra={
                "rows": report.record_count,
                "rows_per_second": round(report.rows_per_second, 1),
                "share_done": round(share_done(report), 4),
            },
        )

    def stop(self) -> None: ...


class BarProgress:
    """A rich progress bar; log lines appear above it."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def start(self, report: RunReport) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rows]:>11,} rows"),
            TextColumn("{task.fields[rate]:>8,.0f} rows/s"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left"),
            console=console,
        )
        self._task = self._progress.add_task("", total=max(1, report.own_bytes), rows=0, rate=0.0, left="?")
        self._progress.start()

    def update(self, report: RunReport) -> None:
        self._progress.update(
            self._task,
            completed=report.done_bytes,
            rows=report.record_count,
            rate=report.rows_per_second,
            left=spoken_seconds(remaining_seconds(report)),
        )

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def share_done(report: RunReport) -> float:
    """Of the bytes that are the run's to do; those of a compressed shard count when it is done."""
    return min(1.0, report.done_bytes / report.own_bytes) if report.own_bytes else 1.0


def remaining_seconds(report: RunReport) -> float | None:
    """At the run's rate so far; None before there is one."""
    if not report.committed_bytes:
        return None
    left_bytes = max(0, report.own_bytes - report.done_bytes)
    return report.scoring_seconds * left_bytes / report.committed_bytes


def spoken_bytes(size: float) -> str:
    """'512 bytes', '81.4 kB', '3.2 MB', '20.0 GB'."""
    if size < 1_000:
        return f"{size:,.0f} bytes"
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size / 1e3:,.1f} kB"


def spoken_seconds(seconds: float | None) -> str:
    """'?', '8 s', '12 min', '3 h 05 min'."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
