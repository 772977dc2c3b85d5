"""Is memory bounded by the prefetch and not by the input?

    python benchmarks/memory.py [--small-mb 50] [--large-mb 1000]

Peak resident memory of the whole process tree (each process's own peak, added up) for a small and a large
input, CSV and Parquet. A stand-in classifier answers at once; reading, tokenizing and writing are real.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common import HERE, review_texts, save, write_csv
from processes import watched

ONE_RUN = HERE / "one_run.py"


def main() -> None:
    """Score each input in a process of its own and compare the peaks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small-mb", type=int, default=50)
    parser.add_argument("--large-mb", type=int, default=1000)
    arguments = parser.parse_args()
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
    began = time.monotonic()
    output = path.parent / "scored"
    shutil.rmtree(output, ignore_errors=True)
    # The stand-in takes no converted model, and making one takes memory.
    options = '{"workers": 2, "backend": "torch"}'
    _, by_role = watched([str(ONE_RUN), str(path), str(output), options, "--stand-in=2"])
    return {
        "size_mb": path.stat().st_size / 1e6,
        "seconds": time.monotonic() - began,
        "total_mb": sum(by_role.values()),
        "by_role_mb": by_role,
    }


if __name__ == "__main__":
    main()
