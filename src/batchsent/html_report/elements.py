"""What sections consist of, and how numbers are written in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LABELS_SHOWN = 30

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Figure:
    """A picture, what it shows, and the same as a table."""

    title: str
    svg: str
    note: str
    header: tuple[str, ...]
    rows: Rows


def percent(part: int, whole: int) -> str:
    """A share; one that is not nothing does not look like it."""
    if not whole or not part:
        return "0%" if whole else "–"
    share = part / whole
    if share < 0.001:
        return "< 0.1%"
    return "> 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def moment(iso: str) -> str:
    """A time of ISO 8601 as people write it; what is none stays as it is."""
    return f"{iso[:10]} {iso[11:16]} UTC" if iso[10:11] == "T" and iso.endswith("+00:00") else iso
