"""What the measurements share: where they ran, texts of their own, and where results go."""

from __future__ import annotations

import csv
import json
import math
import platform
import random
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchsent.errors import UsageError
from batchsent.machine import (
    available_cores,
    has_int8_dot_products,
    has_native_bf16,
    is_bf16_faster,
    require_precision,
)
from batchsent.reporting.run_report import library_versions

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "reviews"
IMDB_WORDS = {"median": 190, "sigma": 0.64, "most": 2_000}
"""Of a review: log-normal, as those of IMDb are, with its mean of 300 tokens (270 when cut to 512)."""


def environment(beside: tuple[str, ...] = ()) -> dict[str, Any]:
    """The machine, the day and the versions that a number belongs to, those of ``beside`` among them."""
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
        "faster_bf16": is_bf16_faster(),
        "int8_dot_products": has_int8_dot_products(),
        "versions": library_versions() | _versions(beside),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_without_folder, sys.argv[1:])]),
    }


def can_score(backend: str, precision: str) -> bool:
    """Whether a job on this CPU would not be refused."""
    try:
        require_precision(precision, "cpu", backend)
    except UsageError:
        return False
    return True


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _without_folder(argument: str) -> str:
    """Where a file lay on the machine that measured is nobody's business."""
    name, equals, place = argument.partition("=")
    if equals and Path(place).is_absolute():
        return f"{name}={Path(place).name}"
    return Path(argument).name if Path(argument).is_absolute() else argument


def save(name: str, results: dict[str, Any], *, folder: Path = HERE / "results", beside: tuple[str, ...] = ()) -> None:
    """Write ``<name>.json`` into ``folder`` and print it; the versions of ``beside`` are recorded too."""
    content = {"environment": environment(beside), **results}
    text = json.dumps(content, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def review_texts(count: int, *, words: tuple[int, int], seed: int = 0) -> list[str]:
    """``count`` texts of ``words`` words each, cut from the example reviews in a random order."""
    return _texts(count, lambda chooser: chooser.randint(*words), seed)


def imdb_like_texts(count: int, *, seed: int = 0) -> list[str]:
    """``count`` texts as long as those of IMDb, most of them of 100 to 500 tokens, cut from the example reviews."""

    def word_count(chooser: random.Random) -> int:
        drawn = round(chooser.lognormvariate(math.log(IMDB_WORDS["median"]), IMDB_WORDS["sigma"]))
        return min(max(drawn, 10), int(IMDB_WORDS["most"]))

    return _texts(count, word_count, seed)


def example_reviews() -> list[str]:
    """The texts of examples/reviews, without blank ones."""
    with (EXAMPLES / "shop-2026-11-01.csv").open(newline="", encoding="utf-8") as handle:
        reviews = [row["text"] for row in csv.DictReader(handle)]
    reviews += pq.read_table(EXAMPLES / "2026-11-02" / "shop.parquet").column("text").to_pylist()
    return [review for review in reviews if review and review.strip()]


def _texts(count: int, word_count: Callable[[random.Random], int], seed: int) -> list[str]:
    reviews = example_reviews()
    chooser = random.Random(seed)
    texts = []
    for _ in range(count):
        length, taken = word_count(chooser), list[str]()
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
