"""What the measurements share: where they ran, texts of their own, and where results go."""

from __future__ import annotations

import csv
import json
import platform
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchsent.machine import available_cores, has_native_bf16
from batchsent.reporting.run_report import library_versions

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "reviews"


def environment() -> dict[str, Any]:
    """The machine, the day and the versions that a number belongs to."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": cpu,
        "cores": available_cores(),
        "native_bf16": has_native_bf16(),
        "versions": library_versions(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }


def save(name: str, results: dict[str, Any]) -> None:
    """Write ``results/<name>.json`` and print it."""
    content = {"environment": environment(), **results}
    text = json.dumps(content, indent=1)
    (HERE / "results" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def review_texts(count: int, *, words: tuple[int, int], seed: int = 0) -> list[str]:
    """``count`` texts of ``words`` words each, cut from the example reviews in a random order."""
    with (EXAMPLES / "shop-2026-11-01.csv").open(newline="", encoding="utf-8") as handle:
        reviews = [row["text"] for row in csv.DictReader(handle)]
    reviews += pq.read_table(EXAMPLES / "2026-11-02" / "shop.parquet").column("text").to_pylist()
    reviews = [review for review in reviews if review and review.strip()]
    chooser = random.Random(seed)
    texts = []
    for _ in range(count):
        length, taken = chooser.randint(*words), list[str]()
        while len(taken) < length:
            taken += chooser.choice(reviews).split()
        texts.append(" ".join(taken[:length]))
    return texts


def write_csv(path: Path, texts: list[str]) -> Path:
    """A CSV with one column, ``text``."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text"])
        writer.writerows([text] for text in texts)
    return path
