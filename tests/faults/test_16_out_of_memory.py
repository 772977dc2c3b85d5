"""Fault 16: the device runs out of memory, in passes that follow no rule; ``tests/test_gpu.py`` has the real one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from batchsent.records import TokenBatch
from faults.inline import Inline, Logits, StandIn
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]


class Full(StandIn):
    """A device that others use too: now and then it has no memory for a pass of several texts."""

    in_flight = 1

    def __init__(self, seed: int) -> None:
        self._chooser = random.Random(seed)
        self._share = self._chooser.choice([0.2, 0.5, 0.9])

    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        if len(batch.lengths) > 1 and self._chooser.random() < self._share:
            raise torch.OutOfMemoryError("CUDA out of memory (a stand-in)")
        return super().start(batch)


@pytest.mark.in_process
@pytest.mark.fault(16, "the device is out of memory (a stand-in), in random passes")
def test_16_out_of_memory(injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "in/a.csv", [*reviews(300), ""])
    whole, out = tmp_path / "whole", tmp_path / "out"
    inline.score(source, output=whole)
    for seed in injections.of(range(100), quick=10):
        report = inline.score(source, output=out, stand_in=Full(seed))
        assert report.split_count
        injections.compare(whole, out)
        shutil.rmtree(out)
