"""What the user asks of ``batchsent evaluate``, as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.labels import parse_map


def scoring_config(inputs: tuple[str, ...], **options: Any) -> ScoreConfig:
    """How to score for an evaluation: into a folder of its own, and however many records are rejected."""
    return ScoreConfig(inputs=inputs, output="-", max_reject_rate=1.0, **options)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to judge, by which truth, and where to write it."""

    scoring: ScoreConfig
    """Of :func:`scoring_config`: what its options mean for ``score``; its model and kept columns do not count."""
    label_column: str
    models: tuple[str, ...] = ("embedded",)
    """Each as ``--model`` of ``score`` takes it."""
    maps: tuple[str, ...] = ()
    """VALUES=LABEL, such as '4,5=POSITIVE'; where there is one, rows with another value are left out."""
    calibrate: str | None = None
    """Where to write the temperature that fits these rows."""
    output: str | None = None
    """Directory of evaluation.json, the worst errors and the pictures."""
    worst: int = 10
    """How many errors to list for each model."""

    def __post_init__(self) -> None:
        if not self.label_column:
            raise UsageError("no label column was given", "--label-column NAME", "name the column with the true labels")
        if self.label_column == self.scoring.text_column:
            raise UsageError(
                f"column {self.label_column!r} as text and as label",
                "two columns",
                "pass --text-column or --label-column",
            )
        if not self.models:
            raise UsageError("no model was given", "--model ID_OR_DIR", "name at least one")
        if twice := next((name for name in self.models if self.models.count(name) > 1), None):
            raise UsageError(f"--model {twice} is given twice", "each model once", "drop one")
        if self.scoring.revision is not None and len(self.models) > 1:
            raise UsageError("--revision with several models", "one model", "evaluate them one at a time")
        if isinstance(self.worst, bool) or not isinstance(self.worst, int) or self.worst < 0:
            raise UsageError(f"--worst is {self.worst!r}", "a whole number, at least 0", "choose another")
        parse_map(self.maps)
        if self.calibrate is not None:
            self._require_calibratable()

    def _require_calibratable(self) -> None:
        if not self.calibrate:
            raise UsageError("--calibrate has no name of a file", "--calibrate FILE", "name one")
        if len(self.models) > 1:
            raise UsageError("--calibrate with several models", "one model", "fit a temperature to each by itself")
        if self.scoring.long_text == "window":
            # The temperature acts on a window's logits, which only the combined probabilities are known of.
            raise UsageError("--calibrate with --long-text window", "one window a text", "leave one of them out")
        if self.scoring.calibration is not None:
            raise UsageError(
                "--calibrate with --calibration", "the model's own probabilities to fit to", "leave one of them out"
            )
