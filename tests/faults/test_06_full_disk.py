"""Fault 6: a disk that is really full, and a real limit on the size of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from faults.circumstances import limit_file_size
from faults.forked import Forked, Run
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]
pytestmark = pytest.mark.real_process

KILOBYTE = 1024


@contextmanager
def _small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A file system of its own, in memory, with so much room."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _require_one_line(run: Run, says: str) -> None:
    """It ended with 75 and said once what was wrong and what to do."""
    assert run.wait() == 75, run.errors
    [line] = [line for line in run.errors.splitlines() if line.startswith("error: ")]
    assert says in line
    assert "Traceback" not in run.errors


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system; not checked: a disk that is really full")
@pytest.mark.fault(6, "full disk for real, then more room")
def test_06_full_disk(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "r.csv", reviews(3000))
    forked.finish(source, "--keep", "text", "--output", tmp_path / "whole")
    disk = tmp_path / "disk"
    for size_bytes in injections.of(range(32 * KILOBYTE, 672 * KILOBYTE, 32 * KILOBYTE), quick=3):
        with _small_disk(disk, size_bytes):
            run = forked.start(source, "--keep", "text", "--output", disk / "out")
            _require_one_line(run, "free space")
            assert not (disk / "out/_SUCCESS").exists()
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            forked.finish(source, "--keep", "text", "--output", disk / "out")
            injections.compare(tmp_path / "whole", disk / "out")
            assert not list((disk / "out/_batchsent/tmp").iterdir())


@pytest.mark.fault(6, "a limit on the size of a file, then none")
def test_06_file_size_limit(injections: Injections, forked: Forked, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "r.csv", reviews(3000))
    forked.finish(source, "--keep", "text", "--output", tmp_path / "whole")
    output_bytes = (tmp_path / "whole/r.parquet").stat().st_size
    for share in injections.of(range(1, 21), quick=2):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        limit = partial(limit_file_size, output_bytes * share // 21)
        run = forked.start(source, "--keep", "text", "--output", out, prepare=limit)
        _require_one_line(run, "ulimit -f")
        forked.finish(source, "--keep", "text", "--output", out)
        injections.compare(tmp_path / "whole", out)
