"""The bare engine in a process that has just begun, as that of ``batchsent score`` has: the job's fair measure.

A library prepares itself for every shape of batch that it meets the first time; an engine that has scored the same
texts before has that behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from contenders import Answer, Ready, Score, Setting, Task, engine


def load(task: Task) -> Ready:
    """Nothing: every process loads the model itself."""

    def ready(texts: Sequence[str], setting: Setting) -> Score:
        folder = Path(tempfile.mkdtemp(dir=task.folder))
        asked = {"task": asdict(task) | {"model": str(task.model), "folder": str(task.folder)}}
        content = json.dumps(asked | {"texts": list(texts), "setting": setting})
        (folder / "asked.json").write_text(content, encoding="utf-8")

        def score() -> Answer:
            command = [sys.executable, "-m", "contenders.new_engine", str(folder)]
            result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            if result.returncode:
                raise RuntimeError(result.stderr.strip().splitlines()[-1])
            found = np.load(folder / "found.npz")
            return Answer(found["probabilities"], float(found["seconds"]))

        return score

    return ready


def main() -> None:
    """Score the texts of the folder that is named."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_bytes())
    given = asked["task"]
    task = Task(**given | {"model": Path(given["model"]), "folder": Path(given["folder"])})
    score = engine.load(task)(asked["texts"], asked["setting"])
    began = time.perf_counter()
    answer = score()
    seconds = time.perf_counter() - began
    np.savez(folder / "found.npz", probabilities=np.asarray(answer.probabilities), seconds=seconds)


if __name__ == "__main__":
    main()
