"""Draws the recorded results for docs/benchmarks.md.

    python benchmarks/plots.py

One picture a result, in docs/images: the contenders side by side, and how the cost grows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib import ticker

from contenders.summary import Standing, standings

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images"

NAMES = {"distilbert": "DistilBERT (6 layers of 768)", "embedded": "the embedded model (6 layers of 384)"}
OURS, OTHERS, LIMIT = "#1f6feb", "#9aa4b2", "#e3b341"

AXES = {
    "rows": ("rows", "times as many rows", "seconds"),
    "text_length": ("length", "words a text, as many words in all", "seconds"),
    "part_size": ("part size", "rows a part", "seconds"),
    "labels": ("labels", "labels", "seconds"),
    "duplicates": ("duplicates", "share of rows that repeat another", "seconds"),
    "resume": ("resuming", "share of the parts that were committed", "seconds"),
}
"""Of results/growth.json: title, what is on the horizontal axis, on the vertical one."""


def main() -> None:
    """Draw what there is."""
    # Text as text, and nothing by chance: a picture changes only when its numbers do.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "batchsent", "font.size": 10})
    IMAGES.mkdir(exist_ok=True)
    for path in sorted((HERE / "results").glob("*.json")):
        result = json.loads(path.read_bytes())
        if "contenders" in result:
            _bars(result, IMAGES / f"{path.stem}.svg")
        elif path.stem == "growth":
            _curves(result, IMAGES / f"{path.stem}.svg")
        elif path.stem == "scaling":
            _scaling(result, IMAGES / f"{path.stem}.svg")


def _bars(result: dict[str, Any], path: Path) -> None:
    """A bar a contender, the fastest on top, with the slowest and the fastest round."""
    drawn = standings(result)[::-1]
    figure, axes = plt.subplots(figsize=(11, 1.4 + 0.34 * len(drawn)), layout="constrained")
    rates = [standing.tokens_per_second for standing in drawn]
    spread = [
        [rate - standing.slowest for rate, standing in zip(rates, drawn, strict=True)],
        [standing.fastest - rate for rate, standing in zip(rates, drawn, strict=True)],
    ]
    bars = axes.barh(
        [f"{standing.name}, {standing.precision}" for standing in drawn],
        rates,
        xerr=spread,
        color=[_color(standing) for standing in drawn],
        error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#444444"},
    )
    axes.bar_label(bars, labels=[_label(standing) for standing in drawn], padding=6, fontsize=9)
    axes.set_xlabel("tokens a second, padding not counted; median, and from the slowest to the fastest round")
    axes.margins(x=0.22, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{NAMES[result['model']]}, {_machine(result)}", loc="left")
    _save(figure, path)


def _color(standing: Standing) -> str:
    if standing.begins_with == "matrices":
        return LIMIT
    return OURS if standing.name.startswith("batchsent") else OTHERS


def _label(standing: Standing) -> str:
    share = standing.share_of_limit
    is_limit = standing.begins_with == "matrices"
    return f"{standing.tokens_per_second:,.0f}" + ("" if share is None or is_limit else f" ({share:.0%} of the limit)")


def _curves(result: dict[str, Any], path: Path) -> None:
    """A small picture an axis."""
    figure, grid = plt.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axes, (name, (title, across, up)) in zip(grid.flat, AXES.items(), strict=True):
        rows = result["axes"][name]
        positions = [row["x"] for row in rows]
        axes.plot(positions, [row["seconds"] for row in rows], "o-", color=OURS)
        if name == "resume":
            axes.plot(positions, [row["expected_seconds"] for row in rows], "--", color=OTHERS, label="its share")
            axes.legend(frameon=False)
        elif name in ("rows", "part_size", "labels", "text_length"):
            axes.set_xscale("log")
        if name == "rows":
            axes.set_yscale("log")
            _memory(axes.twinx(), rows)
        else:
            axes.set_ylim(bottom=0)
        axes.set(title=title, xlabel=across, ylabel=up)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_machine(result))
    _save(figure, path)


def _memory(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Of all processes, on a second scale."""
    axes.plot([row["x"] for row in rows], [row["peak_mb"] for row in rows], "s--", color=OTHERS)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("peak memory, MB (dashed)")
    axes.spines["top"].set_visible(False)


def _scaling(result: dict[str, Any], path: Path) -> None:
    """The simulated nights, each engine a line."""
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for engine, color, marker in (("ranks", OURS, "o"), ("ray", LIMIT, "s")):
        rows = [row for row in result["nights"] if row["engine"] == engine]
        axes.plot(
            [r["replicas"] for r in rows], [r["efficiency"] for r in rows], f"{marker}-", color=color, label=engine
        )
    axes.axhline(0.95, linestyle="--", color=OTHERS)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row["replicas"] for row in result["nights"]}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(0.7, 1.01)
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    axes.set(xlabel="replicas, one GPU each", ylabel="share of the time that a device computes")
    axes.set_title(f"{result['nights'][0]['rows']:,} reviews, simulated", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    _save(figure, path)


def _machine(result: dict[str, Any]) -> str:
    environment = result["environment"]
    where = result.get("gpu") or f"{environment['cores']} cores of {environment['cpu']}"
    return f"{where}, {environment['date']}"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
