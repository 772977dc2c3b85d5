"""Is memory bounded by the prefetch and not by the input?

    python benchmarks/memory.py [--small-mb 50] [--large-mb 1000]

Peak resident memory of the whole process tree (each process's own peak, added up) for a small and a large
input, CSV and Parquet. A stand-in classifier answers at once; reading, tokenizing and writing are real.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from common import review_texts, save, write_csv


def main() -> None:
    """Score each input in a process of its own and compare the peaks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small-mb", type=int, default=50)
    parser.add_argument("--large-mb", type=int, default=1000)
    parser.add_argument("--score", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.score:
        _score(Path(arguments.score))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("csv", "parquet"):
            peaks = {}
            for size_mb in (arguments.small_mb, arguments.large_mb):
                path = _make(Path(folder), kind, size_mb)
                peaks[size_mb] = _peak(path)
                path.unlink()
            small, large = peaks[arguments.small_mb], peaks[arguments.large_mb]
            rows.append(
                {"format": kind, "small_mb": arguments.small_mb, "large_mb": arguments.large_mb}
                | {"small": small, "large": large, "ratio": large["total_mb"] / small["total_mb"]}
            )
            print(rows[-1], flush=True)
    save("memory", {"rows": rows})


def _make(folder: Path, kind: str, size_mb: int) -> Path:
    """A file of about so many megabytes of text: the same texts in another order in each megabyte."""
    path = folder / f"reviews.{kind}"
    if kind == "csv":
        texts = review_texts(900 * size_mb, words=(50, 350), seed=size_mb)
        total, used = 0, 0
        while total < size_mb * 1_000_000 and used < len(texts):
            total += len(texts[used].encode()) + 2
            used += 1
        return write_csv(path, texts[:used])
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="none", use_dictionary=False) as writer:
        written, seed = 0, 0
        while written < size_mb * 1_000_000:
            texts = review_texts(10_000, words=(50, 350), seed=seed)
            writer.write_table(pa.table({"text": texts}))
            written += sum(len(text.encode()) for text in texts)
            seed += 1
    return path


def _peak(path: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--score", str(path)]
    began = time.monotonic()
    with subprocess.Popen(command) as process:
        peaks: dict[int, tuple[str, int]] = {}
        watch = threading.Thread(target=_watch, args=(process.pid, peaks))
        watch.start()
        code = process.wait()
        watch.join()
    if code:
        raise SystemExit(f"scoring {path} failed with exit {code}")
    by_role: dict[str, float] = {}
    for role, size in peaks.values():
        by_role[role] = by_role.get(role, 0.0) + size / 1e6
    return {
        "size_mb": path.stat().st_size / 1e6,
        "seconds": time.monotonic() - began,
        "total_mb": sum(by_role.values()),
        "by_role_mb": by_role,
    }


def _watch(root_pid: int, peaks: dict[int, tuple[str, int]]) -> None:
    """Each process's high-water mark as the kernel keeps it, looked at until the root is gone."""
    while psutil.pid_exists(root_pid) and psutil.Process(root_pid).status() != psutil.STATUS_ZOMBIE:
        try:
            root = psutil.Process(root_pid)
            for process in [root, *root.children(recursive=True)]:
                role = "job" if process.pid == root_pid else _role(process)
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                mark = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                peaks[process.pid] = (role, int(mark.split()[1]) * 1024)
        except (psutil.Error, OSError, StopIteration):
            pass
        time.sleep(0.05)


def _role(process: psutil.Process) -> str:
    return "reader" if any("stages.reader" in part for part in process.cmdline()) else "tokenizers"


def _score(path: Path) -> None:
    import numpy as np

    from batchsent.config import ScoreConfig
    from batchsent.job import run_job
    from batchsent.records import TokenBatch

    class StandIn:
        """Answers at once, from the length of the text."""

        in_flight = 0

        def full_precision_logits(self, batch: TokenBatch) -> Any:
            return np.stack([batch.lengths % 7, batch.lengths % 5], axis=1).astype(np.float32)

        def start(self, batch: TokenBatch) -> Any:
            return partial(self.full_precision_logits, batch)

    output = path.parent / "scored"
    shutil.rmtree(output, ignore_errors=True)
    config = ScoreConfig(inputs=(str(path),), output=str(output), device="cpu", workers=2)
    report = run_job(config, load_model=lambda *_: StandIn())
    print(json.dumps({"rows": report.record_count, "rows_per_second": report.rows_per_second}))


if __name__ == "__main__":
    main()
