"""What the user asks for, as a frozen value: every option of ``batchsent score``, once.

Knows the options, their kinds and their limits. Does not read files, look at the machine or load a model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from batchsent.errors import UsageError
from batchsent.options import (
    AUTO,
    INPUT,
    MACHINE,
    MODEL,
    QUALITY,
    SPEED,
    Auto,
    RunConfig,
    option,
    option_name,
)

TEXT_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson")
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
FORMATS = (".parquet", *TEXT_EXTENSIONS)
NOWHERE = os.devnull
"""The output directory of a plan that is asked for without one."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(RunConfig):
    """What the user asked for: the options of ``batchsent score``, before any ``auto`` is resolved."""

    keep: tuple[str, ...] = option(
        (),
        "Copy this input column, under a new name with =NEW. Repeatable.",
        kind="identity",
        group=INPUT,
        metavar="NAME[=NEW]",
    )
    keep_all: bool = option(False, "Copy every input column.", kind="identity", group=INPUT)
    label_column: str | None = option(
        None,
        "Column with the true label: kept, and used for quality in the report.",
        kind="identity",
        group=INPUT,
        metavar="NAME",
    )
    limit: int | None = option(
        None, "Only the first N records of each shard.", kind="identity", group=INPUT, metavar="N", minimum=1
    )

    model: str = option(
        "embedded",
        "'embedded', a directory, an s3:// or gs:// folder, or a hub id.",
        kind="identity",
        group=MODEL,
        metavar="ID_OR_DIR",
    )
    revision: str | None = option(
        None,
        "Branch, tag or commit of a hub model; the commit is recorded.",
        kind="identity",
        group=MODEL,
        metavar="REV",
    )
    task: str = option(
        AUTO,
        "What the model does.",
        kind="identity",
        group=MODEL,
        choices=(AUTO, "sequence-classification", "text-to-text", "causal"),
    )
    prompt: str | None = option(
        None,
        "How a T5 or GPT model is asked: a template with {text}, or 'sentiment' (default) or 'sentiment-zh'.",
        kind="identity",
        group=MODEL,
        metavar="TEMPLATE",
    )
    verbalizer: tuple[str, ...] = option(
        (),
        "The word that such a model answers for a label. Repeatable.",
        kind="identity",
        group=MODEL,
        metavar="LABEL=WORD",
    )
    calibrate_prompt: bool = option(
        False, "Remove the bias that such a model has for a label.", kind="identity", group=MODEL
    )
    calibration: str | None = option(
        None, "Temperature from 'evaluate --calibrate'.", kind="identity", group=MODEL, metavar="FILE"
    )
    max_length: int | Auto = option(
        AUTO,
        "Tokens of one window; auto: the model's limit.",
        kind="identity",
        group=MODEL,
        metavar="N|auto",
        minimum=8,
    )
    long_text: str = option(
        "truncate",
        "What happens to a text longer than that.",
        kind="identity",
        group=MODEL,
        choices=("truncate", "window"),
    )
    window_overlap: int | None = option(
        None,
        "Tokens that two windows share; a quarter of them if not given.",
        kind="identity",
        group=MODEL,
        metavar="N",
        minimum=0,
    )
    window_aggregate: str | None = option(
        None,
        "How the windows of a text are combined; mean if not given.",
        kind="identity",
        group=MODEL,
        choices=("mean", "max"),
    )

    precision: str = option(
        AUTO,
        "auto: fp16 on CUDA, bf16 on a CPU where that is faster, else fp32. int8 needs openvino.",
        kind="identity",
        group=SPEED,
        choices=(AUTO, "fp32", "fp16", "fp16-weights", "bf16", "int8"),
    )
    backend: str = option(
        AUTO,
        "auto: openvino on a CPU, where it is installed and converts the model; else torch.",
        kind="identity",
        group=SPEED,
        choices=(AUTO, "torch", "openvino"),
    )
    batching: str = option(
        AUTO,
        "padded: to the longest of a batch. packed: one behind the other, without padding. "
        "auto: packed on CUDA where it can be and agrees, else padded.",
        kind="identity",
        group=SPEED,
        choices=(AUTO, "padded", "packed"),
    )
    batch_tokens: int | Auto = option(
        AUTO,
        "Token budget of one forward pass, padding counted.",
        kind="identity",
        group=SPEED,
        metavar="N|auto",
        minimum=1,
    )
    rows_per_part: int | Auto = option(
        AUTO,
        "Records per checkpoint.",
        kind="identity",
        group=SPEED,
        metavar="N|auto",
        minimum=1,
        maximum=1_000_000,
    )

    on_bad_row: str = option(
        "reject",
        "fail: end with exit 3 at the first malformed row.",
        kind="gate",
        group=QUALITY,
        choices=("reject", "fail"),
    )
    max_reject_rate: float = option(
        0.01,
        "Above it nothing is published (exit 3). Empty texts do not count.",
        kind="gate",
        group=QUALITY,
        metavar="SHARE",
        minimum=0.0,
        maximum=1.0,
    )
    baseline: str | None = option(
        None,
        "manifest.json of an earlier run: how far labels, confidence and lengths have moved from it.",
        kind="gate",
        group=QUALITY,
        metavar="MANIFEST",
    )
    max_drift: float | None = option(
        None,
        "Above this population stability index nothing is published (exit 4); 0.25 is customary.",
        kind="gate",
        group=QUALITY,
        metavar="X",
        minimum=0.0,
    )
    audit: int = option(
        0,
        "Score N random rows again, each alone in fp32; exit 3 if they differ by too much.",
        kind="gate",
        group=QUALITY,
        metavar="N",
        minimum=0,
    )

    workers: int | Auto = option(
        AUTO, "Tokenizer processes.", kind="machine", group=MACHINE, metavar="N|auto", minimum=1
    )
    engine: str = option("local", "What spreads the work.", kind="machine", group=MACHINE, choices=("local", "ray"))
    ray_address: str | None = option(
        None,
        "Cluster of the ray engine; else RAY_ADDRESS, one that runs on this machine, or a new one on it.",
        kind="machine",
        group=MACHINE,
        metavar="HOST:PORT",
    )
    replicas: str | None = option(
        None,
        "Model replicas of the ray engine; else as many as the cluster has room for.",
        kind="machine",
        group=MACHINE,
        metavar="N|MIN:MAX",
    )
    gpus_per_replica: float | None = option(
        None,
        "GPUs of a replica of the ray engine; else 1 where the cluster has any and --device is not cpu.",
        kind="machine",
        group=MACHINE,
        metavar="X",
        minimum=0.0,
    )
    log_format: str = option("text", "Format of log lines.", kind="machine", group=MACHINE, choices=("text", "json"))
    metrics_file: str | None = option(
        None,
        "Counts for Prometheus (OpenMetrics), replaced every few seconds.",
        kind="machine",
        group=MACHINE,
        metavar="FILE",
    )
    report: str | None = option(None, "Write the HTML report here.", kind="machine", group=MACHINE, metavar="FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kept_columns()
        _require_windows(self)
        _require_engine(self)
        if self.max_drift is not None and self.baseline is None:
            raise UsageError("--max-drift without --baseline", "a manifest to compare with", "pass --baseline MANIFEST")
        self.replica_range()

    def replica_range(self) -> tuple[int, int | None]:
        """How many replicas the ray engine has at least, and at most; None is without a limit."""
        if self.replicas is None:
            return 1, None
        minimum, colon, maximum = self.replicas.partition(":")
        numbers = [minimum, maximum] if colon else [minimum, minimum]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise UsageError(f"--replicas is {self.replicas!r}", "N or MIN:MAX, such as 8 or 2:16", "give one")
        least, most = map(int, numbers)
        if not 1 <= least <= most:
            raise UsageError(f"--replicas is {self.replicas}", "at least 1, and MIN not above MAX", "choose others")
        return least, most

    def kept_columns(self) -> dict[str, str]:
        """Input column → output name, for what is kept by name (the label column included), in that order."""
        kept: dict[str, str] = {}
        for item in self.keep:
            name, equals, new = item.partition("=")
            if not name or (equals and not new):
                raise UsageError(f"--keep {item!r}", "NAME or NAME=NEW", "name a column")
            if name in kept:
                raise UsageError(f"--keep names the column {name!r} twice", "each column once", "drop one")
            kept[name] = new or name
        if self.label_column is not None:
            kept.setdefault(self.label_column, self.label_column)
        return kept


def _require_engine(config: ScoreConfig) -> None:
    given = [name for name in ("ray_address", "replicas", "gpus_per_replica") if getattr(config, name) is not None]
    if given and config.engine != "ray":
        raise UsageError(
            f"--{option_name(given[0])} with --engine {config.engine}", "--engine ray", "pass it, or drop this"
        )

    gpus = config.gpus_per_replica
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise UsageError(f"--gpus-per-replica is {gpus}", "a share of one GPU, or whole GPUs", "choose another")
    if gpus == 0 and config.device.startswith("cuda"):
        raise UsageError(f"--gpus-per-replica 0 with --device {config.device}", "a GPU to use", "drop one of them")


def _require_windows(config: ScoreConfig) -> None:
    given = [name for name in ("window_overlap", "window_aggregate") if getattr(config, name) is not None]
    if given and config.long_text != "window":
        raise UsageError(
            f"--{option_name(given[0])} with --long-text {config.long_text}",
            "--long-text window",
            "pass it, or drop this",
        )
