"""What an evaluation finds out, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from batchsent.evaluation.comparison import Comparison
from batchsent.evaluation.metrics import Metrics
from batchsent.evaluation.temperature import TemperatureFit


@dataclass(frozen=True)
class Rows:
    """Which records count: all models are judged by the same ones."""

    record_count: int
    judged_count: int
    rejected_count: int
    """Records that at least one model did not score."""
    reject_counts: dict[str, int]
    """Why; where models differ, the largest number."""
    unlabelled_count: int
    dropped_count: int
    """Records whose value no ``--map`` names."""
    dropped_values: dict[str, int]
    """Value → records; empty where there are too many of them to be labels."""


@dataclass(frozen=True)
class Setting:
    """How a model was computed."""

    model: str
    version: str
    """The commit, or the hash over the model's file hashes."""
    task: str
    device: str
    backend: str
    precision: str
    batching: str
    max_length: int
    long_text: str
    asked: str | None
    """The prompt and its words; None where a classification head answers."""
    temperature: float | None


@dataclass(frozen=True)
class WorstError:
    """A row on which the model is wrong, and sure of it."""

    shard: str
    row_index: int
    truth: str
    label: str
    probability: float
    """Of ``label``; where a text may have several, of the decision that is furthest from the truth."""
    review: str


@dataclass(frozen=True)
class ModelEvaluation:
    """One model."""

    name: str
    setting: Setting
    meanings: dict[str, str]
    """Value of the label column → the model's label."""
    value_counts: dict[str, int]
    """Value of the label column → judged records."""
    multi_label: bool
    rows_per_second: float
    """Records per second of scoring; loading the model is left out."""
    tokens_per_second: float
    """Tokens that went through the model; padding and repeated texts are not counted."""
    metrics: Metrics
    worst: tuple[WorstError, ...]
    """The surest first."""


@dataclass(frozen=True)
class Evaluation:
    """All models on the same rows, and what came of ``--calibrate``."""

    inputs: tuple[str, ...]
    label_column: str
    rows: Rows
    models: tuple[ModelEvaluation, ...]
    comparisons: tuple[Comparison, ...]
    temperature: TemperatureFit | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all but the worst errors, which quote reviews."""
        content = asdict(self)
        for model in content["models"]:
            del model["worst"]
        return content
