"""Log lines on stderr, for a person or, as JSON, for a machine."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from batchsent.shares import ALONE, Share

LOGGER = "batchsent"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, run_id and what the call passed as ``extra``.

    Of several ranks also which one wrote it: rank, world_size.
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
        entry |= {key: value for key, value in vars(record).items() if key not in self._STANDARD}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the moment: a progress bar replaces it to keep lines above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            self.stream = sys.stderr
            super().emit(record)


def configure(log_format: str, run_id: str, *, quiet: bool, share: Share = ALONE) -> None:
    """Send the package's log lines to stderr; ``quiet`` leaves warnings and errors only. A rank says which it is."""
    logger = logging.getLogger(LOGGER)
    handler = _StderrHandler()
    if log_format == "json":
        handler.setFormatter(JsonFormatter(run_id, share))
    else:
        rank = "" if share.is_whole else f"{share} "
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {rank}%(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
