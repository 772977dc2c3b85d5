"""An evaluation as lines for a terminal: what a person asks first stands first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from batchsent.evaluation.comparison import Comparison
from batchsent.evaluation.metrics import RESAMPLE_COUNT, Interval
from batchsent.evaluation.results import Evaluation, ModelEvaluation, Rows
from batchsent.evaluation.temperature import TemperatureFit

NONE = "\N{EN DASH}"
_TEXT_CHARACTERS = 100
_CONFUSION_LABELS = 12
"""With more labels, the matrix is wider than a terminal; --output has it."""


def report_lines(evaluation: Evaluation) -> list[str]:
    """Everything, in sections that an empty line parts."""
    sections = [_rows_section(evaluation), _table_section(evaluation.models)]
    for model in evaluation.models:
        sections += [_labels_section(model), _confusion_section(model)]
    sections.append(_comparison_section(evaluation))
    if evaluation.temperature is not None:
        sections.append(_temperature_section(evaluation.temperature))
    sections += [_worst_section(model) for model in evaluation.models]
    filled = [section for section in sections if section]
    return [line for section in filled for line in (*section, "")][:-1]


def _rows_section(evaluation: Evaluation) -> list[str]:
    rows = evaluation.rows
    lines = [f"{rows.judged_count:,} of {_counted(rows.record_count, 'record')} judged by {evaluation.label_column!r}"]
    if left_out := _left_out(rows):
        lines.append(f"left out: {'; '.join(left_out)}")
    meanings = [(model.name, _meanings(model)) for model in evaluation.models]
    for text, models in groupby(sorted(meanings, key=lambda item: item[1]), key=lambda item: item[1]):
        names = [name for name, _ in models]
        whose = "" if len(names) == len(meanings) else f" of {', '.join(names)}"
        lines.append(f"labels{whose}: {text}")
    return lines


def _left_out(rows: Rows) -> list[str]:
    found = []
    if rows.rejected_count:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.reject_counts.items())
        found.append(f"{rows.rejected_count:,} rejected ({reasons})")
    if rows.unlabelled_count:
        found.append(f"{rows.unlabelled_count:,} without a label")
    if rows.dropped_count:
        values = ", ".join(f"{count:,} with {line(value, 30)}" for value, count in rows.dropped_values.items())
        found.append(f"{rows.dropped_count:,} that no --map names" + (f" ({values})" if values else ""))
    return found


def _meanings(model: ModelEvaluation) -> str:
    counts = model.value_counts
    return ", ".join(
        f"{line(value, 30)} → {label} ({counts.get(value, 0):,})" for value, label in model.meanings.items()
    )


def _table_section(models: Sequence[ModelEvaluation]) -> list[str]:
    """A column a model."""
    rows = [["", *(model.name for model in models)]]
    for name, values in {
        "accuracy": [f"{m.metrics.accuracy:.4f}{_interval(m.metrics.accuracy_interval)}" for m in models],
        "macro F1": [f"{m.metrics.macro_f1:.4f}{_interval(m.metrics.macro_f1_interval)}" for m in models],
        "micro F1": [f"{m.metrics.micro_f1:.4f}" for m in models],
        "ROC AUC": [_number(m.metrics.roc_auc, 4) for m in models],
        "log loss": [f"{m.metrics.log_loss:.4f}" for m in models],
        "Brier score": [f"{m.metrics.brier:.4f}" for m in models],
        "calibration error": [f"{m.metrics.calibration_error:.4f}" for m in models],
        "rows/s": [_rate(m.rows_per_second) for m in models],
        "tokens/s": [_rate(m.tokens_per_second) for m in models],
        "computed by": [f"{m.setting.backend}, {m.setting.precision}, {m.setting.device}" for m in models],
    }.items():
        rows.append([name, *values])
    lines = _aligned(rows, right=False)
    lines.append(
        f"in brackets: 95 % interval, {RESAMPLE_COUNT:,} resamples of the rows; F1 and ROC AUC: mean over labels"
    )
    obstacles = {m.metrics.roc_auc_obstacle: m for m in models if m.metrics.roc_auc_obstacle}
    lines += [f"no ROC AUC: {obstacle}" for obstacle in obstacles]
    return lines


def _labels_section(model: ModelEvaluation) -> list[str]:
    rows = [[model.name, "precision", "recall", "F1", "ROC AUC", "rows", "predicted"]]
    rows += [
        [
            found.label,
            *(_number(value, 4) for value in (found.precision, found.recall, found.f1, found.roc_auc)),
            f"{found.row_count:,}",
            f"{found.predicted_count:,}",
        ]
        for found in model.metrics.labels
    ]
    return _aligned(rows)


def _confusion_section(model: ModelEvaluation) -> list[str]:
    confusion, labels = model.metrics.confusion, [found.label for found in model.metrics.labels]
    if confusion is None or len(labels) > _CONFUSION_LABELS:
        return []
    rows = [["true label", *(f"as {label}" for label in labels)]]
    rows += [[label, *(f"{count:,}" for count in counts)] for label, counts in zip(labels, confusion, strict=True)]
    return _aligned(rows)


def _comparison_section(evaluation: Evaluation) -> list[str]:
    lines = [_compared(comparison) for comparison in evaluation.comparisons]
    if len(lines) > 1:
        lines.append(f"no p is corrected for there being {len(lines)} comparisons")
    return lines and ["which is better (McNemar's exact test)", *lines]


def _compared(comparison: Comparison) -> str:
    first, second = comparison.first, comparison.second
    if not comparison.first_only + comparison.second_only:
        return f"{first} and {second} are right on the same rows"
    p_value = comparison.p_value
    return (
        f"{first} is right where {second} is wrong on {_counted(comparison.first_only, 'row')}, "
        f"the other way round on {comparison.second_only:,}: "
        + ("p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}")
    )


def _temperature_section(fit: TemperatureFit) -> list[str]:
    rows = [
        [f"temperature {fit.temperature:.4f}", "as it is", "with it"],
        ["log loss", f"{fit.log_loss_before:.4f}", f"{fit.log_loss_after:.4f}"],
        ["calibration error", f"{fit.calibration_error_before:.4f}", f"{fit.calibration_error_after:.4f}"],
    ]
    return [
        *_aligned(rows),
        "on the very rows that it was fitted to; judge it on others: evaluate them with --calibration",
    ]


def _worst_section(model: ModelEvaluation) -> list[str]:
    if not model.worst:
        return []
    wrong = model.metrics.row_count - round(model.metrics.accuracy * model.metrics.row_count)
    rows = [["truth", "label", "probability", "where", "text"]]
    rows += [
        [error.truth or NONE, error.label or NONE, f"{error.probability:.4f}", f"{error.shard}:{error.row_index}",
         line(error.review, _TEXT_CHARACTERS)]
        for error in model.worst
    ]  # fmt: skip
    return [f"worst errors of {model.name}, {len(model.worst):,} of {wrong:,}", *_aligned(rows, right=False)]


def line(text: str, limit: int) -> str:
    """``text`` on one line, without what would steer a terminal, cut to ``limit`` characters."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _aligned(rows: list[list[str]], *, right: bool = True) -> list[str]:
    """Columns of equal width, all but the first to the right if asked for."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        cells[0] = f"{row[0]:<{widths[0]}}"
        lines.append("  ".join(cells).rstrip())
    return lines


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval.low:.4f} to {interval.high:.4f})"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
