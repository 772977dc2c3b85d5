"""Which token budget is fastest on a CPU? What the rule for ``--batch-tokens auto`` rests on.

    python benchmarks/budget.py [--rows 100] [--rounds 3]

Bare forward passes of the embedded model over the same texts, of IMDb's lengths, by each backend in each precision;
the budgets in turn.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import pyarrow as pa

from batchsent.config import ScoreConfig
from batchsent.machine import has_native_bf16
from batchsent.models.graphs import calibration_version
from batchsent.models.loading import load_model
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.resolve import resolve
from batchsent.stages.batcher import batch_part
from batchsent.stages.encoder import Encoder
from batchsent.tuning import forward_seconds
from common import imdb_like_texts, save

BUDGETS = (256, 512, 1_024, 2_048, 4_096)
ENGINES = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")]


def main() -> None:
    """Time every budget of every engine, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    source = resolve_model("embedded", None, sha256_of)
    identity = resolve(ScoreConfig(inputs=("-",), output="-"), source, "cpu")
    encoder = Encoder(source.directory, identity.max_length)
    encoded = encoder.encode(pa.chunked_array([imdb_like_texts(arguments.rows)]))
    tokens = sum(map(len, encoded.ids))
    batches = {
        budget: batch_part(encoded, batch_tokens=budget, special_token_count=encoder.special_token_count).batches
        for budget in BUDGETS
    }
    rows = []
    for backend, precision in ENGINES if has_native_bf16() else [e for e in ENGINES if e[1] != "bf16"]:
        calibration = calibration_version() if precision == "int8" else None
        setting = replace(identity, backend=backend, precision=precision, calibration_texts=calibration)
        model = load_model(setting, source.directory, "cpu")
        seconds: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
        for round_index in range(arguments.rounds + 1):
            for budget in BUDGETS:
                taken = forward_seconds(model, batches[budget])
                if round_index:  # the first round warms up
                    seconds[budget].append(taken)
        rates = {budget: tokens / statistics.median(seconds[budget]) for budget in BUDGETS}
        rows.append({"backend": backend, "precision": precision, "tokens_per_second": rates})
        print(rows[-1], flush=True)
    save(
        "budget",
        {"tokens": tokens, "rounds": arguments.rounds, "threads": identity.threads, "rows": rows},
        beside=("openvino", "nncf"),
    )


if __name__ == "__main__":
    main()
