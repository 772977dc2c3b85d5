"""The section on quality, where a label column was kept."""

from __future__ import annotations

from dataclasses import dataclass

from batchsent.html_report.elements import LABELS_SHOWN, Figure, Rows
from batchsent.html_report.pictures import reliability_picture
from batchsent.html_report.quality import Quality

CONFUSED_LABELS = 12
"""With more of them a confusion matrix is not readable, and the most frequent confusions are listed."""


@dataclass(frozen=True)
class QualitySection:
    """Metrics, by label, and what is taken for what."""

    numbers: list[tuple[str, str, str]]
    labels: Rows
    matrix: list[tuple[str, list[tuple[str, int, float]]]]
    """(true label, [(answer, rows, share of the rows of that label)]); empty where it would not be readable."""
    confusions: Rows
    """(true label, answer, rows): the most frequent, where there is no matrix."""
    reliability: Figure
    meanings: list[tuple[str, str]]
    """(label, values of the column that stand for it)"""
    left_out: str


def quality_section(quality: Quality, column: str) -> QualitySection:
    """All of it, for people."""
    labels = [label for label in quality.labels if label.row_count or label.predicted_count]
    kept = [index for index, label in enumerate(quality.labels) if label.row_count or label.predicted_count]
    matrix, confusions = list[tuple[str, list[tuple[str, int, float]]]](), Rows()
    if quality.confusion is not None and len(kept) <= CONFUSED_LABELS:
        for true in kept:
            cells = [(quality.labels[answer].label, quality.confusion[true][answer]) for answer in kept]
            whole = max(1, sum(count for _, count in cells))
            matrix.append((quality.labels[true].label, [(name, count, count / whole) for name, count in cells]))
    elif quality.confusion is not None:
        pairs = [
            (quality.labels[true].label, quality.labels[answer].label, count)
            for true, counts in enumerate(quality.confusion)
            for answer, count in enumerate(counts)
            if true != answer and count
        ]
        confusions = list(sorted(pairs, key=lambda pair: -pair[2])[:LABELS_SHOWN])
    scale = "0 to 1" if len(quality.labels) == 2 or quality.is_multi_label else "0 to 2"
    return QualitySection(
        numbers=[
            ("accuracy", f"{quality.accuracy:.1%}", "right of the labelled rows"),
            ("macro F1", f"{quality.macro_f1:.3f}", "mean over the labels"),
            ("micro F1", f"{quality.micro_f1:.3f}", "over all answers"),
            ("calibration error", f"{quality.calibration_error:.3f}", "probability against share right"),
            ("log loss", f"{quality.log_loss:.3f}", "less is better"),
            ("Brier score", f"{quality.brier:.3f}", f"{scale}, less is better"),
        ],
        labels=[
            (
                q.label,
                f"{q.row_count:,}",
                f"{q.predicted_count:,}",
                _metric(q.precision),
                _metric(q.recall),
                _metric(q.f1),
            )
            for q in labels[:LABELS_SHOWN]
        ],
        matrix=matrix,
        confusions=confusions,
        reliability=_reliability_figure(quality),
        meanings=_meanings(quality),
        left_out=_left_out(quality, column),
    )


def _meanings(quality: Quality) -> list[tuple[str, str]]:
    by_label: dict[str, list[str]] = {}
    for value, label in quality.meanings.items():
        by_label.setdefault(label, []).append(value)
    return [(label, ", ".join(values)) for label, values in by_label.items()]


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _left_out(quality: Quality, column: str) -> str:
    line = f"{quality.row_count:,} scored rows have a label in {column!r} that counts"
    return line + (f"; {quality.left_out_count:,} are left out." if quality.left_out_count else ".")


def _reliability_figure(quality: Quality) -> Figure:
    least = 0.5 if quality.is_multi_label else 1 / len(quality.labels)
    description = "Share of right answers by their probability; the numbers are in the table below."
    svg = reliability_picture("reliability", quality.bins, least=least, description=description)
    rows: Rows = [
        (f"{b.lower:.2f} to {b.upper:.2f}", f"{b.count:,}", _metric(b.confidence), _metric(b.accuracy))
        for b in quality.bins
        if b.count
    ]
    note = "How often answers are right, by how probable the model says that they are. Below the line it is too sure."
    return Figure("Calibration", svg, note, ("probability", "answers", "mean probability", "share right"), rows)
