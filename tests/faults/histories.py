"""Runs that change DIR in every way that there is: its first, and those that replace what an earlier one published."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from faults.system_calls import Call, Trace, intercept
from support import write_csv

NAMES = ("fresh", "changed", "restart", "damaged", "finished")


class Score(Protocol):
    """Runs the job until it has published."""

    def __call__(self, source: Path, /, *, output: Path, **options: Any) -> object: ...


@dataclass(frozen=True)
class History:
    """A run, what it finds, and what DIR has to hold when it is done."""

    source: Path
    whole: Path
    """DIR of a run on nothing with the same input and options."""
    options: dict[str, Any] = field(default_factory=dict)
    earlier: Path | None = None
    """Input of the run before."""
    damaged: str | None = None
    """An output that has lost its last byte since."""

    def begin(self, score: Score, output: Path) -> None:
        """Make ``output`` what the run finds."""
        shutil.rmtree(output, ignore_errors=True)
        if self.earlier is not None:
            score(self.earlier, output=output)
        if self.damaged is not None:
            path = output / self.damaged
            path.write_bytes(path.read_bytes()[:-1])

    def calls(self, score: Score, output: Path) -> list[Call]:
        """What the run does when nothing happens to it."""
        self.begin(score, output)
        trace = Trace()
        with pytest.MonkeyPatch.context() as patch:
            intercept(trace, patch.setattr)
            score(self.source, output=output, **self.options)
        return trace.calls


def make(name: str, score: Score, folder: Path, texts: list[str]) -> History:
    """One of NAMES, with its files in ``folder``."""
    third = len(texts) // 3
    shards = {"r.csv": ["", *texts[:third]], "sub/deep/s.csv": texts[third : third + 6], "t.csv": texts[2 * third :]}
    # One shard has other content, one is gone and leaves folders with no output in them, one is kept.
    changed = {"r.csv": shards["r.csv"][::-1], "t.csv": shards["t.csv"]}
    earlier, source, whole = folder / "earlier", folder / "in", folder / "whole"
    for path, content in shards.items():
        write_csv(earlier / path, content)
    for path, content in (changed if name in ("changed", "restart") else shards).items():
        write_csv(source / path, content)
    options = {"max_length": 16} if name == "restart" else {}
    score(source, output=whole, **options)
    return History(
        source,
        whole,
        options | ({"restart": True} if name == "restart" else {}),
        None if name == "fresh" else earlier,
        "t.parquet" if name == "damaged" else None,
    )
