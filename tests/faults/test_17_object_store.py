"""Fault 17: what networks and object stores do to requests; kills and second runs where nothing can be locked."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.checkpoint import PARTS, SUCCESS
from batchsent.errors import BatchsentError, StorageError
from batchsent.objects.access import file_system
from batchsent.stores import open_store
from batchsent.verify import verify
from faults.forked import Forked, Run
from faults.inline import Inline
from faults.tally import Injections
from objects.cloud import Cloud, use
from objects.proxy import FAULTS, Fault
from support import write_csv

Reviews = Callable[[int], list[str]]


@pytest.fixture
def source(cloud: Cloud, tmp_path: Path, reviews: Reviews) -> str:
    """URI of two dumps, one with a record that is rejected."""
    write_csv(tmp_path / "in/a.csv", [*reviews(48), ""])
    pq.write_table(pa.table({"text": reviews(37)}), tmp_path / "in/b.parquet", row_group_size=20)
    cloud.proxy.begin()
    return cloud.put_all(tmp_path / "in", f"{cloud.bucket()}/in")


class Bad:
    """A store that does something to the requests from ``first`` on: to one, or to all."""

    def __init__(self, first: int, fault: Fault, *, is_lasting: bool) -> None:
        self._first, self._fault, self._is_lasting = first, fault, is_lasting

    def __call__(self, index: int, _method: str, _path: str) -> Fault | None:
        is_hit = index >= self._first if self._is_lasting else index == self._first
        return self._fault if is_hit else None


def compare(injections: Injections, cloud: Cloud, whole: Path, out: str, scratch: Path) -> None:
    """Hold what is in ``out`` against ``whole``; nothing is left of it then."""
    injections.compare(whole, cloud.fetch(out, scratch))
    assert not any(name.startswith(PARTS) for name in cloud.names(out))
    shutil.rmtree(scratch)
    file_system(out).rm(out, recursive=True)


@pytest.mark.in_process
@pytest.mark.fault(17, "S3: 500, 503, reset, stall, lost answer, truncated answer, to any request")
def test_17_to_one_request(injections: Injections, inline: Inline, cloud: Cloud, source: str, tmp_path: Path) -> None:
    bucket, whole = cloud.bucket(), tmp_path / "whole"
    inline.score(source, output=whole)
    cloud.proxy.begin()
    inline.score(source, output=f"{bucket}/first")
    # A slow run writes its record more often than the next one may.
    count = sum("/runs/" not in request.path for request in cloud.proxy.requests)
    for seed in injections.of(range(500), quick=12):
        fault, index = FAULTS[seed % len(FAULTS)], random.Random(seed).randrange(count)
        cloud.proxy.begin(Bad(index, fault, is_lasting=False))
        inline.score(source, output=f"{bucket}/out")
        assert [request.fault for request in cloud.proxy.requests if request.fault] == [fault]
        cloud.proxy.begin()
        compare(injections, cloud, whole, f"{bucket}/out", tmp_path / "fetched")


@pytest.mark.in_process
@pytest.mark.fault(17, "S3 goes away at any request, and is there again for the next run")
def test_17_gone_from_a_request_on(
    injections: Injections,
    inline: Inline,
    cloud: Cloud,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, whole = cloud.bucket(), tmp_path / "whole"
    monkeypatch.setattr(file_system(bucket), "retries", 1)
    inline.score(source, output=whole)
    cloud.proxy.begin()
    inline.score(source, output=f"{bucket}/first")
    # What comes after _SUCCESS need not succeed.
    needed = next(i for i, r in enumerate(cloud.proxy.requests) if r.method == "PUT" and r.path.endswith(SUCCESS))
    for seed in injections.of(range(100), quick=4):
        fault: Fault = ("reset", "500", "lost")[seed % 3]
        cloud.proxy.begin(Bad(random.Random(seed).randrange(needed), fault, is_lasting=True))
        with pytest.raises(StorageError):
            inline.score(source, output=f"{bucket}/out")
        cloud.proxy.begin()
        inline.score(source, output=f"{bucket}/out")
        compare(injections, cloud, whole, f"{bucket}/out", tmp_path / "fetched")


@pytest.mark.real_process
@pytest.mark.fault(17, "S3: one request in twenty disturbed, and kill -9 at random, restart until done")
def test_17_killed_at_random(injections: Injections, forked: Forked, cloud: Cloud, source: str, tmp_path: Path) -> None:
    bucket, whole = cloud.bucket(), tmp_path / "whole"
    prepare = partial(use, cloud.environment)
    command: tuple[Any, ...] = (source, "--progress", "none", "--rows-per-part", "10", "--output")
    assert forked.start(*command, whole, prepare=prepare).wait() == 0
    for seed in injections.of(range(100), quick=2):
        chooser, out = random.Random(seed), f"{bucket}/out"
        faults = random.Random(seed)
        cloud.proxy.begin(lambda *_, faults=faults: faults.choice(FAULTS) if faults.random() < 0.05 else None)
        kills = chooser.randint(1, 3)
        for attempt in range(20):
            run = forked.start(*command, out, prepare=prepare)
            if attempt < kills:
                _wait_for_requests(cloud, run, chooser.randint(1, 120))
                run.kill()
            elif run.wait(300) == 0:
                break
            assert run.wait() in (0, 75, -9), run.errors
        cloud.proxy.begin()
        compare(injections, cloud, whole, out, tmp_path / "fetched")


def _wait_for_requests(cloud: Cloud, run: Run, count: int) -> None:
    """Until the run has made so many, or is over."""
    wanted, deadline = len(cloud.proxy.requests) + count, time.monotonic() + 60
    while not run.is_over and len(cloud.proxy.requests) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)


@pytest.mark.real_process
@pytest.mark.fault(17, "two, three runs at once on one prefix, with kills")
def test_17_runs_together(injections: Injections, forked: Forked, cloud: Cloud, source: str, tmp_path: Path) -> None:
    bucket, whole = cloud.bucket(), tmp_path / "whole"
    prepare = partial(use, cloud.environment)
    command: tuple[Any, ...] = (source, "--progress", "none", "--rows-per-part", "10", "--output")
    assert forked.start(*command, whole, prepare=prepare).wait() == 0
    for seed in injections.of(range(100), quick=2):
        chooser, out = random.Random(seed), f"{bucket}/out"
        runs = []
        for _ in range(chooser.choice([2, 2, 3])):
            runs.append(forked.start(*command, out, prepare=prepare))
            time.sleep(chooser.choice([0, chooser.uniform(0, 1)]))
        for run in chooser.sample(runs, chooser.choice([0, 0, 1])):
            _wait_for_requests(cloud, run, chooser.randint(1, 100))
            run.kill()
        while not all(run.is_over for run in runs):
            assert not _broken_promise(out)
        codes = [run.wait() for run in runs]
        assert set(codes) <= {0, 75, -9}, [run.errors for run in runs]
        assert not _broken_promise(out)
        last = forked.start(*command, out, prepare=prepare)
        assert last.wait(120) == 0, last.errors
        compare(injections, cloud, whole, out, tmp_path / "fetched")


def _broken_promise(out: str) -> str:
    """What is wrong with that which ``_SUCCESS`` vouches for; nothing if it is not there, or went away meanwhile."""
    for _ in range(3):  # a store tells seconds, and within one it may go and come again
        try:
            problems = verify(open_store(out)).problems
        except BatchsentError:  # it is not there
            return ""
        if not problems:
            return ""
        time.sleep(1)
    return "; ".join(problems)
