"""What the measured seconds say: the best setting, rates, the share of the limit, agreement. Knows no library."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from contenders import Probabilities, Setting

T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """One bar of the picture, one line of the table."""

    name: str
    precision: str
    begins_with: str
    setting: str
    tokens_per_second: float
    """At the median of its rounds."""
    slowest: float
    fastest: float
    reviews_per_second: float
    share_of_limit: float | None
    """Of the fastest matrix products in its precision; None where none were measured."""
    same_labels: float | None
    largest_difference: float | None


def result_name(device: str, model: str, *, int8_dot_products: bool | None = None) -> str:
    """Of the file and the picture of a run side by side.

    A CPU without the instructions that int8 needs is a field of its own, and takes nothing from the other's.
    """
    return f"{device}_{model}{'_without_int8' if device == 'cpu' and int8_dot_products is False else ''}"


def best_setting(tuning: Sequence[tuple[Setting, float]]) -> Setting:
    """The one that took the fewest seconds; of equal ones the first."""
    return min(tuning, key=lambda tried: tried[1])[0]


def rotated(contenders: Sequence[T], round_index: int) -> list[T]:
    """The order of a round: everybody once, a neighbour further on in every round."""
    start = round_index % max(1, len(contenders))
    return [*contenders[start:], *contenders[:start]]


def agreement(expected: Probabilities, found: Probabilities) -> dict[str, float]:
    """The share of texts with the same label, and the largest difference of a probability."""
    return {
        "same_labels": float((expected.argmax(axis=1) == found.argmax(axis=1)).mean()),
        "largest_difference": float(abs(expected - found).max()),
    }


def standings(result: dict[str, Any]) -> list[Standing]:
    """Everybody who was measured, the fastest first."""
    measured = [entry for entry in result["contenders"] if entry.get("seconds")]
    limits = limits_of(measured)
    found = []
    for entry in measured:
        limit = limits.get(_multiplied(entry["precision"]))
        found.append(_standing(entry, entry["name"], entry.get("scoring_seconds") or entry["seconds"], limit))
        if entry.get("scoring_seconds"):
            found.append(_standing(entry, f"{entry['name']}, whole process", entry["seconds"], limit))
    return sorted(found, key=lambda standing: -standing.tokens_per_second)


def absent(result: dict[str, Any]) -> list[str]:
    """Everybody who was not, and why."""
    return [
        f"{entry['name']}, {entry['precision']}: {entry['absent']}"
        for entry in result["contenders"]
        if entry.get("absent")
    ]


def limits_of(measured: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Precision → tokens a second of the fastest matrix products in it."""
    limits: dict[str, float] = {}
    for entry in measured:
        if entry["begins_with"] == "matrices":
            rate = entry["tokens"] / statistics.median(entry["seconds"])
            limits[entry["precision"]] = max(rate, limits.get(entry["precision"], 0.0))
    return limits


def _standing(entry: dict[str, Any], name: str, seconds: Sequence[float], limit: float | None) -> Standing:
    rate = entry["tokens"] / statistics.median(seconds)
    return Standing(
        name=name,
        precision=entry["precision"],
        begins_with=entry["begins_with"],
        setting=", ".join(_shown(key, value) for key, value in entry["setting"].items()),
        tokens_per_second=rate,
        slowest=entry["tokens"] / max(seconds),
        fastest=entry["tokens"] / min(seconds),
        reviews_per_second=entry["rows"] / statistics.median(seconds),
        share_of_limit=None if limit is None else rate / limit,
        same_labels=entry.get("same_labels"),
        largest_difference=entry.get("largest_difference"),
    )


def _multiplied(precision: str) -> str:
    """The precision of the matrix products in a model of ``precision``."""
    return "fp16" if precision == "fp16-weights" else precision


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    return f"{key.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{key.replace('_', ' ')} {value}"
