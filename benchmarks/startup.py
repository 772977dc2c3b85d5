"""How long until something happens: ``--help``, a first row, and a second run with nothing to do.

python benchmarks/startup.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import EXAMPLES, save


def main() -> None:
    """Time whole processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "scored"
        score = ["score", str(EXAMPLES), "--output", str(output), "--device", "cpu"]
        _seconds(score)  # the first one reads the libraries from disk
        again = [_seconds(score) for _ in range(rounds)]
        first = []
        for _ in range(rounds):
            shutil.rmtree(output)
            first.append(_seconds(score))
        helped = [_seconds(["--help"]) for _ in range(rounds)]
    save(
        "startup",
        {
            "rows": [
                {"what": "batchsent --help", **_spread(helped)},
                {"what": "score the 242 example reviews", **_spread(first)},
                {"what": "the same again, nothing to do", **_spread(again)},
            ]
        },
    )


def _seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "batchsent", *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median_seconds": statistics.median(seconds), "largest_seconds": max(seconds)}


if __name__ == "__main__":
    main()
