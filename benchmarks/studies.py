"""How good are models of each family, fine-tuned or asked, on labelled reviews?

    python benchmarks/studies.py sst2 chinese    # studies of studies.toml; all of them if none is named

Runs the commands of a study in the working folder, which has ``data/`` (``examples/prepare_data.py``) and ``models/``
(docs/models.md says what and where from), and records what was found. A training that is over is not repeated.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import polars as pl

from common import HERE, save


def main() -> None:
    """Run the studies that are named."""
    studies: dict[str, dict[str, list[str]]] = tomllib.loads((HERE / "studies.toml").read_text(encoding="utf-8"))
    for name in sys.argv[1:] or list(studies):
        found = [{"command": command, **_outcome(command)} for command in studies[name]["commands"]]
        save(f"models_{name}", {"commands": found}, beside=("scikit-learn", "scipy", "accelerate", "peft"))


def _outcome(command: str) -> dict[str, Any]:
    """What ``command`` found out."""
    program, verb, *arguments = shlex.split(command)
    with tempfile.TemporaryDirectory() as folder:
        added = ["--output", folder, "--progress", "none"] if verb == "evaluate" else []
        subprocess.run([sys.executable, "-m", program, verb, *arguments, *added], check=True)
        if verb == "evaluate":
            content: dict[str, Any] = json.loads(Path(folder, "evaluation.json").read_bytes())
            return content
    return {"trainings": _trainings(Path(arguments[arguments.index("--output") + 1]))}


def _trainings(output: Path) -> list[dict[str, float]]:
    """Of a grid all of them, by its table; otherwise the one that there was."""
    if (output / "grid.csv").exists():
        return pl.read_csv(output / "grid.csv").to_dicts()
    settings, result = (
        json.loads((output / "_finetune" / name).read_bytes()) for name in ("config.json", "result.json")
    )
    metrics = result["summary"]["metrics"]
    return [
        {
            "learning_rate": settings["learning_rate"][0],
            "batch_size": settings["batch_size"][0],
            "accuracy": metrics["accuracy"],
            "loss": metrics["loss"],
            "seconds": result["summary"]["seconds"],
        }
    ]


if __name__ == "__main__":
    main()
