"""How long until it is known who scores what: many shards, and one that is very large.

    python benchmarks/planning.py [--shards 10000] [--rows 100000000]

Names, sizes and Parquet footers are read, in the reader's process, as a run does it, and the parts are split over eight
ranks, of which one is timed; no row is read. Seconds and peak resident memory are those of processes that do nothing
else; where others keep the processors busy, the seconds of the processors say more than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.config import ScoreConfig
from batchsent.preparation import inspect_shards, tasks_of
from batchsent.records import Inspection, Task
from batchsent.resolve import CUDA_ROWS_PER_PART
from batchsent.shares import Share
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess
from common import review_texts, save
from processes import watched

WORLD_SIZE = 8
ROW_GROUP_ROWS = 100_000
"""Of the large shard: a thousand row groups in its footer."""


def main() -> None:
    """Plan each input in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plan", type=Path, help="plan this folder and print what that took")
    arguments = parser.parse_args()
    if arguments.plan is not None:
        print(json.dumps(_planned(arguments.plan)))
        return
    with tempfile.TemporaryDirectory() as folder:
        many, large = Path(folder) / "many", Path(folder) / "large"
        _write_many(many, arguments.shards)
        _write_large(large, arguments.rows)
        save("planning", {"rows": [_measured(path, arguments.rounds) for path in (many, large)]})


def _write_many(folder: Path, count: int) -> None:
    folder.mkdir()
    table = pa.table({"text": review_texts(10, words=(10, 100)), "id": list(range(10))})
    for index in range(count):
        pq.write_table(table, folder / f"{index:05}.parquet")


def _write_large(folder: Path, rows: int) -> None:
    """One text again and again, which takes next to no room."""
    folder.mkdir()
    batch = pa.table({"text": pa.array(["good"] * ROW_GROUP_ROWS, pa.string())})
    with pq.ParquetWriter(folder / "large.parquet", batch.schema, compression="zstd") as writer:
        for first in range(0, rows, ROW_GROUP_ROWS):
            writer.write_table(batch.slice(0, min(ROW_GROUP_ROWS, rows - first)))


def _measured(folder: Path, rounds: int) -> dict[str, Any]:
    """The slowest of the rounds."""
    found = []
    for _ in range(rounds):
        printed, by_role = watched([__file__, "--plan", str(folder)])
        found.append({**json.loads(printed), "peak_mb": sum(by_role.values()), "by_role_mb": by_role})
    return max(found, key=lambda result: float(result["seconds"]))


def _planned(folder: Path) -> dict[str, Any]:
    began, cpu_before = time.perf_counter(), time.process_time()
    config = ScoreConfig(inputs=(str(folder),), output="-")
    shards = plan_shards(config.inputs, Path("-"))
    with ReaderProcess(lambda: None) as reader:
        inspections = inspect_shards(reader, shards, config)
        own = _tasks(inspections, 0)
        seconds, own_processor_seconds = time.perf_counter() - began, time.process_time() - cpu_before
        parts = [
            sum(map(_part_count, tasks)) for tasks in (own, *(_tasks(inspections, r) for r in range(1, WORLD_SIZE)))
        ]
        time.sleep(0.2)  # so that whoever watches the processes sees their peaks
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "shards": len(shards),
        "records": sum(inspection.record_count or 0 for inspection in inspections),
        "seconds": seconds,
        "processor_seconds": own_processor_seconds + used.ru_utime + used.ru_stime,
        "parts": sum(parts),
        "smallest_share": min(parts),
        "largest_share": max(parts),
    }


def _tasks(inspections: list[Inspection], rank: int) -> list[Task]:
    return tasks_of(inspections, Share(rank, WORLD_SIZE), rows_per_part=CUDA_ROWS_PER_PART, limit=None)


def _part_count(task: Task) -> int:
    if task.layout is None:
        return 1
    return task.layout.part_count if task.parts is None else len(task.parts)


if __name__ == "__main__":
    main()
