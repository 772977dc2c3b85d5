"""The new model and the one in the package on the same texts, and whether the new one is better by the rule."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchsent.evaluation.config import EvaluateConfig, scoring_config
from batchsent.evaluation.results import Evaluation
from batchsent.evaluation.run import evaluate
from batchsent.models.resolution import EMBEDDED, EMBEDDED_DIRECTORY, sha256_of
from batchsent.models.weights import WEIGHTS
from batchsent.options import AUTO, Auto
from batchsent.reporting.progress import choose_progress
from batchsent.stop import StopSignal

EXAMPLES = Path(__file__).parents[2] / "examples/reviews"
SHIPPED = Path(__file__).parent / "shipped.toml"


@dataclass(frozen=True)
class Trial:
    """Texts that the new model was not trained on, and that did not choose the state of it that was kept."""

    name: str
    title: str
    texts: Path
    label_column: str = "label"
    maps: tuple[str, ...] = ()
    max_length: int | Auto = AUTO
    least_gain: float | None = None
    """In accuracy, for the rule; None where it does not ask for one."""


def trials(folder: Path) -> list[Trial]:
    """What stands in the card, in that order. ``folder`` holds the prepared texts."""
    reviews = folder / "imdb-test.parquet"
    stars = ("1,2=NEGATIVE", "4,5=POSITIVE")
    return [
        Trial("sst2-dev", "SST-2 dev", folder / "sst2-dev.parquet", least_gain=0.005),
        Trial("imdb", "held-out IMDb reviews", reviews, least_gain=0.0),
        Trial("imdb-128", "held-out IMDb reviews", reviews, max_length=128, least_gain=0.0),
        # Most dumps are a shop's, and nothing of the kind was trained on.
        Trial("clothing", "shop reviews of clothes", folder / "clothing-test.parquet", least_gain=0.0),
        Trial("examples", "example reviews, by their stars", EXAMPLES, label_column="stars", maps=stars),
    ]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    trial: Trial
    row_count: int
    max_length: int
    accuracy: float
    calibration_error: float
    shipped_accuracy: float
    """Of the model in the package."""
    unseen_accuracy: float | None
    """The same on others of these texts, where the model in the package was trained on most of them."""
    p_value: float
    """Of McNemar's test between the two."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.trial.title}, {self.max_length} tokens"

    @property
    def gain(self) -> float:
        """In accuracy, over what the model in the package gets right of texts that are new to it."""
        return self.accuracy - (self.shipped_accuracy if self.unseen_accuracy is None else self.unseen_accuracy)

    @property
    def meets_rule(self) -> bool:
        """Whether it speaks for the new model, or is not asked."""
        return self.trial.least_gain is None or self.gain >= self.trial.least_gain


@dataclass(frozen=True)
class Circumstances:
    """How to compute, and how much of it."""

    device: str
    limit: int | None
    progress: str


def outcome_of(trial: Trial, model: Path, folder: Path, circumstances: Circumstances, stop: StopSignal) -> Outcome:
    """Evaluate ``model`` beside the one in the package; everything about it goes into ``folder``, too."""
    scoring = scoring_config(
        (str(trial.texts),),
        max_length=trial.max_length,
        precision="fp32",  # what the weights are worth, not what this machine is fast with
        backend="torch",
        batching="padded",
        device=circumstances.device,
        limit=circumstances.limit,
        progress=circumstances.progress,
    )
    config = EvaluateConfig(
        scoring=scoring,
        label_column=trial.label_column,
        models=(EMBEDDED, str(model)),
        maps=trial.maps,
        output=str(folder / trial.name),
    )
    found = evaluate(config, make_progress=lambda: choose_progress(circumstances.progress), stop=stop)
    return _outcome(trial, found, unseen_accuracies(shipped_sha256()).get(trial.name))


def _outcome(trial: Trial, found: Evaluation, unseen_accuracy: float | None) -> Outcome:
    shipped, model = found.models
    (comparison,) = found.comparisons
    return Outcome(
        trial=trial,
        row_count=model.metrics.row_count,
        max_length=model.setting.max_length,
        accuracy=model.metrics.accuracy,
        calibration_error=model.metrics.calibration_error,
        shipped_accuracy=shipped.metrics.accuracy,
        unseen_accuracy=unseen_accuracy,
        p_value=comparison.p_value,
    )


def shipped_sha256() -> str:
    """Of the weights in the package."""
    return sha256_of(str(EMBEDDED_DIRECTORY / WEIGHTS))


def unseen_accuracies(weights_sha256: str) -> dict[str, float]:
    """Name of a trial → what is recorded of the model with these weights, on texts that it was not trained on."""
    recorded = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return recorded["accuracy"] if recorded["weights-sha256"] == weights_sha256 else {}


def rule(outcomes: Sequence[Outcome]) -> str:
    """The rule in words."""
    asked = [(outcome.name, outcome.trial.least_gain) for outcome in outcomes if outcome.trial.least_gain is not None]
    return ", ".join(f"{100 * gain:+.1f} points on {name}" if gain else f"no loss on {name}" for name, gain in asked)


def missed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those by which the rule says that the model in the package stays; none where the new one takes its place."""
    return [outcome for outcome in outcomes if not outcome.meets_rule]
