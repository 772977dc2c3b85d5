"""What does more cost? Rows, longer texts, larger parts, more labels, duplicates, a run that resumes.

    python benchmarks/growth.py [--scale 1] [--repeats 3]

Volume (rows, parts, labels, resuming) is measured with a stand-in for the forward pass, so that all else shows; length
and duplicates with the embedded model. To hold: ten times the rows take ten times as long and no more memory, and a
resumed run takes at most 1% of a whole run more than its share of the work.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common import HERE, review_texts, save
from contenders.material import random_classifier
from processes import watched

Row = dict[str, Any]

ROWS = 5_000
"""Times 1, 10 and 100."""
PART_ROWS, PART_SIZES = 50_000, (128, 512, 2_048, 8_192, 32_768)
LABEL_ROWS, LABELS = 10_000, (2, 10, 100, 500)
LENGTH_WORDS, LENGTHS = 16_000, (10, 40, 160, 400)
"""Words in all, and of each text: always as much text, in fewer and fewer pieces."""
DUPLICATE_ROWS, DUPLICATES = 400, (0.0, 0.5, 0.9, 0.99)
RESUME_ROWS, RESUME_PART, RESUMED = 100_000, 1_024, (0.25, 0.5, 0.75)
TOKEN_SECONDS = 1e-5
"""Of the stand-in where a run resumes: 100,000 tokens a second, so that a whole run takes most of a minute."""
STAND_IN = "--stand-in=2"
"""As many labels as the embedded model has."""
UNCONVERTED = {"backend": "torch"}
"""For a stand-in: no graph is made of a model that computes nothing."""


class Bench:
    """Where inputs and outputs lie, and how much is measured."""

    def __init__(self, folder: Path, scale: float, repeats: int) -> None:
        self.folder, self._scale, self.repeats = folder, scale, repeats

    def scaled(self, count: int) -> int:
        """So many rows, or fewer where somebody only wants to see it run."""
        return max(20, round(count * self._scale))

    def input_of(self, row_count: int, *, words: tuple[int, int] = (5, 60), distinct: int | None = None) -> Path:
        """A Parquet file of so many texts, written a piece at a time; the last ones repeat the first ``distinct``."""
        path = self.folder / "texts.parquet"
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for start in range(0, row_count, 10_000):
                count = min(10_000, row_count - start)
                texts = review_texts(min(count, distinct or count), words=words, seed=start)
                texts = [texts[index % len(texts)] for index in range(count)]
                writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
        return path

    def run(self, source: Path, options: Row, *more: str, keep: bool = False) -> Row:
        """One run's report, with its peak of memory. ``keep``: go on in what the run before left."""
        output = self.folder / "scored"
        if not keep:
            shutil.rmtree(output, ignore_errors=True)
        printed, peaks = watched([str(HERE / "one_run.py"), str(source), str(output), json.dumps(options), *more])
        report: Row = json.loads(printed.splitlines()[-1])
        return report | {"peak_mb": sum(peaks.values())}

    def convert(self) -> None:
        """Have the embedded model's graph in the cache, so that no measured run makes it."""
        self.run(self.input_of(1), {})

    def repeated(self, measure: Callable[[], Row]) -> Row:
        """The medians of a few, and of the seconds their spread."""
        found = [measure() for _ in range(self.repeats)]
        seconds = [report["scoring_seconds"] for report in found]
        return {
            "rows": found[0]["record_count"],
            "seconds": statistics.median(seconds),
            "fastest_seconds": min(seconds),
            "slowest_seconds": max(seconds),
            "peak_mb": statistics.median(report["peak_mb"] for report in found),
            "tokens": found[0]["token_count"],
        }


def rows(bench: Bench) -> Iterator[Row]:
    """Ten and a hundred times as many."""
    for factor in (1, 10, 100):
        source = bench.input_of(bench.scaled(ROWS) * factor)
        yield {"x": factor} | bench.repeated(partial(bench.run, source, UNCONVERTED, STAND_IN))


