"""What was true of each row and what a model said of it: what every metric is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

THRESHOLD = 0.5
"""From which probability on a label holds, where a text may have several."""


@dataclass(frozen=True)
class Outcomes:
    """Rows that were scored and whose truth is known, in input order."""

    labels: tuple[str, ...]
    """In the model's order."""
    multi_label: bool
    truth: Ints
    """[rows] indices into ``labels``; [rows, labels] of 0 and 1 where a text may have several."""
    probabilities: Floats
    """[rows, labels]"""

    @cached_property
    def predicted(self) -> Ints:
        """As ``truth``."""
        if self.multi_label:
            return (self.probabilities >= THRESHOLD).astype(np.int64)
        most_probable: Ints = self.probabilities.argmax(axis=1)
        return most_probable

    @cached_property
    def is_right(self) -> Flags:
        """[rows]: the label, or every one of them."""
        same: Flags = (self.predicted == self.truth).reshape(len(self.truth), -1).all(axis=1)
        return same

    @cached_property
    def confidence(self) -> Floats:
        """[rows]: probability of the label; of several, of the decision that is furthest from the truth."""
        chosen = self.predicted
        if self.multi_label:
            chosen = np.abs(self.truth - self.probabilities).argmax(axis=1)
        probability: Floats = self.probabilities[np.arange(len(chosen)), chosen]
        return np.maximum(probability, 1 - probability) if self.multi_label else probability

    def holds(self, label_id: int) -> tuple[Flags, Flags, Floats]:
        """[rows] each: whether a label holds, whether the model says so, its probability."""
        if self.multi_label:
            truth, predicted = self.truth[:, label_id] == 1, self.predicted[:, label_id] == 1
        else:
            truth, predicted = self.truth == label_id, self.predicted == label_id
        return truth, predicted, self.probabilities[:, label_id]

    @property
    def occurring(self) -> list[int]:
        """Labels that are the truth or the answer of some row."""
        flags = (self.holds(label_id)[:2] for label_id in range(len(self.labels)))
        return [label_id for label_id, (truth, predicted) in enumerate(flags) if truth.any() or predicted.any()]

    def decisions(self) -> tuple[Ints, Floats]:
        """[decisions] which alternative is true, and [decisions, alternatives] their probabilities.

        A row is one decision between all labels; where a text may have several, each label of it is one of its own.
        """
        if not self.multi_label:
            return self.truth, self.probabilities
        flat = self.probabilities.ravel()
        return self.truth.ravel(), np.column_stack([1 - flat, flat])
