"""Labels, confidence and lengths, alone or beside those of a baseline; and how far they have moved from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchsent.distributions import CONFIDENCE_EDGES, LENGTH_EDGES
from batchsent.drift import LARGE, MODERATE
from batchsent.html_report.elements import LABELS_SHOWN, Figure, Rows, percent
from batchsent.html_report.pictures import histogram_picture, occupied
from batchsent.html_report.sources import Findings


@dataclass(frozen=True)
class LabelShare:
    """Of one label, here and in the baseline."""

    label: str
    count: int
    share: float
    text: str
    baseline_share: float | None
    baseline_text: str


def label_shares(findings: Findings, baseline: dict[str, Any] | None) -> list[LabelShare]:
    """Of each label, in the model's order; of very many, the most frequent."""
    counts, rows = findings.totals["label_counts"], findings.totals["row_count"]
    labels = list(findings.identity.labels)
    if len(labels) > LABELS_SHOWN:
        labels = sorted(labels, key=lambda label: -counts.get(label, 0))[:LABELS_SHOWN]
    shares = []
    for label in labels:
        count = counts.get(label, 0)
        before = 0 if baseline is None else baseline["label_counts"].get(label, 0)
        shares.append(
            LabelShare(
                label=label,
                count=count,
                share=count / rows if rows else 0.0,
                text=percent(count, rows),
                baseline_share=None if baseline is None else before / max(1, baseline["row_count"]),
                baseline_text="" if baseline is None else percent(before, baseline["row_count"]),
            )
        )
    return shares


def distribution_figures(findings: Findings, baseline: dict[str, Any] | None) -> list[Figure]:
    """Histograms of confidence and of length."""
    limit = findings.identity.max_length
    kinds: list[tuple[str, str, Sequence[float], str, str]] = [
        (
            "Confidence",
            "confidence_counts",
            CONFIDENCE_EDGES,
            "probability of the label",
            "How probable the model says that its label is. The bins are finer near 1, where most rows are.",
        ),
        (
            "Length",
            "length_counts",
            LENGTH_EDGES,
            "tokens of the text",
            f"Tokens that were scored of each text, special ones included; a window holds {limit:,}. "
            "Two bins for each doubling.",
        ),
    ]
    if not findings.totals["row_count"]:
        return []
    found = []
    for title, key, edges, what, note in kinds:
        counts, before = findings.totals[key], None if baseline is None else baseline[key]
        description = f"Histogram of the scored rows by {what}; its numbers are in the table below."
        svg = histogram_picture(key, counts, edges, what=what, description=description, baseline=before)
        header = (what, "rows", "share", *(["baseline"] if before else []))
        found.append(Figure(title, svg, note, header, _bin_rows(counts, edges, before)))
    return found


def _bin_rows(counts: Sequence[int], edges: Sequence[float], before: Sequence[int] | None) -> Rows:
    first, last = occupied([counts] if before is None else [counts, before])
    rows: Rows = []
    for index in range(first, last + 1):
        lower = f"over {edges[index - 1]:,g}" if index else ""
        upper = f"to {edges[index]:,g}" if index < len(edges) else ""
        row = (f"{lower} {upper}".strip(), f"{counts[index]:,}", percent(counts[index], sum(counts)))
        rows.append((*row, percent(before[index], sum(before))) if before else row)
    return rows


# --- drift


@dataclass(frozen=True)
class DriftSection:
    """How far the predictions have moved."""

    baseline: str
    limit: float | None
    indices: list[tuple[str, float, str, str]]
    """(what, index, in a word, tone)"""
    has_pictures: bool


def drift_of_record(findings: Findings) -> dict[str, Any]:
    """What the run that wrote the manifest has recorded of its drift; empty if it looked at none."""
    return next((run.drift for run, _ in findings.runs if run.totals), {})


def drift_section(drift: dict[str, Any], *, has_pictures: bool) -> DriftSection | None:
    """From what ``RunReport.drift`` holds; None if that is empty."""
    if not drift:
        return None
    indices = []
    for name in ("labels", "confidence", "lengths"):
        value = float(drift[name])
        word, tone = ("much", "bad") if value > LARGE else ("some", "busy") if value > MODERATE else ("little", "good")
        indices.append((name, value, word, tone))
    return DriftSection(str(drift["baseline"]), drift["limit"], indices, has_pictures)
