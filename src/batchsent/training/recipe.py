"""What the user asks for, as a frozen value: every option of ``batchsent finetune``, once.

Knows the options and their limits. Does not read files, look at the machine or load a model.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchsent.errors import UsageError
from batchsent.options import AUTO, INPUT, MACHINE, MODEL, SPEED, TRAINING, Auto, RunConfig, option


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """The options of ``batchsent finetune``, before any ``auto`` is resolved."""

    label_column: str | None = option(
        None, "Column that holds the label: a name or a whole number.", kind="identity", group=INPUT, metavar="NAME"
    )
    map: tuple[str, ...] = option(
        (),
        "The label that these values stand for; rows with others are left out. Repeatable.",
        kind="identity",
        group=INPUT,
        metavar="VALUE,...=LABEL",
    )
    multi_label: bool = option(
        False,
        "A text may have several labels, or none: a list, or names with | between them.",
        kind="identity",
        group=INPUT,
    )
    validation: tuple[str, ...] = option(
        (),
        "Labelled texts to validate with, instead of a share of INPUT. Repeatable.",
        kind="identity",
        group=INPUT,
        metavar="INPUT",
    )
    validation_share: float = option(
        0.1,
        "Share of INPUT to validate with: random, each label in the same proportion.",
        kind="identity",
        group=INPUT,
        metavar="SHARE",
        minimum=0.001,
        maximum=0.9,
    )
    limit: int | None = option(
        None,
        "Only N random texts of INPUT, each label in the same proportion.",
        kind="identity",
        group=INPUT,
        metavar="N",
        minimum=4,
    )

    base_model: str = option(
        "embedded", "'embedded', a directory, or a hub id.", kind="identity", group=MODEL, metavar="ID_OR_DIR"
    )
    revision: str | None = option(
        None,
        "Branch, tag or commit of a hub model; the commit is recorded.",
        kind="identity",
        group=MODEL,
        metavar="REV",
    )
    max_length: int | Auto = option(
        AUTO,
        "Tokens of a text; what is longer is cut. auto: the model's limit.",
        kind="identity",
        group=MODEL,
        metavar="N|auto",
        minimum=8,
    )
    random_crop: bool = option(
        False, "Of a text that is longer, train on another window in each epoch.", kind="identity", group=MODEL
    )
    freeze_encoder: bool = option(False, "Train the new head only.", kind="identity", group=MODEL)
    lora_rank: int | None = option(
        None,
        "Train adapters of this rank beside the encoder's matrices, merged at the end (extra: lora).",
        kind="identity",
        group=MODEL,
        metavar="N",
        minimum=1,
    )
    weights: str = option(
        "fp32",
        "Precision in which the weights are saved.",
        kind="identity",
        group=MODEL,
        choices=("fp32", "fp16", "bf16"),
    )

    epochs: int = option(3, "Passes over the texts, at most.", kind="identity", group=TRAINING, metavar="N", minimum=1)
    learning_rate: tuple[float, ...] = option(
        (),
        "Its peak; 5e-5 if not given, 5e-4 with --lora-rank, 1e-3 with --freeze-encoder. "
        "Given several times, each is tried with each batch size.",
        kind="identity",
        group=TRAINING,
        metavar="X",
        minimum=0.0,
        maximum=10.0,
    )
    batch_size: tuple[int, ...] = option(
        (),
        "Texts of one forward pass; 32 if not given. Repeatable as above.",
        kind="identity",
        group=TRAINING,
        metavar="N",
        minimum=1,
    )
    accumulate: int = option(
        1, "Forward passes for one step of the optimizer.", kind="identity", group=TRAINING, metavar="N", minimum=1
    )
    warmup_share: float = option(
        0.1,
        "Share of the steps in which the learning rate rises; then it falls to 0, both linearly.",
        kind="identity",
        group=TRAINING,
        metavar="SHARE",
        minimum=0.0,
        maximum=1.0,
    )
    weight_decay: float = option(0.01, "Of AdamW.", kind="identity", group=TRAINING, metavar="X", minimum=0.0)
    label_smoothing: float = option(
        0.0,
        "Share of a label's probability that is spread over all labels.",
        kind="identity",
        group=TRAINING,
        metavar="SHARE",
        minimum=0.0,
        maximum=0.9,
    )
    evaluations_per_epoch: int = option(
        2, "How often to validate, and to save a checkpoint.", kind="identity", group=TRAINING, metavar="N", minimum=1
    )
    patience: int = option(
        3,
        "Stop after so many evaluations without a better one; 0 never stops early.",
        kind="identity",
        group=TRAINING,
        metavar="N",
        minimum=0,
    )
    gradient_checkpointing: bool = option(
        False,
        "Compute activations twice instead of keeping them: slower, less memory.",
        kind="identity",
        group=SPEED,
    )
    precision: str = option(
        AUTO,
        "auto: bf16 autocast where that is faster, else fp32. Weights are trained in fp32.",
        kind="identity",
        group=SPEED,
        choices=(AUTO, "fp32", "bf16", "fp16"),
    )
    seed: int = option(
        42,
        "Decides the split, the order, the new head and dropout.",
        kind="identity",
        group=TRAINING,
        metavar="N",
        minimum=0,
    )

    device: str = option(AUTO, "auto, cpu or cuda.", kind="machine", group=MACHINE, metavar="DEVICE")
    keep_checkpoints: bool = option(
        False, "Leave the checkpoints in DIR/_finetune when all is done.", kind="machine", group=MACHINE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label_column:
            raise UsageError("no label column was given", "--label-column NAME", "name the column of the labels")
        _refuse_contradictions(self)

    @property
    def method(self) -> str:
        """What of the model is trained: 'full', 'lora' or 'head'."""
        return method_of(self.lora_rank, self.freeze_encoder)


def method_of(lora_rank: int | None, freeze_encoder: bool) -> str:
    """What of a model is trained: 'full', 'lora' or 'head'."""
    return "lora" if lora_rank else "head" if freeze_encoder else "full"


DEFAULT_LEARNING_RATES = {"full": 5e-5, "lora": 5e-4, "head": 1e-3}
"""By method: the fewer parameters move, and the fresher they are, the larger their steps may be."""
DEFAULT_BATCH_SIZE = 32


def _refuse_contradictions(config: FinetuneConfig) -> None:
    if config.lora_rank and config.freeze_encoder:
        raise UsageError(
            "--lora-rank with --freeze-encoder, which leaves it nothing to adapt", "one of the two", "leave one out"
        )
    if config.multi_label and config.label_smoothing:
        raise UsageError(
            "--label-smoothing with --multi-label, whose labels do not share one probability",
            "one of the two",
            "leave one out",
        )
    if config.multi_label and config.map:
        raise UsageError("--map with --multi-label", "one of the two", "leave one out")
    if 0 in config.learning_rate:
        raise UsageError("--learning-rate is 0, with which nothing is learnt", "more than 0", "choose another")
    for name, values in (("--learning-rate", config.learning_rate), ("--batch-size", config.batch_size)):
        if len(set(values)) < len(values):
            raise UsageError(f"{name} names a value twice", "each value once", "drop one")
