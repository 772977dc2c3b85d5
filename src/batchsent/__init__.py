"""Score dumps of reviews with pretrained language models; resumable, and no row lost.

    import batchsent
    report = batchsent.score("reviews.csv", output="scored", keep=["review_id"])

Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["score"]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchsent.reporting.run_report import RunReport


def score(
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]], *, output: str | PathLike[str], **options: Any
) -> RunReport:
    """Score ``inputs`` into the directory ``output``; returns what happened.

    ``options`` are those of ``batchsent score`` with underscores (see :class:`batchsent.config.ScoreConfig`).
    Raises a :class:`batchsent.errors.BatchsentError`; its ``exit_code`` is what the command would return.
    """
    from batchsent.config import ScoreConfig
    from batchsent.job import run_job

    given = (str(inputs),) if isinstance(inputs, str | PathLike) else tuple(map(str, inputs))
    listed: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return run_job(ScoreConfig(inputs=given, output=str(output), **listed))
