"""The sections as HTML: one file without scripts that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from batchsent import __version__
from batchsent.drift import LARGE, MODERATE
from batchsent.html_report.elements import percent
from batchsent.html_report.judged import quality_section
from batchsent.html_report.overview import facts_of, head_of, run_rows, settings_of, shard_rows, shards_line
from batchsent.html_report.predictions import distribution_figures, drift_section, label_shares
from batchsent.html_report.quality import Quality
from batchsent.html_report.rejects import RejectExamples
from batchsent.html_report.sources import Findings
from batchsent.html_report.speed import speed_of

FAILURES_SHOWN = 50


@dataclass(frozen=True)
class Content:
    """Everything that the page tells."""

    findings: Findings
    rejects: RejectExamples
    quality: Quality | str | None
    """Or why there is none; None where no label column was kept."""
    drift: dict[str, Any]
    """As ``RunReport.drift``."""
    baseline: dict[str, Any] | None
    """The totals of its manifest, if that is at hand."""
    include_text: bool


def render(content: Content) -> bytes:
    """The page. Whatever a user has named is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["drawn"] = Markup  # a picture of ours: its texts were escaped when it was drawn
    page = environment.get_template("page.html").render(_values(content))
    return page.encode("utf-8", "replace")


def _values(content: Content) -> Mapping[str, Any]:
    findings, quality = content.findings, content.quality
    identity, totals = findings.identity, findings.totals
    reject_totals, records = totals["reject_counts"], totals["record_count"]
    failures = findings.failed or (findings.standing.run.failed_shards if findings.standing.run else {})
    return {
        "name": PurePath(str(findings.store.root)).name or str(findings.store.root),
        "directory": str(findings.store.root),
        "version": __version__,
        "written_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "model": identity.model,
        "shards": shards_line(findings),
        "finished": findings.standing.manifest is not None,
        "head": head_of(findings, quality),
        "failed": list(failures.items())[:FAILURES_SHOWN],
        "failed_count": len(failures),
        "rows": totals["row_count"],
        "shares": label_shares(findings, content.baseline),
        "label_count": len(identity.labels),
        "has_baseline": content.baseline is not None,
        "figures": distribution_figures(findings, content.baseline),
        "drift": drift_section(content.drift, has_pictures=content.baseline is not None),
        "moderate": MODERATE,
        "large": LARGE,
        "quality": quality_section(quality, identity.label_column or "") if isinstance(quality, Quality) else None,
        "quality_obstacle": quality if isinstance(quality, str) else "",
        "reject_totals": reject_totals,
        "reject_counts": [
            (reason, f"{count:,}", percent(count, records))
            for reason, count in sorted(reject_totals.items(), key=lambda item: -item[1])
        ],
        "rejects": list(content.rejects.by_reason.items()),
        "unreadable_rejects": content.rejects.unreadable,
        "unlocated": findings.unlocated_count,
        "include_text": content.include_text,
        "speed": speed_of(findings),
        "facts": facts_of(findings),
        "settings": settings_of(identity),
        "shard_rows": shard_rows(findings),
        "shard_count": len(findings.shards),
        "runs": run_rows(findings),
        "run_count": findings.run_count,
    }
