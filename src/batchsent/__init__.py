"""Score dumps of reviews with pretrained language models; resumable, and no row lost.

    import batchsent
    report = batchsent.score("reviews.csv", output="scored", keep=["review_id"])
    evaluation = batchsent.evaluate("labelled.csv", label_column="sentiment")

Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

import os
from os import PathLike
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["score", "evaluate"]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchsent.evaluation.results import Evaluation
    from batchsent.reporting.run_report import RunReport


def score(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]], *, output: str | PathLike[str], **options: Any
) -> RunReport:
    """Score ``inputs`` into the directory ``output``; returns what happened.

    ``options`` are those of ``batchsent score`` with underscores (see :class:`batchsent.config.ScoreConfig`).
    Under torchrun it scores its rank's share, as the command does. Raises a
    :class:`batchsent.errors.BatchsentError`; its ``exit_code`` is what the command would return.
    """
    from batchsent.config import ScoreConfig
    from batchsent.html_report.run import run_reported
    from batchsent.shares import share_from

    config = ScoreConfig(inputs=_names(inputs), output=str(output), **_frozen(options))
    return run_reported(config, share=share_from(os.environ))


def evaluate(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]],
    *,
    label_column: str,
    models: Iterable[str] = ("embedded",),
    maps: Iterable[str] = (),
    calibrate: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    worst: int = 10,
    **options: Any,
) -> Evaluation:
    """Judge ``models`` on labelled ``inputs``; returns their metrics, writes what ``output`` and ``calibrate`` name.

    ``maps`` are those of ``--map``, such as "4,5=POSITIVE"; ``options`` are those that ``batchsent evaluate`` shares
    with ``score``. Raises as :func:`score`.
    """
    from batchsent.evaluation.config import EvaluateConfig, scoring_config
    from batchsent.evaluation.run import evaluate

    config = EvaluateConfig(
        scoring=scoring_config(_names(inputs), **_frozen(options)),
        label_column=label_column,
        models=_names(models),
        maps=_names(maps),
        calibrate=None if calibrate is None else str(calibrate),
        output=None if output is None else str(output),
        worst=worst,
    )
    return evaluate(config)


def _names(given: str | PathLike[str] | Iterable[str | PathLike[str]]) -> tuple[str, ...]:
    return (str(given),) if isinstance(given, str | PathLike) else tuple(map(str, given))


def _frozen(options: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
