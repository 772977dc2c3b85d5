"""Fault 8: two, four and eight runs or ranks on one DIR at once, with and without the lock, some of them killed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faults.circumstances import as_rank, slow_disk, together, without_lock
from faults.forked import Forked, Run
from faults.observed import broken_promise, temporaries
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]


@pytest.mark.real_process
@pytest.mark.fault(8, "two, four, eight runs on one DIR, with the lock, with kills")
def test_08_runs_together(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    source, whole, out = write_csv(tmp_path / "r.csv", reviews(400)), tmp_path / "whole", tmp_path / "out"
    command = (source, "--progress", "none", "--output")
    forked.finish(*command, whole)
    for seed in injections.of(range(100), quick=2):
        chooser = random.Random(seed)
        count, killed_count = chooser.choice([2, 2, 4, 8]), chooser.choice([0, 0, 1, 2])
        # Slow enough that the first is still at it when the others give up.
        runs = [forked.start(*command, out, prepare=partial(slow_disk, 0.05)) for _ in range(count)]
        _kill_some(runs, killed_count, chooser)
        _watch(runs, out)
        codes = [run.wait() for run in runs]
        assert set(codes) <= {0, 75, -9}, [run.errors for run in runs]
        for run, code in zip(runs, codes, strict=True):
            lines = run.errors.splitlines()
            assert len(lines) == (code == 75), "one line"
            assert all(line.startswith("error: another run holds ") for line in lines), "and that for this reason alone"
        if -9 not in codes:
            assert len(list(out.glob("_batchsent/runs/*"))) == 1, "one of them works; what comes later finds it done"
            assert 0 in codes
        _finish(forked, command, out, injections, whole)


@pytest.mark.real_process
@pytest.mark.fault(8, "two, four, eight runs on one DIR, without the lock, with kills")
def test_08_runs_together_without_lock(
    injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews
) -> None:
    write_csv(tmp_path / "in/r.csv", reviews(300))
    write_csv(tmp_path / "in/s.csv", reviews(200))
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = (tmp_path / "in", "--progress", "none", "--rows-per-part", "20", "--output")
    forked.finish(*command, whole)
    for seed in injections.of(range(100), quick=2):
        chooser = random.Random(seed)
        count, killed_count = chooser.choice([2, 2, 4, 8]), chooser.choice([0, 0, 1, 2])
        runs = []
        for _ in range(count):
            runs.append(forked.start(*command, out, prepare=without_lock))
            time.sleep(chooser.choice([0, chooser.uniform(0, 1)]))  # at once, or one where the other publishes
        _kill_some(runs, killed_count, chooser)
        _watch(runs, out)
        codes = [run.wait() for run in runs]
        assert set(codes) <= {0, 75, -9}, [run.errors for run in runs]
        _finish(forked, command, out, injections, whole)


@pytest.mark.real_process
@pytest.mark.fault(8, "two, four, eight ranks on one DIR, with the lock, with kills")
def test_08_ranks_together(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    command, whole, out = _dump_for_ranks(tmp_path, reviews), tmp_path / "whole", tmp_path / "out"
    forked.finish(*command, whole)
    for seed in injections.of(range(100), quick=2):
        chooser = random.Random(seed)
        count, killed_count = chooser.choice([2, 2, 4, 8]), chooser.choice([0, 0, 1, 2])
        world = _World(forked, (*command, out), count)
        ranks = [world.start(rank) for rank in range(count)]
        doubles = [world.start(chooser.randrange(count))]
        if chooser.choice([True, False]):
            doubles.append(forked.start(*command, out))
        _kill_some(ranks, killed_count, chooser)
        _watch([*ranks, *doubles], out)
        codes = [run.wait() for run in ranks]
        assert set(codes) <= {0, -9, 75}, [run.errors for run in ranks]
        # Whichever comes first keeps the others out: one of the two of one rank, the ranks, or the run by itself.
        assert {run.wait() for run in doubles} <= {0, 75}, [run.errors for run in doubles]
        for rank, code in enumerate(codes):
            world.bring_to_an_end(rank, code)
        injections.compare(whole, out)
        assert not temporaries(out)
        _finish(forked, command, out, injections, whole)


@pytest.mark.real_process
@pytest.mark.fault(8, "two, four, eight ranks on one DIR, without the lock, with kills")
def test_08_ranks_together_without_lock(
    injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews
) -> None:
    command, whole, out = _dump_for_ranks(tmp_path, reviews), tmp_path / "whole", tmp_path / "out"
    forked.finish(*command, whole)
    for seed in injections.of(range(100), quick=2):
        chooser = random.Random(seed)
        count, killed_count = chooser.choice([2, 2, 4, 8]), chooser.choice([0, 0, 1, 2])
        world = _World(forked, (*command, out), count, (without_lock,))
        ranks = []
        for rank in range(count):
            ranks.append(world.start(rank))
            time.sleep(chooser.choice([0, chooser.uniform(0, 1)]))  # at once, or one where the others end
        _kill_some(ranks, killed_count, chooser)
        _watch(ranks, out)
        codes = [run.wait() for run in ranks]
        assert set(codes) <= {0, -9, 75}, [run.errors for run in ranks]
        for rank, code in enumerate(codes):
            world.bring_to_an_end(rank, code)
        injections.compare(whole, out)
        _finish(forked, command, out, injections, whole)


def _dump_for_ranks(tmp_path: Path, reviews: Reviews) -> tuple[Path | str, ...]:
    """A shard whose parts are shared, one that goes to a rank as a whole, and a text file; the command up to DIR."""
    texts = reviews(700)
    for name, chosen in (("r", texts[:500]), ("s", texts[500:600])):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.table({"text": chosen}), tmp_path / f"in/{name}.parquet", row_group_size=70)
    write_csv(tmp_path / "in/t.csv", texts[600:])
    return (tmp_path / "in", "--progress", "none", "--rows-per-part", "20", "--output")


@dataclass(frozen=True)
class _World:
    """Ranks of one command, each started with the same circumstances."""

    forked: Forked
    command: tuple[Path | str, ...]
    size: int
    circumstances: tuple[Callable[[], None], ...] = ()

    def start(self, rank: int) -> Run:
        prepare = partial(together, partial(as_rank, rank, self.size), *self.circumstances)
        return self.forked.start(*self.command, prepare=prepare)

    def bring_to_an_end(self, rank: int, code: int) -> None:
        """As a scheduler does it: the rank again, while it was killed or says that it may succeed later."""
        for _ in range(5):
            if code == 0:
                return
            run = self.start(rank)
            code = run.wait()
            assert code in (0, 75), run.errors
        raise AssertionError(f"rank {rank} does not come to an end")


def _kill_some(runs: list[Run], count: int, chooser: random.Random) -> None:
    for run in chooser.sample(runs, count):
        time.sleep(chooser.uniform(0, 0.5))
        run.kill()


def _watch(runs: list[Run], out: Path) -> None:
    """Until all have ended: ``_SUCCESS`` never vouches for what is not so."""
    while not all(run.is_over for run in runs):
        assert not broken_promise(out)
        time.sleep(0.005)
    assert not broken_promise(out)


def _finish(forked: Forked, command: tuple[Path | str, ...], out: Path, injections: Injections, whole: Path) -> None:
    forked.finish(*command, out)
    injections.compare(whole, out)
    assert not temporaries(out)
    assert not (out / "_batchsent/parts").exists()
    shutil.rmtree(out)
