"""How far does a run scale? Measured here on up to eight processes, and from what each step takes, simulated beyond.

    python benchmarks/scaling.py            # measures, checks the model against real processes, simulates (10 minutes)
    python benchmarks/scaling.py --again    # simulates again, with what was measured before

The real processes are ranks of one run. A stand-in for the model waits as a device would; all else is real: starting,
reading, tokenizing, committing, merging, publishing. ``scaling_model.py`` is the model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common import HERE, imdb_like_texts, save
from scaling_model import Cluster, Costs, Input, PerPart, simulate

if TYPE_CHECKING:
    from batchsent.records import TokenBatch

ROWS, SHARDS, ROWS_PER_PART = 16_000, 8, 125
"""Of the check; the parts are as many for each of eight ranks."""
ROW_SECONDS = 0.01
"""Of the stand-in's device: slow, so that two cores feed eight of them."""
WORLD_SIZES = (1, 2, 4, 8)

# --- the night that is simulated

NIGHT = Input(shards=1_000, rows_per_shard=1_000_000, rows_per_part=16_384)
REPLICAS = (1, 8, 64, 256)
GPU_ROWS_PER_SECOND = 15_800.0
"""Of one H100 with DistilBERT's shape and 300 tokens a review, model only: fp16 weights, compiled, nothing padded. The
fastest rate that is known of it, because that is the hardest one to feed."""
MODEL_SECONDS = 20.0
"""From the first look at DIR to the first forward pass on a GPU: weights, CUDA, and compiling."""
TOKENIZERS = 12
REQUEST_SECONDS = 0.03
"""An object store's answer."""
DISPATCH_SECONDS = 0.005
"""Ray Data handing out one piece."""


