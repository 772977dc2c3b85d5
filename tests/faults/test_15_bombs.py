"""Fault 15: bombs and forged counts. The shard is refused, the rest goes on, and the memory stays under its limits."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from batchsent.errors import IncompleteError
from faults.bombs import Bomb, bombs, forged_counts
from faults.forked import Forked, Run
from faults.inline import Inline
from faults.tally import Injections
from support import rows, write_csv

LIMITS_MIB = {"job": 1536, "reader": 4608, "tokenizer": 1536}
"""Peak resident memory of each process, its libraries included."""
OTHER_COUNT = 15


def _peaks(run: Run, timeout_seconds: float) -> Counter[str]:
    """The largest resident set that each kind of process ever had, in MiB, when the run is over."""
    peaks: Counter[str] = Counter()
    deadline = time.monotonic() + timeout_seconds
    while not run.is_over and time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error, OSError):
            job = psutil.Process(run.pid)
            for process in (job, *job.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    kind = "job" if process.pid == run.pid else _kind_of_helper(process)
                    peaks[kind] = max(peaks[kind], _peak_mib(process.pid))
        time.sleep(0.02)
    return peaks


def _kind_of_helper(process: psutil.Process) -> str:
    return "reader" if any("stages.reader" in word for word in process.cmdline()) else "tokenizer"


def _peak_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0  # it has just ended


@pytest.mark.real_process
@pytest.mark.fault(15, "bombs")
def test_15_bombs(injections: Injections, forked: Forked, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for bomb in injections.of(bombs(), quick=2):
        for folder in (source, out):
            shutil.rmtree(folder, ignore_errors=True)
        write_csv(source / "z.csv", ["good"] * OTHER_COUNT)
        (source / bomb.name).write_bytes(bomb.make())
        run = forked.start(source, "--output", out, "--max-reject-rate", "1", "--rows-per-part", "2048", *bomb.options)
        peaks = _peaks(run, timeout_seconds=300)
        code = run.wait()
        _require_expected(bomb, out, code, run.errors)
        assert {"job", "reader"} <= peaks.keys()
        assert all(peaks[kind] < LIMITS_MIB[kind] for kind in peaks), f"{bomb}: {peaks}"


def _require_expected(bomb: Bomb, out: Path, code: int, errors: str) -> None:
    assert len(rows(out / "z.parquet")) == OTHER_COUNT, errors
    if bomb.failure is None:
        assert code == 0, errors
        assert len(rows(out / "b.parquet")) == bomb.row_count
        assert len(rows(out / "_batchsent/rejects/b.parquet")) == bomb.reject_count
    else:
        assert code == 3, errors
        assert "1 of 2 shards failed" in errors
        assert bomb.failure in errors
        assert not (out / "b.parquet").exists()


@pytest.mark.real_process
@pytest.mark.fault(15, "forged counts in a footer")
def test_15_forged_counts(injections: Injections, inline_with_reader: Inline, tmp_path: Path) -> None:
    whole, forged = forged_counts()
    expected = pq.read_table(io.BytesIO(whole)).column("id").to_pylist()
    source, out = tmp_path / "in", tmp_path / "out"
    for content in injections.of([whole, *forged], quick=27):
        for folder in (source, out):
            shutil.rmtree(folder, ignore_errors=True)
        write_csv(source / "z.csv", ["good"] * OTHER_COUNT, id=list(range(OTHER_COUNT)))
        (source / "b.parquet").write_bytes(content)
        with contextlib.suppress(IncompleteError):
            inline_with_reader.score(source, output=out, keep=("id",), rows_per_part=100)
        assert len(rows(out / "z.parquet")) == OTHER_COUNT
        if (out / "b.parquet").exists():
            assert [row["id"] for row in rows(out / "b.parquet")] == expected, "rows were lost in silence"
        else:
            assert content is not whole
            assert not (out / "_SUCCESS").exists()
