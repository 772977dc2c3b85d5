"""Scored rows and their labels → metrics: which rows count, what was true of them, and the worst errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
import numpy.typing as npt

from batchsent.calibration import asked_by
from batchsent.errors import UsageError, without_secrets
from batchsent.evaluation.comparison import compare
from batchsent.evaluation.config import EvaluateConfig
from batchsent.evaluation.contenders import Contender, ids_of
from batchsent.evaluation.labels import QUOTED_VALUES, truths
from batchsent.evaluation.metrics import measure
from batchsent.evaluation.outcomes import Ints, Outcomes
from batchsent.evaluation.reading import Scored
from batchsent.evaluation.results import Evaluation, ModelEvaluation, Rows, Setting, WorstError
from batchsent.evaluation.temperature import fit_temperature
from batchsent.labels import SEPARATOR, Cell, values_of
from batchsent.reporting.run_report import RunReport

Places = npt.NDArray[np.int64]
"""[rows]: where the rows that are judged lie in what a run has scored."""


@dataclass(frozen=True)
class Run:
    """A model, and what became of its run."""

    contender: Contender
    report: RunReport
    scored: Scored


@dataclass(frozen=True)
class _Judged:
    """A run, cut down to the rows by which all models are judged."""

    run: Run
    places: Places
    meanings: dict[str, int]
    """Value of the label column → index of the label."""
    outcomes: Outcomes


def judge(runs: list[Run], config: EvaluateConfig, check: Callable[[], None]) -> Evaluation:
    """Everything about ``runs``, which are of one input. ``check`` is called in between, and may raise."""
    rows, cells, judged = _on_the_same_rows(runs, config)
    models = []
    for one in judged:
        check()
        # The first run has the texts, for all of them.
        worst = _worst(one.outcomes, runs[0].scored, judged[0].places, config.worst)
        models.append(_evaluated(one, cells, worst))
    return Evaluation(
        inputs=tuple(map(without_secrets, config.scoring.inputs)),
        label_column=config.label_column,
        rows=rows,
        models=tuple(models),
        comparisons=tuple(
            compare(a.run.contender.name, a.outcomes.is_right, b.run.contender.name, b.outcomes.is_right)
            for a, b in combinations(judged, 2)
        ),
        temperature=fit_temperature(judged[0].outcomes) if config.calibrate else None,
    )


def _on_the_same_rows(runs: list[Run], config: EvaluateConfig) -> tuple[Rows, list[Cell], list[_Judged]]:
    """The rows that every model has scored and whose labels are known: how many, their labels, each run's answers."""
    common = reduce(np.intersect1d, [run.scored.keys for run in runs])
    places = [np.searchsorted(run.scored.keys, common) for run in runs]
    cells = [runs[0].scored.cells[place] for place in places[0].tolist()]
    _require_some(len(cells), runs)
    meanings = [ids_of(run.contender, set(cells), config) for run in runs]
    found, known = [], np.ones(len(cells), np.bool_)
    for run, ids in zip(runs, meanings, strict=True):
        answers = run.contender.answers
        truth, is_known = truths(cells, ids, label_count=len(answers.labels), multi_label=answers.multi_label)
        found.append(truth)
        known &= is_known
    _require_some(int(known.sum()), runs)
    left_out = [cells[row] for row in np.flatnonzero(~known).tolist()]
    rows = _rows([run.scored for run in runs], left_out, int(known.sum()))
    judged = [
        _Judged(run, place[known], ids, _outcomes(run, truth[known], place[known]))
        for run, place, ids, truth in zip(runs, places, meanings, found, strict=True)
    ]
    return rows, [cells[row] for row in np.flatnonzero(known).tolist()], judged


def _require_some(row_count: int, runs: list[Run]) -> None:
    if not row_count:
        raise UsageError(
            f"none of {runs[0].scored.record_count:,} records was scored and has a label that counts",
            "labelled records",
            "check --label-column, --text-column and --map",
        )


def _outcomes(run: Run, truth: Ints, places: Places) -> Outcomes:
    answers = run.contender.answers
    probabilities = run.scored.probabilities[places].astype(np.float64)
    if not answers.multi_label:  # float32 leaves a sum that is not quite 1
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Outcomes(answers.labels, answers.multi_label, truth, probabilities)


def _rows(scored: list[Scored], left_out: list[Cell], judged_count: int) -> Rows:
    reasons: dict[str, int] = {}
    for one in scored:
        for reason, count in one.reject_counts.items():
            reasons[reason] = max(count, reasons.get(reason, 0))
    dropped = Counter(cell if isinstance(cell, str) else SEPARATOR.join(cell) for cell in left_out if cell)
    record_count = scored[0].record_count
    return Rows(
        record_count=record_count,
        judged_count=judged_count,
        rejected_count=record_count - judged_count - len(left_out),
        reject_counts=reasons,
        unlabelled_count=len(left_out) - dropped.total(),
        dropped_count=dropped.total(),
        dropped_values=dict(sorted(dropped.items())) if len(dropped) <= QUOTED_VALUES else {},
    )


def _evaluated(judged: _Judged, cells: list[Cell], worst: tuple[WorstError, ...]) -> ModelEvaluation:
    report, identity, outcomes = judged.run.report, judged.run.scored.identity, judged.outcomes
    counts = Counter(value for cell in cells for value in values_of(cell, multi_label=outcomes.multi_label) or ())
    seconds = report.scoring_seconds
    return ModelEvaluation(
        name=judged.run.contender.name,
        setting=Setting(
            model=identity.model,
            version=identity.model_version,
            task=identity.task,
            device=report.device,
            backend=identity.backend,
            precision=identity.precision,
            batching=identity.batching,
            max_length=identity.max_length,
            long_text=identity.long_text,
            asked=asked_by(identity.prompt, identity.verbalizers, is_calibrated=identity.calibrate_prompt),
            temperature=identity.temperature,
        ),
        meanings={value: outcomes.labels[index] for value, index in sorted(judged.meanings.items())},
        value_counts=dict(sorted(counts.items())),
        multi_label=outcomes.multi_label,
        rows_per_second=report.rows_per_second,
        tokens_per_second=report.token_count / seconds if seconds else 0.0,
        metrics=measure(outcomes),
        worst=worst,
    )


def _worst(outcomes: Outcomes, scored: Scored, places: Places, count: int) -> tuple[WorstError, ...]:
    """The errors of which the model is surest; ``places`` [rows] are theirs in ``scored``, which has the texts."""
    wrong = np.flatnonzero(~outcomes.is_right)
    order = np.argsort(-outcomes.confidence[wrong], kind="stable")[:count]
    errors = []
    for row in wrong[order].tolist():
        place = int(places[row])
        shard, row_index = scored.place(place)
        errors.append(
            WorstError(
                shard=shard,
                row_index=row_index,
                truth=_named(outcomes, outcomes.truth, row),
                label=_named(outcomes, outcomes.predicted, row),
                probability=float(outcomes.confidence[row]),
                review=scored.reviews[place].as_py() if scored.reviews is not None else "",
            )
        )
    return tuple(errors)


def _named(outcomes: Outcomes, label_ids: Ints, row: int) -> str:
    if outcomes.multi_label:
        return SEPARATOR.join(outcomes.labels[index] for index in np.flatnonzero(label_ids[row]).tolist())
    return outcomes.labels[int(label_ids[row])]
