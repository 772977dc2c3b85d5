"""How much longer does the whole job take than the bare forward passes over the same batches?

    python benchmarks/overhead.py [--rows 800] [--rounds 5]

Both sides use the embedded model on the CPU in the precision that ``auto`` chooses, in processes of their own,
in turn. The job's time is from the loaded model to the last commit; the bare side has its batches ready.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import review_texts, save, write_csv


def main() -> None:
    """Run both sides in turn and compare them pair by pair."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=["bare", "job"])
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    if arguments.side:
        side = _bare if arguments.side == "bare" else _job
        print(json.dumps(side(Path(arguments.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "texts.csv", review_texts(arguments.rows, words=(20, 400)))
        pairs = []
        for _ in range(arguments.rounds):
            bare, job = (_measure(side, folder) for side in ("bare", "job"))
            pairs.append({"bare_seconds": bare, "job_seconds": job, "ratio": job / bare})
            print(pairs[-1], flush=True)
    ratios = [pair["ratio"] for pair in pairs]
    save(
        "overhead",
        {
            "rows": arguments.rows,
            "pairs": pairs,
            "median_ratio": statistics.median(ratios),
            "smallest_ratio": min(ratios),
            "largest_ratio": max(ratios),
        },
    )


def _measure(side: str, folder: str) -> float:
    command = [sys.executable, __file__, "--side", side, "--folder", folder]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout.splitlines()[-1])["seconds"])


def _bare(folder: Path) -> dict[str, float]:
    import pyarrow.csv

    from batchsent.config import ScoreConfig
    from batchsent.models.loading import load_model
    from batchsent.models.resolution import resolve_model, sha256_of
    from batchsent.resolve import resolve
    from batchsent.stages.batcher import batch_part
    from batchsent.stages.encoder import Encoder
    from batchsent.tuning import forward_seconds

    config = ScoreConfig(inputs=("-",), output="-")
    source = resolve_model("embedded", None, sha256_of)
    identity = resolve(config, source, "cpu")
    encoder = Encoder(source.directory, identity.max_length)
    text = pyarrow.csv.read_csv(folder / "texts.csv").column("text")
    parts = [
        batch_part(
            encoder.encode(text.slice(start, identity.rows_per_part)),
            batch_tokens=identity.batch_tokens,
            special_token_count=encoder.special_token_count,
        )
        for start in range(0, len(text), identity.rows_per_part)
    ]
    model = load_model(identity, source.directory, "cpu")
    return {"seconds": forward_seconds(model, [batch for part in parts for batch in part.batches])}


def _job(folder: Path) -> dict[str, float]:
    import batchsent

    shutil.rmtree(folder / "scored", ignore_errors=True)
    report = batchsent.score(str(folder / "texts.csv"), output=str(folder / "scored"), device="cpu")
    return {"seconds": report.scoring_seconds}


if __name__ == "__main__":
    main()
