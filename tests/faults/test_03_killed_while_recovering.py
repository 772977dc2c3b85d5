"""Fault 3: a run that recovers from a kill is killed in its first 200 ms."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.forked import Forked, Run, wait_until
from faults.observed import parts, temporaries
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]


@pytest.mark.real_process
@pytest.mark.fault(3, "killed again while recovering, in the first 200 ms")
def test_03_killed_while_recovering(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/r.csv", reviews(1200))
    write_csv(tmp_path / "in/s.csv", reviews(300))
    command = (tmp_path / "in", "--output")
    forked.finish(*command, tmp_path / "whole")
    out = tmp_path / "out"
    for seed in injections.of(range(100), quick=2):
        chooser = random.Random(seed)
        run = forked.start(*command, out)
        _wait_for_parts(run, out, chooser.randint(1, 25))
        run.kill()
        committed, is_published = parts(out), (out / "_SUCCESS").exists()
        run = forked.start(*command, out)
        if chooser.random() < 0.5:  # of its work on DIR; else of its life, in which it opens and cleans DIR
            _wait_for_work(run, out)
        time.sleep(chooser.uniform(0, 0.2))
        run.kill()
        assert is_published or (out / "_SUCCESS").exists() or committed.items() <= parts(out).items()
        forked.finish(*command, out)
        injections.compare(tmp_path / "whole", out)
        assert not temporaries(out)
        shutil.rmtree(out)


def _wait_for_parts(run: Run, out: Path, count: int) -> None:
    wait_until(lambda: len(parts(out)) >= count, run)


def _wait_for_work(run: Run, out: Path) -> None:
    """Until it writes its record, right before it looks for what is done."""
    records = set(out.glob("_batchsent/runs/*"))
    wait_until(lambda: set(out.glob("_batchsent/runs/*")) > records, run)
