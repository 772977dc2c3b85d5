"""One run of the whole job in a process of its own, if asked for with a stand-in for the forward pass.

    python benchmarks/one_run.py INPUT OUTPUT '{"workers": 2}' [--stand-in LABELS] [--stop-after PARTS]

Prints the run's report as JSON. With a stand-in, reading, tokenizing, writing and committing are real: for
measurements of what grows with the volume, where a model would take hours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import time
from functools import partial
from typing import Any

import numpy as np

from batchsent.config import ScoreConfig
from batchsent.errors import StoppedError
from batchsent.job import run_job
from batchsent.records import TokenBatch
from batchsent.reporting.run_report import RunReport


class StandIn:
    """Answers from the length of the text, at once or as slowly as a device."""

    in_flight = 0

    def __init__(self, label_count: int, token_seconds: float) -> None:
        self._label_count, self._token_seconds = label_count, token_seconds

    def full_precision_logits(self, batch: TokenBatch) -> Any:
        """[texts, labels] of small whole numbers."""
        return (batch.lengths[:, None] % np.arange(2, 2 + self._label_count)[None, :] % 7).astype(np.float32)

    def start(self, batch: TokenBatch) -> Any:
        """Nothing is under way: the answer is there when this returns."""
        time.sleep(self._token_seconds * len(batch.token_ids))
        return partial(self.full_precision_logits, batch)


class StopAfter:
    """Progress that ends the run when so many parts are committed; those that wait for the disk still are."""

    def __init__(self, part_count: int) -> None:
        self._part_count = part_count

    def start(self, report: RunReport) -> None:
        """Scoring begins."""

    def update(self, report: RunReport) -> None:
        """A part was committed."""
        if report.part_count >= self._part_count:
            raise StoppedError(signal.SIGTERM)

    def stop(self) -> None:
        """Scoring is over."""


def _stand_in(arguments: argparse.Namespace, *_asked: Any) -> StandIn:
    return StandIn(arguments.stand_in, arguments.token_seconds)


def main() -> None:
    """Score INPUT into OUTPUT."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("options", type=json.loads, help="of ScoreConfig, as JSON")
    parser.add_argument("--stand-in", type=int, metavar="LABELS")
    parser.add_argument("--token-seconds", type=float, default=0.0, help="that the stand-in takes for a token")
    parser.add_argument("--stop-after", type=int, metavar="PARTS")
    arguments = parser.parse_args()
    report = RunReport()
    config = ScoreConfig(inputs=(arguments.input,), output=arguments.output, device="cpu", **arguments.options)
    load_model = None if arguments.stand_in is None else partial(_stand_in, arguments)
    progress = None if arguments.stop_after is None else StopAfter(arguments.stop_after)
    with contextlib.suppress(StoppedError):
        run_job(config, load_model=load_model, progress=progress, report=report)
    print(json.dumps(report.to_dict()))


if __name__ == "__main__":
    main()
