"""Log lines on stderr, for a person or, as JSON, for a machine."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

from batchsent.errors import without_secrets
from batchsent.shares import ALONE, Share

LOGGER = "batchsent"
_WARNINGS = "py.warnings"
"""The logger of Python's own warnings, where they are sent to one."""
_PRINTED = "stderr"
"""Stands as the logger of what was not logged but printed."""


def new_run_id() -> str:
    """Sorts by time, to the millisecond, as runs may follow one another within a second; and is one of its kind."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z-{secrets.token_hex(3)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, run_id and what the call passed as ``extra``.

    Of several ranks also which one wrote it: rank, world_size. Of a library's line also which logger: logger.
    """

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def __init__(self, run_id: str, share: Share = ALONE) -> None:
        super().__init__()
        self._run: dict[str, Any] = {"run_id": run_id}
        if not share.is_whole:
            self._run |= {"rank": share.rank, "world_size": share.world_size}

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._run,
            "message": record.getMessage(),
        }
        if record.name.partition(".")[0] != LOGGER:
            entry |= {"logger": record.name, "message": without_secrets(record.getMessage().strip())}
        # Ray adds one of its own to every record.
        extra = {key: value for key, value in vars(record).items() if key not in self._STANDARD and key[0] != "_"}
        entry |= extra
        if record.exc_info:
            entry["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the moment: a progress bar replaces it to keep lines above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr = sys.stderr.stream if isinstance(sys.stderr, _PrintedLines) else sys.stderr
        if stderr is not None:
            self.stream = stderr
            super().emit(record)


class _PrintedLines(io.TextIOBase):
    """In the place of ``sys.stderr``: each line that somebody prints there becomes one of the log."""

    def __init__(self, stream: TextIO, handler: logging.Handler) -> None:
        self.stream = stream
        self._handler = handler
        self._begun = ""

    def write(self, text: str) -> int:
        """Log the lines that are complete; of what a progress bar has painted over, what is left."""
        *lines, begun = (self._begun + text).split("\n")
        self._begun = begun.rpartition("\r")[2]
        for line in lines:
            if said := line.rstrip("\r").rpartition("\r")[2].strip():
                self._handler.handle(logging.LogRecord(_PRINTED, logging.WARNING, "", 0, said, None, None))
        return len(text)

    def writable(self) -> bool:
        """It is for nothing else."""
        return True

    def flush(self) -> None:
        """A line goes out when it is complete."""
        self.stream.flush()

    def fileno(self) -> int:
        """Of the real one."""
        return self.stream.fileno()


def configure(log_format: str, run_id: str, *, quiet: bool, share: Share = ALONE) -> None:
    """Send the package's log lines to stderr; ``quiet`` leaves warnings and errors only. A rank says which it is."""
    logger = logging.getLogger(LOGGER)
    handler = _StderrHandler()
    is_json = log_format == "json"
    if is_json:
        handler.setFormatter(JsonFormatter(run_id, share))
    else:
        rank = "" if share.is_whole else f"{share} "
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {rank}%(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    logging.captureWarnings(is_json)
    logging.getLogger(_WARNINGS).handlers[:] = [handler] if is_json else []
    logging.getLogger(_WARNINGS).propagate = not is_json
    if isinstance(sys.stderr, _PrintedLines):
        sys.stderr = _PrintedLines(sys.stderr.stream, handler)


@contextlib.contextmanager
def printed_lines_logged() -> Iterator[None]:
    """Within, what libraries print to ``sys.stderr`` is logged, in the format that is configured.

    What their native code writes past Python stays as it is: it may be the last that is heard of a process.
    """
    stderr, logger = sys.stderr, logging.getLogger(LOGGER)
    if stderr is None:
        yield
        return
    sys.stderr = _PrintedLines(stderr, logger.handlers[0])
    try:
        yield
    finally:
        sys.stderr = stderr
