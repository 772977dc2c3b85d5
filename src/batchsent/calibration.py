"""A temperature that was fitted to labelled data, as a file: ``evaluate --calibrate`` writes it, ``score`` reads it.

Dividing the logits by it leaves every label as it is and makes probabilities say how often they are right (Guo et al.
2017). It holds for one model, asked by one prompt, so the file says which it was fitted to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from batchsent.errors import UsageError


@dataclass(frozen=True)
class Calibration:
    """What the file says."""

    temperature: float
    model: str
    """Its name, for people."""
    model_version: str
    """The commit, or the hash over the model's file hashes."""
    asked: str | None
    """How the model is asked, see :func:`asked_by`; None where a classification head answers."""
    row_count: int
    """Labelled texts that it was fitted to."""

    def to_json(self) -> bytes:
        """The bytes of the file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def read_calibration(path: str) -> Calibration:
    """Raises UsageError if ``path`` is not such a file."""
    try:
        values = json.loads(Path(path).read_bytes())
        found = Calibration(**values)
        is_temperature = math.isfinite(found.temperature) and found.temperature > 0
    except OSError as error:
        raise UsageError(
            f"--calibration {path} cannot be read ({error.strerror})",
            "a file of 'evaluate --calibrate'",
            "check the path",
        ) from error
    except (ValueError, TypeError):
        is_temperature = False
    if not is_temperature:
        raise UsageError(
            f"--calibration {path} is not a calibration", "a file of 'evaluate --calibrate'", "fit one, or drop it"
        )
    return found


def asked_by(template: str | None, words: Sequence[str], *, is_calibrated: bool) -> str | None:
    """All of a prompt that decides the logits, on one line; None without one."""
    if template is None:
        return None
    return f"{template} → {', '.join(words)}{' (calibrated)' if is_calibrated else ''}"


def temperature_of(path: str | None, model_version: str, asked: str | None) -> float | None:
    """The temperature in ``path`` for the model of ``model_version``, ``asked`` so; None without a path.

    Raises UsageError if it was fitted to another model, or with another prompt.
    """
    if path is None:
        return None
    found = read_calibration(path)
    if found.model_version != model_version:
        raise UsageError(
            f"--calibration {path} was fitted to {found.model} ({found.model_version[:19]})",
            f"one for this model ({model_version[:19]})",
            "fit one with 'evaluate --calibrate'",
        )
    if found.asked != asked:
        raise UsageError(
            f"--calibration {path} was fitted with the prompt {found.asked!r}",
            f"one for {asked!r}",
            "fit one with 'evaluate --calibrate' and this prompt",
        )
    return found.temperature
