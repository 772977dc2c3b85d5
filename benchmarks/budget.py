"""Which token budget is fastest on a CPU? What the rule for ``--batch-tokens auto`` rests on.

    python benchmarks/budget.py [--rows 300] [--rounds 3]

Bare forward passes of the embedded model over the same texts, cut by each budget, the budgets in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import pyarrow as pa

from batchsent.machine import available_cores
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.models.sequence_classification import SequenceClassifier
from batchsent.stages.batcher import batch_part
from batchsent.stages.encoder import Encoder
from common import review_texts, save

BUDGETS = (512, 1_024, 2_048, 4_096, 8_192)


def main() -> None:
    """Time every budget in every precision, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    encoder = Encoder(EMBEDDED_DIRECTORY, 512)
    encoded = encoder.encode(pa.chunked_array([review_texts(arguments.rows, words=(20, 400))]))
    tokens = sum(len(ids) for ids in encoded.ids)
    rows = []
    for precision in ("bf16", "fp32"):
        model = SequenceClassifier(EMBEDDED_DIRECTORY, precision=precision, device="cpu", threads=available_cores())
        seconds: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
        for round_index in range(arguments.rounds + 1):
            for budget in BUDGETS:
                part = batch_part(encoded, batch_tokens=budget, special_token_count=encoder.special_token_count)
                taken = _seconds(model, part)
                if round_index:  # the first round warms up
                    seconds[budget].append(taken)
        rows.append(
            {"precision": precision}
            | {"tokens_per_second": {budget: tokens / statistics.median(seconds[budget]) for budget in BUDGETS}}
        )
    save("budget", {"tokens": tokens, "rounds": arguments.rounds, "rows": rows})


def _seconds(model: SequenceClassifier, part: Any) -> float:
    began = time.perf_counter()
    for batch in part.batches:
        model.start(batch)()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
