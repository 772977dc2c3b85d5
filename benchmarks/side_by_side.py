"""How fast is batchsent beside the other ways to score the same texts with the same weights on the same machine?

    python benchmarks/side_by_side.py --device cpu     # or: make bench-cpu
    python benchmarks/side_by_side.py --device cuda    # or: make bench-gpu

Every contender (``contenders/field.py``) has a process of its own that loads the model once. Each chooses the best of
its settings on half of the texts; then all take turns, round after round, beginning with another one each time. The
limit is measured beside them: the model's matrix products alone. Whoever cannot take part is listed with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from batchsent.machine import available_cores, has_int8_dot_products
from common import HERE, save
from contenders import Contender, Setting, Task
from contenders.field import contenders_for
from contenders.material import MODELS, texts_of
from contenders.plain_torch import Facts, facts
from contenders.preparation import prepare
from contenders.summary import agreement, best_setting, result_name, rotated
from contenders.worker import ContenderError, Worker, in_a_process, missing_packages

ROWS = {"cpu": {"distilbert": 64, "embedded": 128}, "cuda": {"distilbert": 2_048, "embedded": 2_048}}
"""Texts of every contender: so many that both models take 25 minutes on two cores, and each about 5 on an H100."""
ROUNDS = {"cpu": 5, "cuda": 3}
JOB_ROWS = {"cpu": 4, "cuda": 24}
"""How many times as many a whole process gets there: several parts, and more work than its start is."""
LOADED_AT_ONCE = max(1, available_cores() // 2)
"""Contenders that import and load beside one another: with few processors one after the other."""
LIBRARIES = ("openvino", "nncf", "onnxruntime", "onnx", "onnxscript", "sentence-transformers")
"""Whose versions are recorded besides those of every run."""


@dataclass(frozen=True)
class Course:
    """What is the same for every contender of a model."""

    task: Task
    texts: list[str]
    rows: int
    """So many of the texts are for everybody; all of them for whole processes."""
    facts: Facts


def main() -> None:
    """Measure each model that was asked for and write its results."""
    arguments = _arguments()
    for model in arguments.model or list(MODELS):
        with tempfile.TemporaryDirectory() as scratch:
            _measure(model, arguments, Path(scratch))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="default: each of them")
    parser.add_argument("--texts", help="CSV or Parquet file to take texts from; default: texts of IMDb's lengths")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rows", type=int, help="texts of every contender")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS['cpu']}, on a GPU {ROUNDS['cuda']}")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--only", action="append", default=[], help="contenders whose name has this in it")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the results are written")
    return parser.parse_args()


def _measure(model: str, arguments: argparse.Namespace, folder: Path) -> None:
    # Converted models go where nobody has one yet, and nobody asks a hub for anything.
    os.environ.update(XDG_CACHE_HOME=str(folder / "cache"), HF_HUB_OFFLINE="1")
    device = arguments.device
    course = _course(model, arguments, Task(MODELS[model](folder / "model"), "fp32", device, arguments.threads, folder))
    contenders = [c for c in contenders_for(device) if not arguments.only or any(o in c.title for o in arguments.only)]
    seconds, failed = _prepared(contenders, course.task)
    entries: list[dict[str, Any]] = []
    result = {
        "model": model,
        "device": device,
        "gpu": course.facts.gpu,
        "threads": arguments.threads,
        "texts": _about_texts(course, arguments.texts),
        "preparation_seconds": seconds,
        "loaded_at_once": LOADED_AT_ONCE,
        "contenders": entries,
    }
    workers = entered(contenders, course, failed, entries)
    for round_index in range(arguments.rounds or ROUNDS[device]):
        run_round(round_index, workers, entries)
        # After every round, so that what was measured is not lost.
        name = result_name(device, model, int8_dot_products=has_int8_dot_products())
        save(name, result, folder=arguments.results, beside=LIBRARIES)
    for worker in workers.values():
        worker.end()


def _course(model: str, arguments: argparse.Namespace, task: Task) -> Course:
    rows = arguments.rows or ROWS[task.device][model]
    texts = texts_of(arguments.texts, arguments.text_column, rows * JOB_ROWS[task.device])
    return Course(task, texts, rows, in_a_process(facts, task, texts, rows, log=task.log))


def _about_texts(course: Course, file: str | None) -> dict[str, Any]:
    counts = course.facts.token_counts[: course.rows]
    source = "generated, of IMDb's lengths" if file is None else Path(file).name
    return {"source": source, "rows": course.rows, "tokens": sum(counts), "longest": max(counts)}


def _prepared(contenders: list[Contender], task: Task) -> tuple[dict[str, float], dict[str, str]]:
    """Make what the contenders need of the model: name → seconds, and name → why it failed."""
    seconds, failed = dict[str, float](), dict[str, str]()
    installed = [contender for contender in contenders if not missing_packages(contender)]
    for name in dict.fromkeys(name for contender in installed for name in contender.preparations):
        began = time.perf_counter()
        try:
            in_a_process(prepare, name, task, log=task.log)
            seconds[name] = time.perf_counter() - began
        except ContenderError as error:
            failed[name] = str(error)
        print(f"{name}: {seconds.get(name) or failed[name]}", flush=True)
    return seconds, failed


def entered(
    contenders: list[Contender], course: Course, failed: dict[str, str], entries: list[dict[str, Any]]
) -> dict[int, Worker]:
    """Let everybody in who can: the index of its entry → its worker. Adds an entry for each, with its reason if not.

    They load beside one another, and are tuned one after the other.
    """
    entries += [_described(contender, course) for contender in contenders]
    with ThreadPoolExecutor(LOADED_AT_ONCE) as pool:
        loaded = list(pool.map(partial(_loaded, course=course, failed=failed), contenders, entries))
    workers = {}
    for index, (contender, worker) in enumerate(zip(contenders, loaded, strict=True)):
        if worker is not None:
            with _out_if_it_fails(entries[index]):
                _tune(contender, worker, course, entries[index])
                workers[index] = worker
        print(contender.title, entries[index], flush=True)
    return workers


def _described(contender: Contender, course: Course) -> dict[str, Any]:
    rows = len(course.texts) if contender.is_process else course.rows
    named = {"name": contender.name, "precision": contender.precision, "begins_with": contender.begins_with}
    return {**named, "rows": rows, "tokens": sum(course.facts.token_counts[:rows])}


@contextlib.contextmanager
def _out_if_it_fails(entry: dict[str, Any]) -> Iterator[None]:
    """One that fails is out, with its reason; the others go on."""
    try:
        yield
    except ContenderError as error:
        entry["absent"] = str(error)
        entry.pop("seconds", None)


def _loaded(contender: Contender, entry: dict[str, Any], course: Course, failed: dict[str, str]) -> Worker | None:
    """Its process, with the model in it; None if there is none, and its entry says why."""
    with _out_if_it_fails(entry):
        if missing := missing_packages(contender):
            raise ContenderError(f"not installed: {', '.join(missing)}")
        for name in contender.preparations:
            if name in failed:
                raise ContenderError(f"{name}: {failed[name]}")
        task = replace(course.task, precision=contender.precision, variant=contender.variant)
        worker = Worker(contender, task, course.texts[: entry["rows"]])
        entry["load_seconds"] = worker.load_seconds
        return worker
    return None


def _tune(contender: Contender, worker: Worker, course: Course, entry: dict[str, Any]) -> None:
    """Find its best setting, and score everything once: for the labels, and to be warm. Raises ContenderError."""
    rows = entry["rows"]
    entry["setting"], entry["tuning"] = _tuned(contender, worker, max(1, rows // 2))
    found = worker.score(rows, entry["setting"]).probabilities
    if found is not None:
        expected = course.facts.expected["pairs" if contender.scores_pairs else "texts"]
        entry |= agreement(expected, found[: len(expected)])


def _tuned(contender: Contender, worker: Worker, rows: int) -> tuple[Setting, list[dict[str, Any]]]:
    """The setting that is fastest on so many texts, and what each took."""
    if len(contender.grid) == 1:
        return contender.grid[0], []
    worker.score(rows, contender.grid[0])  # the first pass of all is slower, whatever its setting
    tried = [(setting, worker.score(rows, setting).seconds) for setting in contender.grid]
    return best_setting(tried), [{"setting": setting, "seconds": seconds} for setting, seconds in tried]


def run_round(round_index: int, workers: dict[int, Worker], entries: list[dict[str, Any]]) -> None:
    """A turn for everybody who is still in."""
    for index in rotated(list(workers), round_index):
        entry = entries[index]
        if "absent" in entry:
            continue
        with _out_if_it_fails(entry):
            timed = workers[index].score(entry["rows"], entry["setting"])
            entry.setdefault("seconds", []).append(timed.seconds)
            if timed.scoring_seconds is not None:
                entry.setdefault("scoring_seconds", []).append(timed.scoring_seconds)
    print(f"round {round_index + 1}", flush=True)


if __name__ == "__main__":
    main()
