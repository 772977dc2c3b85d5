"""``batchsent score`` as a user runs it: a process from Parquet to Parquet, with its start-up and its commits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contenders import Answer, Ready, Score, Setting, Task
from contenders.engine import options


def load(task: Task) -> Ready:
    """Nothing: the process loads its model itself, every time."""
    arguments = [f"--{name}={value}" for name, value in options(task).items()]

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        folder = Path(tempfile.mkdtemp(dir=task.folder))
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "texts.parquet")
        output = folder / "scored"
        command = [sys.executable, "-m", "batchsent", "score", str(folder / "texts.parquet"), f"--output={output}"]
        command += [*arguments, f"--batch-tokens={setting['batch_tokens']}", "--progress=none"]

        def score() -> Answer:
            shutil.rmtree(output, ignore_errors=True)
            result = subprocess.run(command, check=False, capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(result.stderr.strip().splitlines()[-1])
            [report] = (output / "_batchsent" / "runs").glob("*.json")
            probabilities = pq.read_table(output / "texts.parquet").column("probabilities").combine_chunks()
            return Answer(
                np.stack([column.to_numpy() for column in probabilities.flatten()], axis=1),
                json.loads(report.read_bytes())["scoring_seconds"],
            )

        return score

    return ready
