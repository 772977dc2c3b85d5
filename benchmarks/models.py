"""How good are models of each family, fine-tuned or asked, on labelled reviews?

    python benchmarks/models.py sst2 chinese    # studies of studies.toml; all of them if none is named

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
    output = arguments[arguments.index("--output") + 1]
    results = [json.loads(path.read_bytes()) for path in sorted(Path(output).glob("_finetune/runs/*/result.json"))]
    return {"trainings": [{k: v for k, v in result.items() if k != "history"} for result in results]}


if __name__ == "__main__":
    main()
