"""Which token budget is fastest on a CPU? What the rule for ``--batch-tokens auto`` rests on.

    python benchmarks/budget.py [--rows 100] [--rounds 3]

Bare forward passes of the embedded model and of DistilBERT's shape over the same texts, of IMDb's lengths, by each
backend in each precision that this CPU has instructions for; the budgets in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchsent.engines.encoding import make_encode
from batchsent.machine import available_cores, has_int8_dot_products, has_native_bf16
from batchsent.models.loading import load_model
from batchsent.tuning import forward_seconds
from common import imdb_like_texts, save
from contenders import Task
from contenders.engine import identity_of, source_of
from contenders.material import MODELS

BUDGETS = (256, 512, 1_024, 2_048, 4_096)
ENGINES = (
    *((backend, "fp32") for backend in ("torch", "openvino")),
    *((backend, "bf16") for backend in ("torch", "openvino") if has_native_bf16()),
    *((backend, "int8") for backend in ("openvino",) if has_int8_dot_products() is not False),
)


def main() -> None:
    """One engine after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = pa.chunked_array([imdb_like_texts(arguments.rows)])
    rows = list[dict[str, Any]]()
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            directory = make(Path(folder, "model"))
            for backend, precision in ENGINES:
                task = Task(directory, precision, "cpu", available_cores(), Path(folder), backend)
                rates = _rates(task, texts, arguments.rounds)
                rows.append({"model": name, "backend": backend, "precision": precision, "tokens_per_second": rates})
                print(rows[-1], flush=True)
    save(
        "budget_without_int8" if has_int8_dot_products() is False else "budget",
        {"texts": arguments.rows, "rounds": arguments.rounds, "rows": rows},
        beside=("openvino", "nncf"),
    )


def _rates(task: Task, texts: pa.ChunkedArray, round_count: int) -> dict[int, float]:
    """Budget → tokens/s, padding not counted; the budgets in turn, after a round that warms up."""
    source = source_of(task.model)
    identity = identity_of(task, source)
    model = load_model(identity, source.directory, task.device)
    parts = {budget: make_encode(source.directory, replace(identity, batch_tokens=budget))(texts) for budget in BUDGETS}
    seconds: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for round_index in range(round_count + 1):
        for budget, part in parts.items():
            taken = forward_seconds(model, part.batches)
            if round_index:
                seconds[budget].append(taken)
    return {budget: int(part.lengths.sum()) / statistics.median(seconds[budget]) for budget, part in parts.items()}


if __name__ == "__main__":
    main()
