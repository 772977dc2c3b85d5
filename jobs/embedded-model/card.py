"""The front page of the model: what it is, how it was trained, how good it is, whether it replaces the shipped one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import base_model
from batchsent.models.resolution import sha256_of
from batchsent.models.weights import WEIGHTS
from batchsent.reporting.progress import spoken_seconds
from batchsent.training.run import Finished
from trials import Outcome, missed, rule, shipped_sha256

_PAGE = """\
# Model card: `embedded`

The classifier that `batchsent score` uses unless told otherwise: NEGATIVE or POSITIVE for an English review.
Made by `jobs/embedded-model`.

| | |
|---|---|
| architecture | {architecture} |
| base | {base} (Apache-2.0), itself from nreimers/MiniLM-L6-H384-uncased; SHA-256 `{base_sha256}` |
| weights | `{weights}`, {precision}, SHA-256 `{sha256}` |
| labels | {labels} (softmax) |
| licence | Apache-2.0; see NOTICE |

**Training.** {training}

**Accuracy** in fp32, beside the model that was in the package (SHA-256 `{shipped_sha256}`):

{table}

p is that of McNemar's exact test between the two. None of these texts was trained on, nor chose the state of the
training that was kept.{seen}

**The rule** for taking the place of the model in the package: {rule}. {verdict}

**Limits.** English only: other languages end in unknown tokens and near-random labels (the job warns). It was
trained on films. Plain shop reviews are close; irony, and praise that tells of a defect, are not: see the accuracy on
the example reviews of `make demo`, which are odd on purpose. It has no neutral class: a lukewarm review gets one of
the two labels with a low probability. Label smoothing leaves it under-confident: probabilities are rather too close to
one half than too far from it.
"""

_SEEN = """ The model in the package was trained on most of the IMDb reviews: "unseen" is what it got
right of those that it had held back itself, which are others; the points are over that."""


@dataclass(frozen=True)
class Made:
    """A model, and what it came of."""

    directory: Path
    finished: Finished
    device: str
    """In words."""
    outcomes: Sequence[Outcome]
    limit: int | None
    """Of the texts, where this is a rehearsal."""


def card(made: Made) -> str:
    """The content of README.md."""
    settings = made.finished.settings
    return _PAGE.format(
        architecture=_architecture(made.directory),
        base=base_model.NAME,
        base_sha256=settings.base_files[WEIGHTS],
        weights=WEIGHTS,
        precision=settings.weights,
        sha256=sha256_of(str(made.directory / WEIGHTS)),
        labels=", ".join(f"{index} `{name}`" for index, name in enumerate(made.finished.labels)),
        training=_training(made),
        shipped_sha256=shipped_sha256(),
        table="\n".join(table(made.outcomes)),
        seen=_SEEN if any(outcome.unseen_accuracy is not None for outcome in made.outcomes) else "",
        rule=rule(made.outcomes),
        verdict=verdict(made.outcomes, made.limit),
    )


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines of Markdown."""
    header = ("set", "rows", "accuracy", "before", "p", "before, unseen", "points", "expected calibration error")
    rows = [
        (
            o.name,
            f"{o.row_count:,}",
            f"{o.accuracy:.1%}",
            f"{o.shipped_accuracy:.1%}",
            "< 0.001" if o.p_value < 0.001 else f"{o.p_value:.3f}",
            "the same" if o.unseen_accuracy is None else f"{o.unseen_accuracy:.1%}",
            f"{100 * o.gain:+.1f}",
            f"{o.calibration_error:.1%}",
        )
        for o in outcomes
    ]
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]


def verdict(outcomes: Sequence[Outcome], limit: int | None) -> str:
    """Whether the new model takes the place of the one in the package."""
    if limit is not None:
        return f"This is a rehearsal with {limit:,} texts: nothing follows from it."
    against = ", ".join(f"{100 * outcome.gain:+.1f} points on {outcome.name}" for outcome in missed(outcomes))
    return f"It is not met: {against}." if against else "It is met."


def _architecture(directory: Path) -> str:
    from safetensors import safe_open

    config = json.loads((directory / "config.json").read_bytes())
    with safe_open(directory / WEIGHTS, framework="np") as tensors:
        count = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no dict
    return (
        f"BERT, {config['num_hidden_layers']} layers, hidden size {config['hidden_size']}, "
        f"{config['num_attention_heads']} heads, {count / 1e6:.1f} M parameters, "
        f"{config['max_position_embeddings']} tokens, uncased WordPiece"
    )


def _training(made: Made) -> str:
    settings, summary = made.finished.settings, made.finished.summary
    passes = f"{settings.epochs} pass{'es' * (settings.epochs != 1)}"
    return (
        f"{spoken_seconds(summary['seconds'])} on {made.device}: {passes} over "
        f"{summary['training_count']:,} texts, the training phrases of GLUE SST-2 (Socher et al. 2013) and IMDb's "
        f"training reviews (Maas et al. 2011), of these a random window of {settings.max_length} tokens in each pass; "
        f"{summary['validation_count']:,} more chose the state that was kept. AdamW, peak learning rate "
        f"{settings.learning_rate[0]:g}, {settings.warmup_share:.0%} warm-up, linear decay, "
        f"{settings.batch_size[0]} texts a batch, label smoothing {settings.label_smoothing:g}, {settings.precision}, "
        f"seed {settings.seed}. Settings' fingerprint `{settings.fingerprint}`, data `{settings.data_sha256}`."
    )
