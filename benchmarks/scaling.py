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
from pathlib import Path
from typing import Any

from common import HERE, imdb_like_texts, save
from scaling_model import Cluster, Costs, Input, simulate

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
    arguments = parser.parse_args()
    if arguments.rank is not None:
        print(json.dumps(_rank(arguments.rank, arguments.row_seconds)))
        return
    if arguments.again:
        earlier = json.loads((HERE / "results/scaling.json").read_bytes())
        costs, checks = Costs(**earlier["costs"]), earlier["checks"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            _write(Path(folder) / "in", ROWS, SHARDS)
            _write(Path(folder) / "nothing", SHARDS, SHARDS)
            costs = _measured_costs(Path(folder))
            checks = [_check(costs, Path(folder), world_size) for world_size in WORLD_SIZES]
    save("scaling", {"costs": asdict(costs), "checks": checks, "nights": _nights(costs)}, beside=("simpy",))


def _write(folder: Path, rows: int, shards: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    texts, each = imdb_like_texts(rows), rows // shards
    for index in range(shards):
        table = pa.table({"text": texts[index * each : (index + 1) * each]})
        pq.write_table(table, folder / f"{index}.parquet")


# --- real processes


def _start(source: Path, out: Path, rank: int, world_size: int, row_seconds: float) -> subprocess.Popen[str]:
    launched = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    return subprocess.Popen(
        [sys.executable, __file__, "--rank", str(source), "--row-seconds", str(row_seconds)],
        env={**os.environ, **launched, "BATCHSENT_OUT": str(out)},
        stdout=subprocess.PIPE,
        text=True,
    )


def _rank(source: Path, row_seconds: float) -> dict[str, float]:
    """One rank of a run; what each step took it."""
    began_process = _process_age()
    import numpy as np
    import transformers  # noqa: F401 - with torch: what a real run has to import

    from batchsent import closing, ledger
    from batchsent.config import ScoreConfig
    from batchsent.engines import encoding, local
    from batchsent.job import run_job
    from batchsent.records import TokenBatch
    from batchsent.shares import share_from

    assert encoding
    assert local
    seconds: dict[str, float] = {"imported": _process_age() - 0 * began_process}
    timed = _Timed(seconds)
    ledger.write_part = timed("parts", ledger.write_part)  # type: ignore[attr-defined]
    ledger.commit_shard = timed("shards", ledger.commit_shard)  # type: ignore[attr-defined]
    ledger.Ledger.open = timed("open", ledger.Ledger.open)  # type: ignore[method-assign]
    closing.Closing.close = timed("closing", closing.Closing.close)  # type: ignore[method-assign]

    class Sleeper:
        """Answers when a device would."""

        in_flight = 0

        def full_precision_logits(self, batch: TokenBatch) -> Any:
            return (batch.lengths[:, None] % np.array([2, 3])[None, :]).astype(np.float32)

        def start(self, batch: TokenBatch) -> Any:
            time.sleep(row_seconds * len(batch.lengths))
            return lambda: self.full_precision_logits(batch)

    config = ScoreConfig(
        inputs=(str(source),),
        output=os.environ["BATCHSENT_OUT"],
        device="cpu",
        backend="torch",
        precision="fp32",
        threads=1,
        rows_per_part=ROWS_PER_PART,
        workers=1,
    )
    report = run_job(config, load_model=lambda *_: Sleeper(), share=share_from(os.environ))
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds | {
        "rows": report.record_count,
        "parts_count": report.part_count,
        "reading": report.stage_seconds.reading,
        "tokenizing": report.stage_seconds.tokenizing,
        "processor": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
    }


def _process_age() -> float:
    import psutil

    return time.time() - psutil.Process().create_time()


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


def _run(source: Path, out: Path, world_size: int, row_seconds: float) -> tuple[float, list[dict[str, float]]]:
    """Seconds from the first start to the last end, and what the ranks say."""
    began = time.monotonic()
    processes = [_start(source, out, rank, world_size, row_seconds) for rank in range(world_size)]
    printed = [process.communicate()[0] for process in processes]
    seconds = time.monotonic() - began
    for process in processes:
        if process.returncode:
            raise SystemExit(f"a rank ended with {process.returncode}")
    if not (out / "_SUCCESS").exists():
        raise SystemExit("nothing was published")
    return seconds, [json.loads(text.splitlines()[-1]) for text in printed]


def _measured_costs(folder: Path) -> Costs:
    """From one process by itself, on next to nothing and on a quarter of the input."""
    for number in range(2):  # the first one warms the disk's cache
        wall, (start,) = _run(folder / "nothing", folder / f"start-{number}", 1, 0.0)
    quarter = folder / "quarter"
    quarter.mkdir()
    for index in range(2):
        (quarter / f"{index}.parquet").symlink_to(folder / f"in/{index}.parquet")
    _, (work,) = _run(quarter, folder / "work", 1, ROW_SECONDS)
    rows, parts, shards = work["rows"], work["parts_count"], 2
    tokenize_row, read_row = work["tokenizing"] / rows, work["reading"] / rows
    merge_row = max(0.0, work["shards"] / shards - start["shards"] / SHARDS) / (rows / shards)
    stages = work["tokenizing"] + work["reading"] + work["parts"] + work["shards"] + work["open"] + work["closing"]
    main_row = max(0.0, work["processor"] - start["processor"] - stages) / rows
    few = start["shards"] + start["parts"] + start["open"] + start["closing"] + start["reading"] + start["tokenizing"]
    return Costs(
        start=max(0.0, start["processor"] - few),
        start_waiting=max(0.0, wall - start["processor"]),
        load_model=0.0,
        inspect_shard=0.0003,
        open_shard=start["open"] / SHARDS,
        read_row=read_row,
        tokenize_row=tokenize_row,
        device_row=ROW_SECONDS,
        main_row=main_row,
        commit_part=work["parts"] / parts,
        commit_part_waiting=0.0,
        merge_row=merge_row,
        publish_shard=start["shards"] / SHARDS,
        publish_shard_waiting=0.0,
        look_shard=start["closing"] / SHARDS / 2,
        manifest=start["closing"] / 2,
        clear_part=0.0,
        end=0.0,
    )


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


def _nights(costs: Costs) -> list[dict[str, Any]]:
    on_gpus = replace(
        costs,
        device_row=1 / GPU_ROWS_PER_SECOND,
        load_model=MODEL_SECONDS,
        commit_part_waiting=REQUEST_SECONDS,
        publish_shard_waiting=8 * REQUEST_SECONDS,
        look_shard=costs.look_shard + 4 * REQUEST_SECONDS,
        spread=0.05,
        dispatch=DISPATCH_SECONDS,
    )
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