def part_size(bench: Bench) -> Iterator[Row]:
    """The same rows in fewer and fewer parts."""
    source = bench.input_of(bench.scaled(PART_ROWS))
    for size in PART_SIZES:
        options = UNCONVERTED | {"rows_per_part": size}
        yield {"x": size} | bench.repeated(partial(bench.run, source, options, STAND_IN))


def labels(bench: Bench) -> Iterator[Row]:
    """A column of probabilities for each."""
    source = bench.input_of(bench.scaled(LABEL_ROWS))
    for count in LABELS:
        model = random_classifier(
            bench.folder / f"labels-{count}", labels=[f"label {n}" for n in range(count)], tiny=True
        )
        options = UNCONVERTED | {"model": str(model)}
        yield {"x": count} | bench.repeated(partial(bench.run, source, options, f"--stand-in={count}"))


def text_length(bench: Bench) -> Iterator[Row]:
    """As many words in longer texts, through the embedded model: attention grows with the square of the length."""
    bench.convert()
    for words in LENGTHS:
        source = bench.input_of(max(8, bench.scaled(LENGTH_WORDS) // words), words=(words, words))
        yield {"x": words} | bench.repeated(partial(bench.run, source, {}))


def duplicates(bench: Bench) -> Iterator[Row]:
    """Texts that a part holds more than once are computed once."""
    bench.convert()
    count = bench.scaled(DUPLICATE_ROWS)
    for share in DUPLICATES:
        source = bench.input_of(count, words=(60, 60), distinct=max(1, round(count * (1 - share))))
        yield {"x": share} | bench.repeated(partial(bench.run, source, {}))


def resume(bench: Bench) -> Iterator[Row]:
    """A run that finds k parts committed against the share of the work that is left.

    What it should take: a whole run's time, less the committed share of the time that the whole run scored.
    """
    source, options = bench.input_of(bench.scaled(RESUME_ROWS)), UNCONVERTED | {"rows_per_part": RESUME_PART}
    stand_in = (STAND_IN, f"--token-seconds={TOKEN_SECONDS}")
    found: dict[float, list[Row]] = {share: [] for share in RESUMED}
    for _ in range(bench.repeats):
        whole = bench.run(source, options, *stand_in)
        for share in RESUMED:
            bench.run(source, options, *stand_in, f"--stop-after={max(1, int(share * whole['part_count']))}")
            second = bench.run(source, options, *stand_in, keep=True)
            left = second["part_count"] / whole["part_count"]
            if second["totals"] != whole["totals"]:
                raise SystemExit("a resumed run published something else than a whole one")
            expected = whole["seconds"] - (1 - left) * whole["scoring_seconds"]
            found[share].append(
                {"left": left, "seconds": second["seconds"], "expected_seconds": expected, "whole": whole["seconds"]}
            )
    for share, measured in found.items():
        overheads = [(row["seconds"] - row["expected_seconds"]) / row["whole"] for row in measured]
        medians = {name: statistics.median(row[name] for row in measured) for name in measured[0]}
        yield {"x": share, **medians, "overhead": statistics.median(overheads)} | {
            "smallest_overhead": min(overheads),
            "largest_overhead": max(overheads),
        }


AXES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "rows": rows,
    "text_length": text_length,
    "part_size": part_size,
    "labels": labels,
    "duplicates": duplicates,
    "resume": resume,
}


def main() -> None:
    """Measure every axis and write all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows; below 1 only to try it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the results are written")
    arguments = parser.parse_args()
    axes: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        for name, axis in AXES.items():
            axes[name] = []
            for row in axis(Bench(Path(folder), arguments.scale, arguments.repeats)):
                axes[name].append(row)
                print(name, row, flush=True)
    save("growth", {"repeats": arguments.repeats, "axes": axes}, folder=arguments.results, beside=("openvino", "nncf"))


if __name__ == "__main__":
    main()
