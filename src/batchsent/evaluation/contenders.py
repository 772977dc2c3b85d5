"""The models that are asked for, and how each of them is scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from batchsent.calibration import read_calibration, temperature_of
from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.evaluation.config import EvaluateConfig
from batchsent.evaluation.labels import label_ids
from batchsent.evaluation.reading import kept_columns
from batchsent.labels import Cell, parse_map, values_of
from batchsent.models.families import CLASSIFICATION, Answers, task_of
from batchsent.models.resolution import ModelSource, resolve_model, sha256_of
from batchsent.resolve import answers_to


@dataclass(frozen=True)
class Contender:
    """A model that takes part."""

    name: str
    """Its own, or where two have the same, as it was asked for."""
    answers: Answers
    scoring: ScoreConfig
    """All but its output."""


def contenders(config: EvaluateConfig) -> list[Contender]:
    """The models of ``config``, in that order. Raises ModelError or UsageError if one cannot be scored like that."""
    sources = [resolve_model(name, config.scoring.revision, sha256_of) for name in config.models]
    if len(sources) > 1:
        scorings = [_suited(config.scoring, source) for source in sources]
        _require_use(config.scoring, scorings, sources)
    else:
        scorings = [config.scoring]
    counts = Counter(source.name for source in sources)
    found = []
    for asked, source, scoring in zip(config.models, sources, scorings, strict=True):
        answers = answers_to(scoring, source)
        temperature_of(scoring.calibration, source.version, _asked(answers))
        name = source.name if counts[source.name] == 1 else asked
        found.append(Contender(name, answers, replace(scoring, model=asked)))
    # The rows are the same for all, so that the texts need be kept once.
    texts = [config.scoring.text_column, *[None] * (len(found) - 1)]
    return [_keeping(contender, config.label_column, text) for contender, text in zip(found, texts, strict=True)]


def _keeping(contender: Contender, label_column: str, text_column: str | None) -> Contender:
    kept = kept_columns(label_column, text_column)
    return replace(contender, scoring=replace(contender.scoring, keep=kept, keep_all=False, label_column=None))


def _suited(scoring: ScoreConfig, source: ModelSource) -> ScoreConfig:
    """``scoring`` without what is meant for another model than this one of several."""
    if task_of(source.directory, scoring.task) == CLASSIFICATION:
        scoring = replace(scoring, prompt=None, verbalizer=(), calibrate_prompt=False)
    if scoring.calibration and read_calibration(scoring.calibration).model_version != source.version:
        scoring = replace(scoring, calibration=None)
    return scoring


def _require_use(asked: ScoreConfig, scorings: list[ScoreConfig], sources: list[ModelSource]) -> None:
    """Raise UsageError if an option is meant for none of the models."""
    for name in ("prompt", "verbalizer", "calibrate_prompt"):
        if getattr(asked, name) and not any(getattr(scoring, name) for scoring in scorings):
            raise UsageError(
                f"--{name.replace('_', '-')}, and every model has a classification head",
                "a model that is asked by a prompt",
                "leave it out, or name one",
            )
    if asked.calibration and not any(scoring.calibration for scoring in scorings):
        temperature_of(asked.calibration, sources[0].version, None)


def _asked(answers: Answers) -> str | None:
    return answers.prompt.description if answers.prompt else None


def ids_of(contender: Contender, cells: set[Cell], config: EvaluateConfig) -> dict[str, int]:
    """Value of the label column → index of the model's label. Raises UsageError if the column holds something else."""
    found = {value for cell in cells for value in values_of(cell, multi_label=contender.answers.multi_label) or ()}
    if not found:
        raise UsageError(
            f"no record has a label in column {config.label_column!r}", "labelled records", "check --label-column"
        )
    return label_ids(
        found, contender.answers.labels, parse_map(config.maps), column=config.label_column, model=contender.name
    )
