"""Fault 2: kill -9 at random moments, run again until done."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults.forked import Forked, Run, wait_until
from faults.observed import parts, temporaries, wait_for_end_of
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]


@pytest.mark.real_process
@pytest.mark.fault(2, "kill -9 at random, restart until done")
def test_02_killed_at_random(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    write_dump(tmp_path / "in", reviews(600))
    command = (tmp_path / "in", "--keep", "id", "--max-reject-rate", "1", "--output")
    forked.finish(*command, tmp_path / "first")  # the fork server loads its libraries meanwhile
    began = time.monotonic()
    forked.finish(*command, tmp_path / "whole")
    seconds = time.monotonic() - began
    out, committed = tmp_path / "out", dict[str, tuple[int, int]]()
    for seed in injections.of(range(500), quick=4):
        run = forked.start(*command, out)
        time.sleep(random.Random(seed).uniform(0, seconds))
        run.kill()
        if (out / "_SUCCESS").exists():
            injections.compare(tmp_path / "whole", out)
            shutil.rmtree(out)
        else:
            assert committed.items() <= parts(out).items(), "a committed part was touched"
        committed = parts(out)
    forked.finish(*command, out)
    injections.compare(tmp_path / "whole", out)
    assert not temporaries(out)
    assert not (out / "_batchsent/parts").exists()


@pytest.mark.real_process
@pytest.mark.fault(2, "kill -9 of the job alone; no process of it survives")
def test_02_killed_alone(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "r.csv", reviews(1500))
    command = (source, "--workers", "2", "--output")
    forked.finish(*command, tmp_path / "whole")
    out = tmp_path / "out"
    for seed in injections.of(range(50), quick=2):
        chooser = random.Random(seed)
        run = forked.start(*command, out)
        # The reader, then one tokenizer after the other is starting.
        _wait_for_children(run, chooser.choice([1, 2, 3]))
        time.sleep(chooser.choice([0, 0, chooser.uniform(0, 0.3)]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert not wait_for_end_of(run.pid)
        forked.finish(*command, out)
        injections.compare(tmp_path / "whole", out)
        shutil.rmtree(out)


def write_dump(folder: Path, texts: list[str]) -> None:
    """The same reviews in every kind of format; the text ones also have records that must be rejected."""
    ids = list(range(len(texts)))
    write_csv(folder / "r.csv", ["", *texts], id=[-1, *ids])
    with (folder / "r.csv").open("a", encoding="utf-8") as file:
        file.write("one field too many,1,2\n")
    (folder / "sub").mkdir()
    with (folder / "sub/r.jsonl").open("w", encoding="utf-8") as file:
        file.write('{"id": 1}\nnot JSON\n')
        file.writelines(json.dumps({"text": text, "id": index}) + "\n" for index, text in enumerate(texts))
    pq.write_table(pa.table({"text": [None, *texts], "id": [-1, *ids]}), folder / "s.parquet", row_group_size=170)


def _wait_for_children(run: Run, count: int) -> None:
    def are_there() -> bool:
        try:
            return len(psutil.Process(run.pid).children()) >= count
        except psutil.NoSuchProcess:
            return False

    wait_until(are_there, run)
