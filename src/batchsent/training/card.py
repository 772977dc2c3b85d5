"""The model card: README.md of a trained model. What it was made of and how, how good it is, where it was made.

Holds counts, names and hashes, never a text.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from batchsent.errors import without_secrets
from batchsent.machine import cpu_model
from batchsent.reporting.run_report import library_versions
from batchsent.training.grid import Result, table
from batchsent.training.labels import Target, label_counts
from batchsent.training.metrics import COUNTS, LabelQuality, label_qualities
from batchsent.training.settings import Settings

_TRAINED = {
    "full": "all weights",
    "lora": "LoRA adapters of rank {rank} beside the encoder's matrices, merged, and the head",
    "head": "the head only; the encoder is the base model's",
}


@dataclass(frozen=True)
class Facts:
    """What a card says beyond the settings and the results."""

    labels: tuple[str, ...]
    training_targets: Sequence[Target]
    validation_targets: Sequence[Target]
    left_out: dict[str, int]
    parameter_counts: tuple[int, int]
    """(trained, all)"""
    device: str


def card(settings: Settings, facts: Facts, results: Sequence[Result], best: Result) -> bytes:
    """The bytes of README.md."""
    sections = [
        _head(settings, facts),
        _quality(settings, facts, best),
        _data(settings, facts),
        _training(settings, facts, best),
        _grid(settings, results, best),
        _environment(facts, results),
    ]
    return "\n".join(line for section in sections for line in section).encode()


def _head(settings: Settings, facts: Facts) -> list[str]:
    metadata = ["---", "library_name: transformers", "pipeline_tag: text-classification"]
    if settings.base_revision:  # then it is a name on the hub
        metadata.append(f"base_model: {settings.base_model}")
    kind = "any of the labels" if settings.multi_label else "one of the labels"
    return [
        *metadata,
        "tags: [batchsent]",
        "---",
        "",
        "# Model card",
        "",
        f"Gives a text {kind} {', '.join(f'`{_plain(label)}`' for label in facts.labels)}. Fine-tuned from "
        f"`{_plain(settings.base_model)}` by `batchsent finetune`.",
        "",
        "```sh",
        f"batchsent score reviews.csv --output scored --model DIR --max-length {settings.max_length}",
        "```",
        "",
    ]


def _quality(settings: Settings, facts: Facts, best: Result) -> list[str]:
    metrics = best.metrics
    single = [("accuracy", "accuracy"), ("macro F1", "f1_macro")]
    several = [("micro F1", "f1_micro"), ("macro F1", "f1_macro"), ("all labels of a text right", "accuracy")]
    named = [(name, f"{metrics[key]:.4f}") for name, key in (several if settings.multi_label else single)]
    qualities: list[LabelQuality] = label_qualities(metrics[COUNTS], multi_label=settings.multi_label)
    rows = [
        (f"`{_plain(label)}`", f"{q.text_count:,}", f"{q.precision:.4f}", f"{q.recall:.4f}", f"{q.f1:.4f}")
        for label, q in zip(facts.labels, qualities, strict=True)
    ]
    return [
        f"## On the {len(facts.validation_targets):,} validation texts",
        "",
        "They chose which state of the training was kept, so a set of its own would say a little less.",
        "",
        *_lines(("", ""), [*named, ("loss", f"{metrics['loss']:.4f}")]),
        "",
        *_lines(("label", "texts", "precision", "recall", "F1"), rows),
        "",
        "![learning curves](curves.svg)",
        "",
    ]


def _data(settings: Settings, facts: Facts) -> list[str]:
    files = [*settings.input_files.items(), *settings.validation_files.items()]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in facts.left_out.items() if count)
    share = settings.validation_share
    rows = [
        ("texts to train on", _labelled(facts.labels, facts.training_targets)),
        ("texts to validate with", _labelled(facts.labels, facts.validation_targets)),
        ("validation", "files of its own" if share is None else f"a share of {share:g} of the texts, by the seed"),
        ("left out", left_out or "none"),
        ("data hash", f"`{settings.data_sha256}` (SHA-256 over the files' hashes)"),
        *((f"`{_plain(name)}`", f"`{sha256}`") for name, sha256 in files[:20]),
    ]
    if len(files) > 20:
        rows.append(("", f"and {len(files) - 20:,} more files"))
    return ["## Data", "", *_lines(("", ""), rows), ""]


def _labelled(labels: Sequence[str], targets: Sequence[Target]) -> str:
    """How many texts there are, and how many have each label."""
    counts = label_counts(targets, len(labels))
    by_label = ", ".join(f"{count:,} {_plain(label)}" for label, count in zip(labels, counts, strict=True))
    return f"{len(targets):,} ({by_label})"


def _training(settings: Settings, facts: Facts, best: Result) -> list[str]:
    trained, whole = facts.parameter_counts
    rows: list[tuple[str, Any]] = [
        ("base model", f"`{_plain(settings.base_model)}`"),
        ("its revision", f"`{settings.base_revision}`" if settings.base_revision else "a directory; files by hash:"),
        *((f"`{name}`", f"`{sha256}`") for name, sha256 in settings.base_files.items()),
        ("trained", _TRAINED[settings.method].format(rank=settings.lora_rank)),
        ("parameters", f"{trained:,} trained of {whole:,}"),
        ("tokens of a text", f"at most {settings.max_length}" + (", a random window" if settings.random_crop else "")),
        ("peak learning rate", f"{best.point.learning_rate:g}"),
        ("its course", f"up in {settings.warmup_share:.0%} of the steps, then down to 0, linearly"),
        (
            "batch size",
            f"{best.point.batch_size}"
            + (f" in each of {settings.accumulate} passes" if settings.accumulate > 1 else ""),
        ),
        ("epochs", f"at most {settings.epochs}; kept: the state after {best.epoch:.2f} (step {best.step})"),
        ("optimizer", f"AdamW, weight decay {settings.weight_decay:g}"),
        ("label smoothing", f"{settings.label_smoothing:g}"),
        ("precision", f"{settings.precision}; weights saved in {settings.weights}"),
        ("seed", settings.seed),
        ("settings' fingerprint", f"`{settings.fingerprint}`"),
    ]
    return ["## Training", "", *_lines(("", ""), rows), ""]


def _batch(settings: Settings, best: Result) -> str:
    passes = f", {settings.accumulate} passes for a step" if settings.accumulate > 1 else ""
    return f"{best.point.batch_size}{passes}"


def _grid(settings: Settings, results: Sequence[Result], best: Result) -> list[str]:
    if len(results) == 1:
        return []
    header, *rows = table(results, settings.multi_label)
    marked = [
        tuple(f"**{cell}**" for cell in row) if result is best else row
        for row, result in zip(rows, results, strict=True)
    ]
    return ["## What was tried", "", *_lines(header, marked), "", "![heat map](grid.svg)", ""]


def _environment(facts: Facts, results: Sequence[Result]) -> list[str]:
    versions = library_versions("accelerate", "peft", "scikit-learn")
    rows = [
        ("device", facts.device),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("time", f"{sum(result.seconds for result in results):,.0f} s of training and validation"),
    ]
    return ["## Environment", "", *_lines(("", ""), rows), ""]


def device_name(device: str, threads: int) -> str:
    """What computed, for people."""
    if device != "cpu":
        import torch

        return str(torch.cuda.get_device_name(device))
    return f"{cpu_model()}, {threads} thread{'s' * (threads != 1)}"


def _lines(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _plain(text: str) -> str:
    """A name in a table: one line, no passwords, no column that it would begin."""
    return " ".join(without_secrets(text).split()).replace("|", "\\|").replace("`", "'")
