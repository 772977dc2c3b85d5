"""The pictures of an evaluation: how far probabilities can be trusted, and what is taken for what."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchsent.evaluation.outcomes import Floats
from batchsent.evaluation.results import ModelEvaluation

_OURS, _PALE, _GREY, _GAP = "#1f6feb", "#c9dcfb", "#6b7280", "#d1495b"
_LABELS_WITH_NUMBERS = 12
"""With more labels than that, the numbers in a confusion matrix would not be readable."""


def reliability_picture(model: ModelEvaluation) -> Any:
    """How often answers are right, by how probable the model says that they are; below, how many there are."""
    from matplotlib.figure import Figure

    bins = [found for found in model.metrics.bins if found.count]
    confidences = [found.confidence for found in bins]
    left = 0.5 if model.multi_label else 1 / len(model.metrics.labels)
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1, label="right as often as it says")
    upper.vlines(
        confidences, confidences, [found.accuracy for found in bins], color=_GAP, linewidth=2.5, label="gap", zorder=2
    )
    sizes = [18 + 200 * found.count / max(other.count for other in bins) for found in bins]
    upper.scatter(
        confidences, [found.accuracy for found in bins], sizes, color=_OURS, label="answers of a bin", zorder=3
    )
    upper.set(ylabel="share that is right", ylim=(-0.03, 1.03), xlim=(max(0.0, left - 0.03), 1.02))
    upper.legend(frameon=False, loc="upper left", markerscale=0.6)
    error, loss = model.metrics.calibration_error, model.metrics.log_loss
    upper.set_title(
        f"{_plain(model.name)}: calibration error {error:.3f}, log loss {loss:.3f}", loc="left", fontsize=11
    )
    width = model.metrics.bins[0].upper
    lower.bar(
        [found.lower for found in model.metrics.bins],
        [found.count for found in model.metrics.bins],
        width,
        align="edge",
        color=_PALE,
        edgecolor=_OURS,
        linewidth=0.6,
    )
    what = "decision (a label of a row)" if model.multi_label else "predicted label"
    lower.set(xlabel=f"probability of the {what}", ylabel="decisions" if model.multi_label else "rows")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_picture(model: ModelEvaluation) -> Any:
    """Which label is taken for which; None where a text may have several."""
    from matplotlib.figure import Figure

    if model.metrics.confusion is None:
        return None
    counts = np.array(model.metrics.confusion)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    labels = [_plain(found.label) for found in model.metrics.labels]
    side = min(12.0, 2.6 + 0.85 * len(labels))
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45 if len(labels) > 3 else 0, ha="right" if len(labels) > 3 else "center")
    axes.set_yticks(places, labels)
    axes.set(xlabel="predicted label", ylabel="true label")
    if len(labels) <= _LABELS_WITH_NUMBERS:
        for row in places:
            for column in places:
                share, color = shares[row, column], "white" if shares[row, column] > 0.55 else "black"
                text = f"{counts[row, column]:,}\n{share:.1%}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    figure.colorbar(image, ax=axes, label="share of the rows of a true label", shrink=0.8)
    rows = model.metrics.row_count
    title = f"{_plain(model.name)}: {model.metrics.accuracy:.1%} of {rows:,} row{'s' * (rows != 1)} right"
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[:].set_visible(False)
    return figure


def _plain(text: str) -> str:
    """Without the formulas that a pair of dollar signs would begin."""
    return text.replace("$", r"\$")
