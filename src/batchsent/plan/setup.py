"""What a run would work with, as a plan has settled it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchsent.config import ScoreConfig
from batchsent.identity import Identity
from batchsent.models.resolution import ModelSource
from batchsent.scoring import LoadModel


@dataclass(frozen=True)
class Setup:
    """The settings, and what they are tried on."""

    config: ScoreConfig
    identity: Identity
    device: str
    source: ModelSource
    check: Callable[[], None] = lambda: None
    """Called in between; may raise."""
    load_model: LoadModel | None = None
    """Stands in for the real model."""
