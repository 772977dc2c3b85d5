"""The pictures of a training: learning curves, and accuracy over learning rate and batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from batchsent.reporting.drawing import files_of
from batchsent.training.grid import Result
from batchsent.training.metrics import choosing_metric

_TRAINING, _VALIDATION, _BEST = "#9aa4b2", "#1f6feb", "#d1495b"


def pictures(results: Sequence[Result], best: Result, multi_label: bool) -> dict[str, bytes]:
    """File name → content: the curves of the best training; of several, also what came of each."""
    files = files_of("curves", curves(best, multi_label))
    return files | (files_of("grid", heat_map(results, multi_label)) if len(results) > 1 else {})


def curves(result: Result, multi_label: bool) -> Any:
    """Losses over the epochs, and what the validation finds; the evaluation that was kept is marked."""
    from matplotlib.figure import Figure

    metric = choosing_metric(multi_label)
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*_series(result, "loss"), color=_TRAINING, label="training")
    left.plot(*_series(result, "eval_loss"), "o-", color=_VALIDATION, markersize=4, label="validation")
    left.set(title="loss")
    right.plot(*_series(result, f"eval_{metric}"), "o-", color=_VALIDATION, markersize=4, label="validation")
    best = result.metrics[metric]
    right.plot([result.epoch], [best], "o", color=_BEST, markersize=8, label=f"kept: {best:.4f}")
    right.set(title=metric.replace("_", " "))
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def _series(result: Result, name: str) -> tuple[list[float], list[float]]:
    found = [(entry["epoch"], entry[name]) for entry in result.history if name in entry and "epoch" in entry]
    return [epoch for epoch, _ in found], [value for _, value in found]


def heat_map(results: Sequence[Result], multi_label: bool) -> Any:
    """The metric of every learning rate with every batch size."""
    from matplotlib.figure import Figure

    metric = choosing_metric(multi_label)
    rates = sorted({result.point.learning_rate for result in results})
    sizes = sorted({result.point.batch_size for result in results})
    values = {(r.point.learning_rate, r.point.batch_size): r.metrics[metric] for r in results}
    cells = [[values[rate, size] for size in sizes] for rate in rates]
    figure = Figure(figsize=(2.6 + 1.1 * len(sizes), 1.8 + 0.7 * len(rates)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set(xlabel="batch size", ylabel="learning rate", title=f"validation {metric.replace('_', ' ')}")
    low, high = min(values.values()), max(values.values())
    for row, cells_of_row in enumerate(cells):
        for column, value in enumerate(cells_of_row):
            is_dark = not math.isclose(low, high) and (value - low) / (high - low) > 0.55
            weight = "bold" if value == high else "normal"
            color = "white" if is_dark else "black"
            axes.text(column, row, f"{value:.4f}", ha="center", va="center", color=color, weight=weight)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.85)
    return figure
