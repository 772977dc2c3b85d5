"""How confidences and lengths are distributed: counts over bins that never change, so that any two runs compare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Between the bins of ``probability``: finer where classifiers put most of their rows."""
LENGTH_EDGES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096, 8192)
"""Between the bins of ``token_count``: two for each doubling."""


def histogram(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """How many of ``values`` lie in each of len(edges) + 1 bins: up to the first edge, ..., above the last."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
