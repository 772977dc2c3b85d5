"""The tables of docs/models.md: what ``studies.py`` and ``prompts.py`` have recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]

NOT_RUN = "  # not run by the tests: needs data and models"


def evaluations(result: Result) -> list[str]:
    """The commands, a line for every model of each, and how sure the differences within one are."""
    found = result["commands"]
    lines = _shell(found)
    lines += ["| model | accuracy (95% interval) | macro F1 | ROC AUC | calibration error | reviews/s | by |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [
        _model(model, own) for one, own in zip(found, _own_options(found), strict=True) for model in one["models"]
    ]
    rows = found[0]["rows"]
    lines += ["", f"{rows['judged_count']:,} of {rows['record_count']:,} records."]
    differences = [_difference(compared) for one in found for compared in one["comparisons"]]
    return [*lines, "", "McNemar's test:", "", *differences] if differences else lines


def trainings(result: Result) -> list[str]:
    """The commands, and what each training came to on its validation texts."""
    found = result["commands"]
    lines = _shell(found)
    lines += ["| model | learning rate | batch size | accuracy | loss | minutes |", "|---|---|---|---|---|---|"]
    return lines + [_training(_option(one["command"], "output"), each) for one in found for each in one["trainings"]]


def prompts(result: Result) -> list[str]:
    """The wordings, the best of each kind of model first."""
    asked: dict[tuple[str, str, str], dict[bool, float]] = {}
    for row in result["rows"]:
        key = (row["kind"], row["template"].replace("\n", "\\n"), ", ".join(row["words"]))
        asked.setdefault(key, {})[row["calibrate_prompt"]] = row["accuracy"]
    ordered = sorted(asked.items(), key=lambda one: (one[0][0], -max(one[1].values())))
    lines = ["| asked as | template | words | accuracy | with `--calibrate-prompt` |", "|---|---|---|---|---|"]
    lines += [
        f"| {kind} | `{template}` | {words} | {found[False]:.1%} | {found[True]:.1%} |"
        for (kind, template, words), found in ordered
    ]
    return [*lines, "", f"{result['rows'][0]['rows']:,} training texts."]


def _shell(found: Iterable[Result]) -> list[str]:
    return ["```sh", *(one["command"] + NOT_RUN for one in found), "```", ""]


def _own_options(found: list[Result]) -> list[str]:
    """Of each command the options that not all have, but for the models: they have a line each."""
    options = [[o for o in one["command"].split(" --")[1:] if not o.startswith("model ")] for one in found]
    shared = set.intersection(*map(set, options))
    return [" ".join(f"`--{option}`" for option in own if option not in shared) for own in options]


def _option(command: str, name: str) -> str:
    return command.partition(f"--{name} ")[2].partition(" ")[0]


def _model(model: Result, options: str) -> str:
    metrics, setting = model["metrics"], model["setting"]
    between = metrics["accuracy_interval"]
    cells = (
        f"{model['name']} {options}".strip(),
        f"**{metrics['accuracy']:.1%}**" + (f" ({between['low']:.1%} to {between['high']:.1%})" if between else ""),
        f"{metrics['macro_f1']:.3f}",
        "" if metrics["roc_auc"] is None else f"{metrics['roc_auc']:.3f}",
        f"{metrics['calibration_error']:.1%}",
        f"{model['rows_per_second']:,.1f}",
        f"{setting['backend']}, {setting['precision']}",
    )
    return f"| {' | '.join(cells)} |"


def _difference(compared: Result) -> str:
    first, second = compared["first"], compared["second"]
    counts = f"{compared['first_only']} rows where only the first is right, {compared['second_only']} the other way"
    return f"- {first} and {second}: {counts}, p = {compared['p_value']:.2g}"


def _training(output: str, training: Result) -> str:
    cells = (
        output,
        f"{training['learning_rate']:g}",
        str(training["batch_size"]),
        f"**{training['accuracy']:.1%}**",
        f"{training['loss']:.3f}",
        f"{training['seconds'] / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |"
