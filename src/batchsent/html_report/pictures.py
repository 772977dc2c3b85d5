"""The pictures of a report: each as wide as a phone, so that its letters can be read there, in the page's colors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from batchsent.evaluation.metrics import Bin
from batchsent.reporting.drawing import drawing_style, inline

_WIDTH, _HEIGHT = 4.0, 2.7
"""In inches, which are 72 units of the SVG: a phone shows about one of them a pixel."""
_OURS, _PALE, _THEIRS, _MUTED, _LINE, _GAP = "#1f6feb", "#c9dcfb", "#b45309", "#57606a", "#d0d7de", "#cf222e"
_COLORS = {
    _OURS: "--ours",
    _PALE: "--ours-pale",
    _THEIRS: "--theirs",
    _MUTED: "--muted",
    _LINE: "--line",
    _GAP: "--bad",
}
_TICK_COUNT = 8
_UNITS = ((2 * 3600, 3600, "hours"), (2 * 60, 60, "minutes"), (0, 1, "seconds"))


def histogram_picture(
    name: str,
    counts: Sequence[int],
    edges: Sequence[float],
    *,
    what: str,
    description: str,
    baseline: Sequence[int] | None = None,
) -> str:
    """Shares of the rows in bins that are drawn equally wide; ``counts`` has one bin more than there are ``edges``."""
    both = [counts] if baseline is None else [counts, baseline]
    first, last = occupied(both)
    places = np.arange(first, last + 2)
    shares = [100 * np.array(side[first : last + 1]) / max(1, sum(side)) for side in both]

    def draw(axes: Any) -> None:
        axes.stairs(shares[0], places, fill=True, color=_OURS, label="this run", alpha=0.85)
        if len(shares) > 1:
            axes.stairs(shares[1], places, color=_THEIRS, linewidth=2, label="baseline")
            _legend(axes)
        # A place is where one bin ends and the next begins; before the first and behind the last there is no edge.
        ticks = [place for place in places.tolist() if 0 < place <= len(edges)][::-1]
        ticks = ticks[:: -(-len(ticks) // _TICK_COUNT) or 1]  # most rows are at the right: its end is named
        axes.set_xticks(ticks, [f"{edges[place - 1]:,g}" for place in ticks])
        axes.set(xlabel=what, ylabel="% of scored rows", xlim=(first, last + 1))
        axes.set_ylim(bottom=0)

    return _drawn(name, draw, description)


def occupied(sides: Sequence[Sequence[int]]) -> tuple[int, int]:
    """First and last bin in which any of ``sides`` has rows."""
    places = [index for counts in sides for index, count in enumerate(counts) if count]
    return (min(places), max(places)) if places else (0, len(sides[0]) - 1)


def throughput_picture(name: str, points: Sequence[tuple[float, float]], mean: float, *, description: str) -> str:
    """Records a second between the marks of a run; ``points`` are (seconds of scoring, records by then)."""
    times = np.array([0.0, *(seconds for seconds, _ in points)])
    done = np.array([0.0, *(count for _, count in points)])
    _, divisor, unit = next(one for one in _UNITS if times[-1] >= one[0])

    def draw(axes: Any) -> None:
        axes.stairs(np.diff(done) / np.diff(times), times / divisor, fill=True, color=_OURS, alpha=0.85)
        axes.axhline(mean, color=_THEIRS, linestyle="--", linewidth=1.5, label=f"mean {mean:,.0f}")
        _legend(axes)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if mean >= 10 else f"{value:,g}")
        axes.set(xlabel=f"{unit} of scoring", ylabel="records per second", xlim=(0, times[-1] / divisor))
        axes.set_ylim(bottom=0)

    return _drawn(name, draw, description)


def reliability_picture(name: str, bins: Sequence[Bin], *, least: float, description: str) -> str:
    """How often answers are right, by how probable the model says that they are; below, how many there are."""
    filled = [found for found in bins if found.count]
    confidences = [found.confidence for found in filled]
    accuracies = [found.accuracy for found in filled]
    most = max(found.count for found in filled)

    def draw(upper: Any, lower: Any) -> None:
        upper.plot([0, 1], [0, 1], "--", color=_MUTED, linewidth=1, label="ideal")
        upper.vlines(confidences, confidences, accuracies, color=_GAP, linewidth=2.5, label="gap", zorder=2)
        sizes = [14 + 110 * found.count / most for found in filled]
        upper.scatter(confidences, accuracies, sizes, color=_OURS, label="answers", zorder=3)
        upper.set(ylabel="share that is right", ylim=(-0.04, 1.04), xlim=(max(0.0, least - 0.03), 1.02))
        _legend(upper, markerscale=0.7)
        lower.bar(
            [found.lower for found in bins],
            [found.count for found in bins],
            bins[0].upper,
            align="edge",
            color=_PALE,
            edgecolor=_OURS,
            linewidth=0.6,
        )
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        lower.set(xlabel="probability of the answer", ylabel="answers")

    return _drawn(name, draw, description, height=3.8, height_ratios=[3, 1])


def combined(timelines: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """The timelines of ranks as one: each begins with its own first part, and stays where it ended."""
    kept = [_ascending(timeline) for timeline in timelines]
    times = np.unique([seconds for timeline in kept for seconds, _ in timeline])
    done = sum(
        (np.interp(times, [0.0, *(t for t, _ in points)], [0.0, *(n for _, n in points)]) for points in kept if points),
        np.zeros(len(times)),
    )
    return list(zip(times.tolist(), np.asarray(done).tolist(), strict=True))


def _ascending(timeline: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The last mark of each moment, without what is before the first one that took any time."""
    marks = [(float(seconds), float(count)) for seconds, count in timeline if seconds > 0]
    return [list(group)[-1] for _, group in itertools.groupby(marks, key=lambda mark: mark[0])]


def _drawn(name: str, draw: Callable[..., None], description: str, *, height: float = _HEIGHT, **subplots: Any) -> str:
    from matplotlib.figure import Figure

    style = {
        "text.color": _MUTED,
        "axes.labelcolor": _MUTED,
        "axes.edgecolor": _LINE,
        "xtick.color": _LINE,
        "ytick.color": _LINE,
        "xtick.labelcolor": _MUTED,
        "ytick.labelcolor": _MUTED,
    }
    with drawing_style(**style):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="none")
        rows = len(subplots.get("height_ratios", [1]))
        found = figure.subplots(rows, 1, sharex=True, squeeze=False, **subplots)[:, 0]
        for axes in found:
            axes.set_facecolor("none")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color=_LINE, linewidth=0.7)
            axes.set_axisbelow(True)
        draw(*found)
    return inline(figure, name, description, _COLORS)


def _legend(axes: Any, **more: Any) -> None:
    """Above the axes: in them it would lie over what they show."""
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        borderpad=0,
        columnspacing=1.2,
        handlelength=1.4,
        fontsize=9,
        **more,
    )