def main() -> None:
    """Measure, check, simulate, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--rank", type=Path, help="be one rank on this folder")
    parser.add_argument("--row-seconds", type=float, default=ROW_SECONDS)
    parser.add_argument("--rows-per-part", type=int, default=ROWS_PER_PART)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        print(json.dumps(_rank(arguments.rank, arguments.row_seconds, arguments.rows_per_part)))
        return
    if arguments.again:
        earlier = json.loads((HERE / "results/scaling.json").read_bytes())
        costs, checks = _read(earlier["costs"]), earlier["checks"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder) / "in", ROWS, SHARDS)
            costs = _measured_costs(Path(folder))
            checks = [_check(costs, Path(folder), world_size) for world_size in WORLD_SIZES]
    on_gpus = _on_gpus(costs)
    results = {"costs": asdict(costs), "checks": checks, "night_costs": asdict(on_gpus), "nights": _nights(on_gpus)}
    save("scaling", results, beside=("simpy",))


def _read(recorded: dict[str, Any]) -> Costs:
    values: dict[str, Any] = {
        k: PerPart(**value) if isinstance(value, dict) else value for k, value in recorded.items()
    }
    return Costs(**values)


def _write(folder: Path, rows: int, shards: int) -> None:
    folder.mkdir()
    texts, each = imdb_like_texts(rows), rows // shards
    for index in range(shards):
        table = pa.table({"text": texts[index * each : (index + 1) * each]})
        pq.write_table(table, folder / f"{index}.parquet")


# --- real processes


def _start(
    source: Path, out: Path, rank: int, world_size: int, row_seconds: float, rows_per_part: int
) -> subprocess.Popen[str]:
    launched = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    return subprocess.Popen(
        [
            sys.executable,
            __file__,
            "--rank",
            str(source),
            "--row-seconds",
            str(row_seconds),
            "--rows-per-part",
            str(rows_per_part),
        ],
        env={**os.environ, **launched, "BATCHSENT_OUT": str(out)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _rank(source: Path, row_seconds: float, rows_per_part: int) -> dict[str, float]:
    """One rank of a run; what each step took it."""
    import transformers  # noqa: F401 - with torch, what a run with a model has to import

    from batchsent import closing, ledger
    from batchsent.config import ScoreConfig
    from batchsent.job import run_job
    from batchsent.shares import share_from

    seconds = dict.fromkeys(("parts", "shards", "open", "closing"), 0.0)
    timed = _Timed(seconds)
    ledger.write_part = timed("parts", ledger.write_part)  # type: ignore[attr-defined]
    ledger.commit_shard = timed("shards", ledger.commit_shard)  # type: ignore[attr-defined]
    ledger.Ledger.open = timed("open", ledger.Ledger.open)  # type: ignore[method-assign]
    closing.Closing.close = timed("closing", closing.Closing.close)  # type: ignore[method-assign]
    config = ScoreConfig(
        inputs=(str(source),),
        output=os.environ["BATCHSENT_OUT"],
        device="cpu",
        backend="torch",
        precision="fp32",
        threads=1,
        rows_per_part=rows_per_part,
        workers=1,
    )
    report = run_job(config, load_model=lambda *_: _Sleeper(row_seconds), share=share_from(os.environ))
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds | {
        "rows": report.record_count,
        "part_count": report.part_count,
        "reading": report.stage_seconds.reading,
        "tokenizing": report.stage_seconds.tokenizing,
        "processor": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
    }


class _Sleeper:
    """Stands in for the model: answers when a device would."""

    in_flight = 0

    def __init__(self, row_seconds: float) -> None:
        self._row_seconds = row_seconds

    def full_precision_logits(self, batch: TokenBatch) -> Any:
        """[texts, 2] of small whole numbers."""
        return (batch.lengths[:, None] % np.array([2, 3])[None, :]).astype(np.float32)

    def start(self, batch: TokenBatch) -> Any:
        """The answer is there when this returns."""
        time.sleep(self._row_seconds * len(batch.lengths))
        return partial(self.full_precision_logits, batch)


class _Timed:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    def __call__(self, name: str, function: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

        return timed


def _run(
    source: Path, out: Path, world_size: int, row_seconds: float, *, rows_per_part: int = ROWS_PER_PART
) -> tuple[float, list[dict[str, float]]]:
    """Seconds from the first start to the last end, and what the ranks say."""
    began = time.monotonic()
    processes = [_start(source, out, rank, world_size, row_seconds, rows_per_part) for rank in range(world_size)]
    printed = [process.communicate()[0] for process in processes]
    seconds = time.monotonic() - began
    for process in processes:
        if process.returncode:
            raise SystemExit(f"a rank ended with {process.returncode}")
    if not (out / "_SUCCESS").exists():
        raise SystemExit("nothing was published")
    return seconds, [json.loads(text.splitlines()[-1]) for text in printed]


def _measured_costs(folder: Path) -> Costs:
    """From one process by itself: on a few shards of one row, on many, and on a quarter of the input in two ways.

    What a step takes of a part of two sizes says what it takes of any.
    """
    few_shards, many_shards = SHARDS, 8 * SHARDS
    _write(folder / "few", few_shards, few_shards)
    _write(folder / "many", many_shards, many_shards)
    _run(folder / "few", folder / "warm", 1, 0.0)  # the disk's cache
    wall, (few,) = _run(folder / "few", folder / "few-out", 1, 0.0)
    _, (many,) = _run(folder / "many", folder / "many-out", 1, 0.0)
    quarter, shards = folder / "quarter", SHARDS // 4
    quarter.mkdir()
    for index in range(shards):
        (quarter / f"{index}.parquet").symlink_to(folder / f"in/{index}.parquet")
    _, (small,) = _run(quarter, folder / "small", 1, ROW_SECONDS)
    _, (large,) = _run(quarter, folder / "large", 1, ROW_SECONDS, rows_per_part=ROWS // SHARDS)
    steps = ("reading", "tokenizing", "parts", "shards", "open", "closing")
    start = max(0.0, few["processor"] - sum(few[step] for step in steps))
    for found in (small, large):
        found["main"] = max(0.0, found["processor"] - start - sum(found[step] for step in steps))
        found["merging"] = max(0.0, found["shards"] - shards * many["shards"] / many_shards)
    look_shard = max(0.0, many["closing"] - few["closing"]) / (many_shards - few_shards)
    manifest = max(0.0, few["closing"] - few_shards * look_shard)
    planning = json.loads((HERE / "results/planning.json").read_bytes())["rows"][0]
    return Costs(
        start=start,
        start_waiting=max(0.0, wall - few["processor"]),
        load_model=0.0,
        inspect_shard=planning["processor_seconds"] / planning["shards"],
        open_shard=many["open"] / many_shards,
        read=_per_part("reading", small, large),
        tokenize=_per_part("tokenizing", small, large),
        device_row=ROW_SECONDS,
        main=_per_part("main", small, large),
        commit=_per_part("parts", small, large),
        commit_part_waiting=0.0,
        merge=_per_part("merging", small, large),
        publish_shard=many["shards"] / many_shards,
        publish_shard_waiting=0.0,
        look_shard=look_shard,
        manifest=manifest,
        clear_part=max(0.0, small["closing"] - manifest - shards * look_shard) / small["part_count"],
        end=0.0,
    )


def _per_part(step: str, small: dict[str, float], large: dict[str, float]) -> PerPart:
    """The line through what the step took of parts of two sizes."""
    (few_rows, few_seconds), (many_rows, many_seconds) = (
        (found["rows"] / found["part_count"], found[step] / found["part_count"]) for found in (small, large)
    )
    row = max(0.0, many_seconds - few_seconds) / (many_rows - few_rows)
    return PerPart(max(0.0, few_seconds - row * few_rows), row)


def _check(costs: Costs, folder: Path, world_size: int) -> dict[str, Any]:
    """The model beside as many real processes."""
    seconds, _ = _run(folder / "in", folder / f"out-{world_size}", world_size, ROW_SECONDS)
    cores = len(os.sched_getaffinity(0))
    source = Input(SHARDS, ROWS // SHARDS, ROWS_PER_PART)
    outcome = simulate(costs, source, Cluster(world_size, tokenizers=1, cores=cores))
    return {
        "processes": world_size,
        "seconds": seconds,
        "simulated_seconds": outcome.seconds,
        "difference": outcome.seconds / seconds - 1,
        "efficiency": ROWS * ROW_SECONDS / (world_size * seconds),
    }


# --- beyond


def _on_gpus(costs: Costs) -> Costs:
    """The costs of a night. Reading and tokenizing at full speed are measured apart: slow runs do not show them."""
    tokenizing = json.loads((HERE / "results/tokenizing.json").read_bytes())["rows"][0]
    return replace(
        costs,
        read=PerPart(0.0, _read_row_seconds()),
        tokenize=PerPart(0.0, tokenizing["tokens_per_text"] / tokenizing["tokens_per_second"]["words"]),
        device_row=1 / GPU_ROWS_PER_SECOND,
        load_model=MODEL_SECONDS,
        commit_part_waiting=REQUEST_SECONDS,
        publish_shard_waiting=8 * REQUEST_SECONDS,
        look_shard=costs.look_shard + 4 * REQUEST_SECONDS,
        spread=0.05,
        dispatch=DISPATCH_SECONDS,
    )


def _read_row_seconds() -> float:
    """Of the reader's process by itself, on a shard of 80,000 reviews, the best of three."""
    from batchsent.records import ShardDigest
    from batchsent.stages.planner import plan_shards
    from batchsent.stages.reader import ReaderProcess, ReadRequest
    from batchsent.storage import signature

    with tempfile.TemporaryDirectory() as folder, ReaderProcess(lambda: None) as reader:
        texts = imdb_like_texts(4_000) * 20
        pq.write_table(pa.table({"text": texts}), Path(folder) / "texts.parquet")
        (shard,) = plan_shards((folder,), Path(folder) / "out")
        found = signature(shard.path)
        assert found is not None
        digest = ShardDigest("", found)
        request = ReadRequest(shard, "", digest, {}, "text", (), "utf-8", None, NIGHT.rows_per_part, None)
        seconds: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            count = sum(part.records.num_rows for part in reader.read(request))
            seconds.append((time.perf_counter() - began) / count)
    return min(seconds)


def _nights(on_gpus: Costs) -> list[dict[str, Any]]:
    return [
        {"replicas": count, "engine": engine, "rows": NIGHT.rows, **asdict(outcome)}
        for engine, pieces in (("ranks", None), ("ray", 16))
        for count in REPLICAS
        for outcome in [simulate(on_gpus, NIGHT, _cluster(count, pieces))]
    ]


def _cluster(count: int, pieces: int | None) -> Cluster:
    return Cluster(count, TOKENIZERS, is_device_ahead=True, looks_at_once=32, pieces=pieces)


if __name__ == "__main__":
    main()
