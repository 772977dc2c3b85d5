"""Who takes part in ``benchmarks/side_by_side.py``: one module a library, one value a contender.

Every module has ``load(task)``, which loads the model and returns ``ready``; ``ready(texts, setting)`` does what is not
timed and returns ``score``, the timed part. Nothing heavy is imported before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Setting = dict[str, Any]
"""What is tuned: the batch size, and whatever else a library leaves to its user."""
Probabilities = npt.NDArray[np.float32]
"""[texts, labels], in the order of the texts."""


@dataclass(frozen=True)
class Answer:
    """What one timed pass gave."""

    probabilities: Probabilities | None
    """None where nothing is classified: the matrix products alone."""
    scoring_seconds: float | None = None
    """Of a whole process: what is left of it when start-up is taken away."""


Score = Callable[[], Answer]
Ready = Callable[[Sequence[str], Setting], Score]


@dataclass(frozen=True)
class Task:
    """What a contender is asked to load."""

    model: Path
    """A directory as save_pretrained writes it."""
    precision: str
    device: str
    threads: int
    folder: Path
    """Where preparations left their files, and where scratch files may go."""
    variant: str = ""
    """Which of the things that a module can do."""

    @property
    def log(self) -> Path:
        """Where everything goes that the libraries print."""
        return self.folder / "contenders.log"


Begin = Literal["texts", "token ids", "Parquet", "matrices"]


@dataclass(frozen=True)
class Contender:
    """One line of the table."""

    name: str
    module: str
    """Where its ``load`` is."""
    precision: str
    begins_with: Begin
    """What lies in memory (or on disk) when the clock starts."""
    grid: tuple[Setting, ...]
    """The settings among which the tuning pass chooses."""
    packages: tuple[str, ...] = ()
    """Distributions that it needs besides the project's own."""
    preparations: tuple[str, ...] = ()
    """Conversions of the model that it needs, see ``preparation``."""
    variant: str = ""
    scores_pairs: bool = False
    """Whether it takes no single texts, so that each comes as a pair with nothing."""
    is_process: bool = False
    """Whether every turn is a process of its own. It gets more texts, so that it is not all start-up."""

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name}, {self.precision}"
