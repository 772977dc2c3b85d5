"""How far a run is, written down while it goes: its record in DIR, and the metrics file if there is one."""

from __future__ import annotations

import time

from batchsent.reporting.metrics import INTERVAL_SECONDS, MetricsFile
from batchsent.reporting.run_report import RunReport
from batchsent.stores import Store


class Recorder:
    """Writes a run's report where others read it."""

    def __init__(self, store: Store, report: RunReport, metrics: MetricsFile | None) -> None:
        self._store, self._report, self._metrics = store, report, metrics
        self._recorded_at = time.monotonic()

    def record(self) -> None:
        """Write it now. Raises StorageError if DIR does not take it."""
        self._recorded_at = time.monotonic()
        if self._metrics is not None:
            self._metrics.write()
        self._report.save(self._store)

    def record_in_time(self) -> None:
        """Write it, if that was not done just now; ``batchsent status`` reads what is in DIR."""
        if time.monotonic() - self._recorded_at > INTERVAL_SECONDS:
            self.record()
