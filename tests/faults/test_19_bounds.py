"""Fault 19: what 200 kills, or 100 runs in one process, leave behind: nothing that grows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

import batchsent
from batchsent.errors import BatchsentError
from batchsent.models import loading
from faults.circumstances import leaving_temporaries_in, slow_disk, together
from faults.forked import Forked, wait_until
from faults.inline import StandIn
from faults.observed import parts, temporaries, wait_for_end_of
from faults.tally import IS_FULL, Injections
from support import write_csv

Reviews = Callable[[int], list[str]]

PART_COUNT = 300 if IS_FULL else 40
"""More than the runs commit before they are killed, so that none finishes."""
SLACK_BYTES = 32 << 20
"""What a process may grow by over a hundred runs: allocators keep some of what they had."""


@pytest.mark.real_process
@pytest.mark.fault(19, "bounds: temporaries, parts, open files, processes over 200 kills")
def test_19_killed_two_hundred_times(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    source, out = write_csv(tmp_path / "r.csv", reviews(PART_COUNT * 2)), tmp_path / "out"
    command = (source, "--rows-per-part", "2", "--output")
    forked.finish(*command, tmp_path / "whole")
    scratch = tmp_path / "scratch"
    prepare = partial(together, partial(leaving_temporaries_in, scratch), partial(slow_disk, 0.2))
    for seed in injections.of(range(200), quick=2):
        chooser, before = random.Random(seed), parts(out)
        run = forked.start(*command, out, prepare=prepare)
        if chooser.random() < 0.5:  # after it has committed a part; else at any time before
            wait_until(lambda count=len(before): len(parts(out)) > count, run)  # type: ignore[misc]  # noqa: B008
        else:
            time.sleep(chooser.uniform(0, 1))
        open_files = psutil.Process(run.pid).num_fds()
        run.kill()
        assert not (out / "_SUCCESS").exists(), "it never finishes"
        assert len(temporaries(out)) <= 2, "one of the thread that commits, one of the run's record"
        after = parts(out)
        assert before.items() <= after.items()
        assert len({name.partition("-")[0] for name in after}) == len(after) <= PART_COUNT
        assert open_files <= 64
        assert not wait_for_end_of(run.pid)
    forked.finish(*command, out)
    injections.compare(tmp_path / "whole", out)
    assert not temporaries(out)
    assert not (out / "_batchsent/parts").exists()
    assert not scratch.exists() or not list(scratch.iterdir())


@pytest.mark.real_process
@pytest.mark.fault(19, "bounds: open files, threads, children, memory over 100 runs in one process")
def test_19_scored_a_hundred_times(
    injections: Injections, tmp_path: Path, tiny_model: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: StandIn())
    write_csv(tmp_path / "in/r.csv", reviews(300))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/b.parquet").write_bytes(b"PAR1 not really")
    process, used = psutil.Process(), list[tuple[int, int, int]]()
    memory: list[int] = []
    options = {"model": str(tiny_model), "precision": "fp32", "threads": 1, "device": "cpu"}
    options |= {"backend": "torch", "rows_per_part": 50}
    for round_index in injections.of(range(100), quick=3):
        out = tmp_path / f"out-{round_index}"
        batchsent.score(tmp_path / "in", output=out, **options)
        batchsent.score(tmp_path / "in", output=out, **options)  # nothing to do
        with pytest.raises(BatchsentError, match="1 of 2 shards failed"):
            batchsent.score([tmp_path / "in", tmp_path / "broken"], output=out, **options)
        used.append((process.num_fds(), process.num_threads(), len(process.children(recursive=True))))
        memory.append(process.memory_info().rss)
        warm = min(2, len(used) - 1)  # the first rounds import and fill caches
        assert all(now <= then for now, then in zip(used[-1], used[warm], strict=True))
        assert memory[-1] <= memory[warm] + SLACK_BYTES
