"""What is it worth to keep GELU out of the matrix product before it, by OpenVINO in fp32?

    python benchmarks/gelu.py [--rows 64] [--rounds 7]

Bare forward passes over texts of IMDb's lengths, of graphs as OpenVINO compiles them and of those with GELU apart; the
two in turn. On any CPU, whatever the rule chooses there.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa

from batchsent.engines.encoding import make_encode
from batchsent.machine import available_cores
from batchsent.models import openvino
from batchsent.models.loading import load_model
from batchsent.tuning import forward_seconds
from common import imdb_like_texts, save
from contenders import Task
from contenders.engine import identity_of, source_of
from contenders.material import MODELS


def main() -> None:
    """One model after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    texts = pa.chunked_array([imdb_like_texts(arguments.rows)])
    rows = []
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            task = Task(make(Path(folder, "model")), "fp32", "cpu", available_cores(), Path(folder), "openvino")
            rows.append({"model": name, **_compared(task, texts, arguments.rounds)})
            print(rows[-1], flush=True)
    save("gelu", {"texts": arguments.rows, "rows": rows}, beside=("openvino",))


def _compared(task: Task, texts: pa.ChunkedArray, round_count: int) -> dict[str, list[float] | float]:
    """Tokens/s of both, every round, and the median of how many times as fast GELU apart was."""
    source = source_of(task.model)
    identity = identity_of(task, source)
    part = make_encode(source.directory, identity)(texts)
    models = {}
    for is_apart in (False, True):
        with patch.object(openvino, "is_avx2_widest", lambda is_apart=is_apart: is_apart):
            models[is_apart] = load_model(identity, source.directory, task.device)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for round_index in range(round_count + 1):
        for is_apart, model in models.items():
            rate = int(part.lengths.sum()) / forward_seconds(model, part.batches)
            if round_index:  # the first round warms up
                rates[is_apart].append(rate)
    ratio = statistics.median(apart / within for within, apart in zip(rates[False], rates[True], strict=True))
    return {"within": rates[False], "apart": rates[True], "median_ratio": ratio}


if __name__ == "__main__":
    main()
