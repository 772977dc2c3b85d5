"""How far off is a plan? Plan, then run what was planned, and compare.

    python benchmarks/plan_accuracy.py [--texts NAME=FILE[:ROWS] ...]

A FILE has a text a line, or is a CSV (also .csv.gz), a TSV or a Parquet file with a column ``text`` or ``sentence``;
the first ROWS of its texts in a random order become two Parquet files. Without one, texts are cut from the example
reviews: long ones, short ones, and many of them twice. The embedded model, on the CPU, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from common import imdb_like_texts, review_texts, save


def main() -> None:
    """One input after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", action="append", default=[], metavar="NAME=FILE[:ROWS]")
    arguments = parser.parse_args()
    inputs = dict(map(_read, arguments.texts)) if arguments.texts else _made_up()
    with tempfile.TemporaryDirectory() as folder:
        rows = [_measured(name, texts, Path(folder) / str(index)) for index, (name, texts) in enumerate(inputs.items())]
    save("plan_accuracy", {"rows": rows}, beside=("openvino", "scipy"))


def _made_up() -> dict[str, list[str]]:
    few = review_texts(4_000, words=(5, 60))
    return {
        "IMDb's lengths": imdb_like_texts(4_000),
        "5 to 60 words": review_texts(20_000, words=(5, 60)),
        "4 of 5 again and again": random.Random(0).choices(few, k=30_000),
    }


def _read(argument: str) -> tuple[str, list[str]]:
    name, _, place = argument.partition("=")
    path, _, count = place.partition(":")
    texts = _texts(Path(path))
    random.Random(0).shuffle(texts)
    return name, texts[: int(count or len(texts))]


def _texts(path: Path) -> list[str]:
    if ".csv" in path.suffixes:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        return _column(pyarrow.csv.read_csv(path, parse_options=options))
    if path.suffix == ".tsv":
        options = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
        return _column(pyarrow.csv.read_csv(path, parse_options=options))
    if path.suffix == ".parquet":
        return _column(pq.read_table(path))
    return path.read_text(encoding="utf-8").splitlines()


def _column(table: pa.Table) -> list[str]:
    texts: list[str] = table.column("text" if "text" in table.column_names else "sentence").to_pylist()
    return texts


def _measured(name: str, texts: list[str], folder: Path) -> dict[str, Any]:
    dump = folder / "dump"
    dump.mkdir(parents=True)
    half = len(texts) // 2
    for index, part in enumerate((texts[:half], texts[half:])):
        pq.write_table(pa.table({"text": part}), dump / f"{index}.parquet")
    _run("models", "show", "embedded", "--text", "good")  # libraries come from memory then, for both
    began = time.perf_counter()
    plan = json.loads(_run("plan", str(dump), "--output", str(folder / "out"), "--device", "cpu", "--json"))
    planning = time.perf_counter() - began
    _run("score", str(dump), "--output", str(folder / "out"), "--device", "cpu", "--progress", "none")
    (record,) = (folder / "out/_batchsent/runs").iterdir()
    run = json.loads(record.read_bytes())
    assert run["plan"]["seconds"] == plan["seconds"]["expected"], "the run found another plan, or none"
    found = {
        "texts": name,
        "rows": len(texts),
        "planning_seconds": planning,
        "planned": plan["seconds"],
        "seconds": run["seconds"],
        "off": plan["seconds"]["expected"] / run["seconds"] - 1,
        "planned_startup_seconds": plan["startup_seconds"],
        "startup_seconds": run["seconds"] - run["scoring_seconds"],
        "planned_tokens": plan["texts"]["token_count"],
        "tokens": run["token_count"],
        "planned_padding": plan["texts"]["padding_share"],
        "padding": run["padding_count"] / (run["token_count"] + run["padding_count"]),
        "planned_duplicates": plan["texts"]["duplicate_share"],
        "duplicates": 1 - run["distinct_text_count"] / run["row_count"],
        "stages": plan["stage_seconds"],
        "errors": {name: plan["sample"][name] for name in ("length_error", "timing_error")},
    }
    print(json.dumps(found), flush=True)
    return found


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "batchsent", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
