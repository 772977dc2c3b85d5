"""What the Trainer leaves in the folder of a training: which checkpoint is the latest, and whether it is the last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

_STATE = "trainer_state.json"


def latest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end; later ones that were not are removed.

    The Trainer writes its state last, and only then removes older checkpoints.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            state_of(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
            continue
        return checkpoint
    return None


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Where the Trainer was. Raises OSError or ValueError if that was not written to its end."""
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_bytes())
    return state


def is_evaluated(history: Iterable[Mapping[str, Any]], step: int) -> bool:
    """Whether a training's log has the evaluation after ``step`` steps."""
    return any("eval_loss" in entry and entry["step"] == step for entry in history)


def is_over(state: Mapping[str, Any], step_count: int, patience: int) -> bool:
    """Whether a checkpoint's ``state`` is that of a training which has ended, by itself or early."""
    step = state["global_step"]
    if step >= step_count and is_evaluated(state["log_history"], step):
        return True
    early = state["stateful_callbacks"].get(EarlyStoppingCallback.__name__, {})
    return bool(patience) and early.get("attributes", {}).get("early_stopping_patience_counter", 0) >= patience
