"""Every learning rate with every batch size: what is tried, what came of it, which is the best."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from batchsent.training.metrics import choosing_metric

SECONDS = "elapsed_seconds"
"""In the history of a training: how long it has taken so far, earlier runs included."""


@dataclass(frozen=True)
class Point:
    """One training of a grid."""

    learning_rate: float
    batch_size: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lr-{self.learning_rate:g}_batch-{self.batch_size}"

    @property
    def title(self) -> str:
        """For people."""
        return f"learning rate {self.learning_rate:g}, batches of {self.batch_size}"


def points(learning_rates: Iterable[float], batch_sizes: Iterable[int]) -> list[Point]:
    """Every pair, in the order given."""
    return [Point(rate, size) for rate, size in product(learning_rates, batch_sizes)]


@dataclass(frozen=True)
class Result:
    """What a training came to: of its evaluations, the best."""

    point: Point
    step: int
    epoch: float
    metrics: dict[str, Any]
    """As ``metrics.measure`` gives them, and the loss."""
    history: list[dict[str, Any]]
    """Of losses and metrics, as the Trainer logged them."""
    seconds: float

    @property
    def checkpoint(self) -> str:
        """Name of the folder with its weights."""
        return f"checkpoint-{self.step}"

    @property
    def is_finite(self) -> bool:
        """Whether the model computes numbers."""
        return math.isfinite(self.metrics["loss"])

    def to_json(self) -> bytes:
        """The bytes of ``result.json``."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Result:
        """Inverse of :meth:`to_json`. Raises ValueError, TypeError or KeyError if it is not one of ours."""
        values = json.loads(data)
        return cls(**values | {"point": Point(**values["point"])})


def result_of(point: Point, history: list[dict[str, Any]], seconds: float | None, multi_label: bool) -> Result:
    """What the ``history`` of a training says: the first of its best evaluations is the one that the Trainer kept."""
    metric = f"eval_{choosing_metric(multi_label)}"
    evaluations = [entry for entry in history if metric in entry]
    best = max(evaluations, key=lambda entry: entry[metric])
    timings = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
    metrics = {
        name.removeprefix("eval_"): value
        for name, value in best.items()
        if name.startswith("eval_") and name not in timings
    }
    if seconds is None:
        seconds = max((entry[SECONDS] for entry in history if SECONDS in entry), default=0.0)
    return Result(point, best["step"], best["epoch"], metrics, history, round(seconds, 1))


def best_of(results: Sequence[Result], multi_label: bool) -> Result:
    """The highest metric; of equal ones, the lower loss, then the first."""
    metric = choosing_metric(multi_label)

    def rank(result: Result) -> tuple[bool, float, float]:
        loss = result.metrics["loss"]
        return result.is_finite, result.metrics[metric], -loss if result.is_finite else -math.inf

    return max(results, key=rank)


_COLUMNS = ("learning rate", "batch size", "accuracy", "loss", "epoch", "seconds")


def table(results: Sequence[Result], multi_label: bool) -> list[tuple[str, ...]]:
    """A header and a row for each training, as text."""
    metric = choosing_metric(multi_label)
    header = tuple(metric.replace("_", " ") if name == "accuracy" else name for name in _COLUMNS)
    rows = [
        (
            f"{r.point.learning_rate:g}",
            str(r.point.batch_size),
            f"{r.metrics[metric]:.4f}",
            f"{r.metrics['loss']:.4f}",
            f"{r.epoch:.2f}",
            f"{r.seconds:.0f}",
        )
        for r in results
    ]
    return [header, *rows]


def csv_of(results: Sequence[Result], multi_label: bool) -> bytes:
    """The same as CSV, with names for columns that need no quotes."""
    header, *rows = table(results, multi_label)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.replace(" ", "_") for name in header])
    writer.writerows(rows)
    return text.getvalue().encode()
