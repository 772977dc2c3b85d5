"""What an evaluation leaves behind: evaluation.json, the worst errors, pictures, the temperature."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from batchsent.calibration import Calibration
from batchsent.errors import UsageError
from batchsent.evaluation.config import EvaluateConfig
from batchsent.evaluation.results import Evaluation
from batchsent.reporting.run_report import library_versions
from batchsent.stages.planner import local_path, place
from batchsent.storage import require_writable, write_file

EVALUATION, WORST_ERRORS = "evaluation.json", "worst-errors.csv"


def require_places(config: EvaluateConfig) -> None:
    """See that what ``config`` asks for can be written, before it costs anything. Raises UsageError if it cannot."""
    folder = _folder(config)
    if folder is not None:
        for given in config.scoring.inputs:
            root = Path(place(given, "INPUT"))
            if root.is_dir() and folder.is_relative_to(root.resolve()):
                raise UsageError(
                    f"--output {folder} is in the INPUT {root}, which would hold it the next time",
                    "a directory elsewhere",
                    "choose another",
                )
        require_writable(folder)
    if config.calibrate is not None:
        path = _calibration_path(config.calibrate)
        if path.is_dir():
            raise UsageError(f"--calibrate {path} is a directory", "a file", "name a file in it")
        require_writable(path.parent)


def write(evaluation: Evaluation, config: EvaluateConfig) -> None:
    """Every file that ``config`` asks for, each all or nothing."""
    fit = evaluation.temperature
    if config.calibrate is not None and fit is not None:
        setting = evaluation.models[0].setting
        calibration = Calibration(fit.temperature, setting.model, setting.version, setting.asked, fit.row_count)
        write_file(_calibration_path(config.calibrate), calibration.to_json())
    folder = _folder(config)
    if folder is None:
        return
    content = {"versions": library_versions("scikit-learn", "scipy"), **evaluation.to_dict()}
    data = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_file(folder / EVALUATION, data.encode() + b"\n")
    write_file(folder / WORST_ERRORS, _worst_errors(evaluation).encode())
    for name, picture in _pictures(evaluation).items():
        write_file(folder / name, picture)


def _folder(config: EvaluateConfig) -> Path | None:
    return None if config.output is None else Path(local_path(config.output, "--output")).resolve()


def _calibration_path(path: str) -> Path:
    return Path(local_path(path, "--calibrate")).absolute()


def _worst_errors(evaluation: Evaluation) -> str:
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["model", "shard", "row_index", "truth", "label", "probability", "text"])
    for model in evaluation.models:
        for error in model.worst:
            place = [model.name, error.shard, error.row_index, error.truth, error.label]
            writer.writerow([*place, f"{error.probability:.6f}", error.review])
    return content.getvalue()


def _pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """Name → content."""
    from batchsent.evaluation.pictures import confusion_picture, reliability_picture
    from batchsent.reporting.drawing import files_of

    found: dict[str, bytes] = {}
    for model, name in zip(evaluation.models, _file_names(evaluation), strict=True):
        figures = {"reliability": reliability_picture(model), "confusion": confusion_picture(model)}
        for kind, figure in figures.items():
            if figure is not None:
                found |= files_of(f"{kind}-{name}", figure)
    return found


def _file_names(evaluation: Evaluation) -> list[str]:
    """Of each model's pictures: its name, as far as it may stand in one, and a number where two are alike."""
    names: list[str] = []
    for model in evaluation.models:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip("-.") or "model"
        candidates = (plain, *(f"{plain}-{number}" for number in range(2, len(evaluation.models) + 2)))
        names.append(next(name for name in candidates if name not in names))
    return names
