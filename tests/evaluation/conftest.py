"""Fixtures of the tests of ``batchsent evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsent.cli import main
from batchsent.evaluation import judging, metrics
from batchsent.evaluation.config import EvaluateConfig, scoring_config
from batchsent.evaluation.outcomes import Outcomes
from batchsent.evaluation.results import Evaluation
from batchsent.evaluation.run import evaluate
from batchsent.reporting.run_report import RunReport
from support import rows, write_csv
from writers import make_t5

Evaluate = Callable[..., Evaluation]
Cli = Callable[..., tuple[int, str, str]]
Labelled = Callable[..., Path]

PLAIN: dict[str, Any] = {"precision": "fp32", "threads": 1, "device": "cpu", "backend": "torch"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals have a test of their own; a thousand resamples are seconds."""
    monkeypatch.setattr(judging, "measure", partial(metrics.measure, resample_count=20))


@pytest.fixture
def judge(tiny_model: Path) -> Evaluate:
    """evaluate() with the tiny model, fp32 and one thread, unless told otherwise."""

    def run(*inputs: Path | str, label_column: str = "gold", **options: Any) -> Evaluation:
        own = {name: options.pop(name) for name in ("maps", "calibrate", "output", "worst") if name in options}
        models = tuple(map(str, options.pop("models", (tiny_model,))))
        scoring = scoring_config(tuple(map(str, inputs)), **{**PLAIN, **options})
        own = {name: str(value) if isinstance(value, Path) else value for name, value in own.items()}
        return evaluate(EvaluateConfig(scoring=scoring, label_column=label_column, models=models, **own))

    return run


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """``batchsent evaluate`` in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()  # what was logged before is not the command's
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture
def labelled(score: Callable[..., RunReport], reviews: Callable[[int], list[str]], tmp_path: Path) -> Labelled:
    """A CSV of reviews whose column 'gold' holds what the tiny model answers, but for every ``wrong_every``-th row."""

    def make(count: int = 60, wrong_every: int = 4, name: str = "labelled.csv") -> Path:
        texts = reviews(count)
        score(write_csv(tmp_path / "plain" / name, texts), output=tmp_path / "answers")
        answers = [row["label"] for row in rows((tmp_path / "answers" / name).with_suffix(".parquet"))]
        other = {"NEGATIVE": "POSITIVE", "POSITIVE": "NEGATIVE"}
        gold = [other[answer] if index % wrong_every == 0 else answer for index, answer in enumerate(answers)]
        return write_csv(tmp_path / "in" / name, texts, gold=gold)

    return make


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 that is asked by a prompt."""
    return make_t5(tmp_path_factory.mktemp("writers") / "tiny-t5")


def outcomes_of(truth: Any, probabilities: Any, *, labels: tuple[str, ...] = (), multi_label: bool = False) -> Outcomes:
    """From lists; labels are A, B, C, ... if not given."""
    found = np.array(probabilities, np.float64)
    names = labels or tuple(chr(ord("A") + index) for index in range(found.shape[1]))
    return Outcomes(names, multi_label, np.array(truth, np.int64), found)
