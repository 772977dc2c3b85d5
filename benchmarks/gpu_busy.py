"""How busy is the GPU while a job scores?

    python benchmarks/gpu_busy.py [--rows 100000]

DistilBERT's shape on texts of IMDb's lengths, from Parquet to Parquet. What counts are nvidia-smi's samples between the
first tokens and the last commit. To hold: 90% of the time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common import save
from contenders.material import distilbert, texts_of
from contenders.plain_torch import device_name

WAYS = (("fp16", "padded"), ("fp16", "packed"), ("fp16-weights", "packed"))
INTERVAL_MS = 50
QUERY = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--loop-ms={INTERVAL_MS}")


def main() -> None:
    """One job after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, source = distilbert(Path(folder, "model")), Path(folder, "texts.parquet")
        pq.write_table(pa.table({"text": texts_of(None, "text", arguments.rows)}), source)
        rows = []
        for precision, batching in WAYS:
            rows.append(_watched(source, Path(folder, f"{precision}-{batching}"), model, precision, batching))
            print(rows[-1], flush=True)
            save("gpu_busy", {"gpu": device_name("cuda"), "rows": rows}, folder=arguments.results)


def _watched(source: Path, output: Path, model: Path, precision: str, batching: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "batchsent", "score", str(source), f"--output={output}", f"--model={model}"]
    command += ["--device=cuda", f"--precision={precision}", f"--batching={batching}", "--progress=none"]
    samples: list[tuple[float, int]] = []
    with subprocess.Popen(QUERY, stdout=subprocess.PIPE, text=True) as watcher:
        thread = threading.Thread(target=_take, args=(watcher, samples), daemon=True)
        thread.start()
        subprocess.run(command, check=True, stderr=subprocess.PIPE)
        watcher.terminate()
    thread.join()
    [record] = (output / "_batchsent/runs").iterdir()
    run = json.loads(record.read_bytes())
    end = (output / source.name).stat().st_mtime
    busy = [share for at, share in samples if end - run["scoring_seconds"] <= at <= end]
    return {
        "precision": precision,
        "batching": batching,
        "records": run["record_count"],
        "tokens": run["token_count"],
        "seconds": run["seconds"],
        "scoring_seconds": run["scoring_seconds"],
        "samples": len(busy),
        "busy": sum(busy) / max(1, len(busy)) / 100,
        "stages": run["stage_seconds"],
    }


def _take(watcher: subprocess.Popen[str], samples: list[tuple[float, int]]) -> None:
    samples.extend((time.time(), int(line)) for line in watcher.stdout or ())


if __name__ == "__main__":
    main()
