"""``batchsent report``, whole: what DIR holds → sections → one file; and the same at the end of ``score --report``."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from batchsent.config import ScoreConfig
from batchsent.drift import DriftGate, drift_of, read_baseline
from batchsent.errors import BatchsentError, DriftError, IncompleteError, without_secrets
from batchsent.html_report.config import ReportConfig
from batchsent.html_report.page import Content, render
from batchsent.html_report.predictions import drift_of_record
from batchsent.html_report.quality import Quality, measure_quality
from batchsent.html_report.rejects import read_examples
from batchsent.html_report.sources import Findings, find
from batchsent.html_report.texts import with_texts
from batchsent.job import run_job
from batchsent.reporting.progress import Progress
from batchsent.reporting.run_report import RunReport
from batchsent.shares import ALONE, Share
from batchsent.stages.planner import place
from batchsent.stop import StopSignal
from batchsent.storage import write_file
from batchsent.stores import open_store

log = logging.getLogger(__name__)


def write_report(config: ReportConfig, check: Callable[[], None] = lambda: None) -> Path:
    """Write the page that ``config`` asks for; returns where it is. ``check`` is called meanwhile, and may raise.

    Raises BatchsentError: UsageError if DIR is not ours, or the baseline or a ``--map`` does not fit it.
    """
    findings = find(open_store(place(config.directory, "DIR")), check)
    config.require_place()
    drift, baseline = _drift(findings, config.baseline)
    examples = read_examples(findings.store, findings.shards, check)
    content = Content(
        findings=findings,
        rejects=with_texts(findings, examples, check) if config.include_text else examples,
        quality=_quality(findings, config.maps, check),
        drift=drift,
        baseline=baseline,
        include_text=config.include_text,
    )
    write_file(config.path, render(content))
    return config.path


def _drift(findings: Findings, given: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What there is to say of the drift, and the totals of the baseline: from ``given``, else what a run recorded."""
    recorded = drift_of_record(findings)
    if given is None:
        return recorded, None
    gate = DriftGate(given, read_baseline(given), None)
    gate.require_labels(findings.identity.labels)
    totals = gate.baseline.totals()
    # A limit was that of the run, for the baseline that the run had.
    limit = recorded.get("limit") if recorded.get("baseline") == without_secrets(given) else None
    found = asdict(drift_of(totals, findings.totals))
    return {"baseline": without_secrets(given), "limit": limit, **found}, totals


def _quality(findings: Findings, maps: tuple[str, ...], check: Callable[[], None]) -> Quality | str | None:
    try:
        return measure_quality(findings, maps, check)
    except (OSError, pa.ArrowException) as error:  # not its message, which may quote what is in the file
        return f"An output file could not be read ({type(error).__name__}); see 'batchsent verify'"


# --- at the end of a run


def run_reported(
    config: ScoreConfig,
    *,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
    report: RunReport | None = None,
    share: Share = ALONE,
) -> RunReport:
    """:func:`batchsent.job.run_job`, and then the page that ``--report`` asks for.

    It is written where somebody may look: also of a run that ends with exit 3 or 4, but not of one that was stopped or
    could not work, and of several ranks by the one that publishes, or finds that nothing may be published.
    """
    page = ReportConfig.of_run(config)
    report, stop = report or RunReport(), stop or StopSignal()
    try:
        run_job(config, progress=progress, stop=stop, report=report, share=share)
    except (IncompleteError, DriftError):
        if page is not None:
            _write_after(page, stop)
        raise
    if page is not None and report.state != "share done":
        _write_after(page, stop)
    return report


def _write_after(config: ReportConfig, stop: StopSignal) -> None:
    """Write the page, or warn: whatever is wrong with it changes nothing of what the run has done."""
    try:
        write_report(config, stop.check_signal)
    except BatchsentError as error:
        log.warning("the report was not written: %s", error)
    except Exception as error:  # noqa: BLE001 - as above
        at = traceback.extract_tb(error.__traceback__)[-1]
        # Not its message, which may quote a review.
        log.warning(
            "the report was not written: %s in %s, line %s", type(error).__name__, PurePath(at.filename).name, at.lineno
        )
