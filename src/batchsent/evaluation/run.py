"""``batchsent evaluate``, whole: every model scores the input as ``score`` does, then the answers are judged.

label column → models → score, each into a folder that goes again → the rows that all have scored → metrics
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchsent.evaluation import files
from batchsent.evaluation.config import EvaluateConfig
from batchsent.evaluation.contenders import contenders, ids_of
from batchsent.evaluation.judging import Run, judge
from batchsent.evaluation.labels import truths
from batchsent.evaluation.reading import label_cells, read_scored
from batchsent.evaluation.results import Evaluation
from batchsent.job import run_job
from batchsent.reporting.progress import NoProgress, Progress
from batchsent.stop import StopSignal


def evaluate(
    config: EvaluateConfig, *, make_progress: Callable[[], Progress] = NoProgress, stop: StopSignal | None = None
) -> Evaluation:
    """Judge the models of ``config``, and write what it asks for. Raises BatchsentError."""
    stop = stop or StopSignal()
    models = contenders(config)
    cells = label_cells(models[0].scoring, config.label_column, stop.check)
    for model in models:  # before the first of them computes for an hour
        ids, answers = ids_of(model, cells, config), model.answers
        truths(list(cells), ids, label_count=len(answers.labels), multi_label=answers.multi_label)
    files.require_places(config)
    with tempfile.TemporaryDirectory(prefix="batchsent-evaluate-") as folder:
        runs = []
        for index, model in enumerate(models):
            directory = Path(folder, str(index))
            report = run_job(replace(model.scoring, output=str(directory)), progress=make_progress(), stop=stop)
            runs.append(Run(model, report, read_scored(directory)))
    evaluation = judge(runs, config, stop.check)
    files.write(evaluation, config)
    return evaluation
