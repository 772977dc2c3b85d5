"""Fault 2: kill -9 at random moments, run again until done."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.forked import Forked
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]


@pytest.mark.real_process
@pytest.mark.fault(2, "kill -9 at random, restart until done")
def test_02_killed_at_random(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/r.csv", reviews(1500))
    write_csv(tmp_path / "in/sub/s.csv", reviews(700))
    command = (tmp_path / "in", "--output")
    forked.finish(*command, tmp_path / "first")  # the fork server loads its libraries meanwhile
    began = time.monotonic()
    forked.finish(*command, tmp_path / "whole")
    seconds = time.monotonic() - began
    out = tmp_path / "out"
    for seed in injections.of(range(500), quick=8):
        run = forked.start(*command, out)
        time.sleep(random.Random(seed).uniform(0, seconds))
        run.kill()
        if (out / "_SUCCESS").exists():
            injections.compare(tmp_path / "whole", out)
            shutil.rmtree(out)
    forked.finish(*command, out)
    injections.compare(tmp_path / "whole", out)
