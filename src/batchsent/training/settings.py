"""What was decided: everything that decides the trained model, every ``auto`` resolved.

The content of ``DIR/_finetune/config.json``. Written when DIR is first used; a later run goes on only with the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from batchsent import machine
from batchsent.errors import SettingsChangedError, UsageError
from batchsent.identity import canonical_json
from batchsent.models.resolution import ModelSource
from batchsent.options import AUTO, option_fields, option_name
from batchsent.training.recipe import DEFAULT_BATCH_SIZE, DEFAULT_LEARNING_RATES, FinetuneConfig, method_of

VERSION = 1
"""Of the files under ``_finetune``, and of how a model follows from them: another version never mixes with this one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every option that decides the model, and the hashes of what it is made of."""

    version: int
    text_column: str
    label_column: str
    map: tuple[str, ...]
    multi_label: bool
    validation_share: float | None
    """None where the validation texts were given."""
    limit: int | None
    encoding: str
    delimiter: str | None
    input_files: dict[str, str]
    """Name → SHA-256 in hex."""
    validation_files: dict[str, str]
    base_model: str
    base_revision: str | None
    base_files: dict[str, str]
    max_length: int
    random_crop: bool
    freeze_encoder: bool
    lora_rank: int | None
    weights: str
    epochs: int
    learning_rate: tuple[float, ...]
    batch_size: tuple[int, ...]
    accumulate: int
    warmup_share: float
    weight_decay: float
    label_smoothing: float
    evaluations_per_epoch: int
    patience: int
    gradient_checkpointing: bool
    precision: str
    threads: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the canonical JSON of these settings."""
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()

    @property
    def data_sha256(self) -> str:
        """In hex: one hash over the hashes of the input files, those for validation included."""
        return hashlib.sha256(canonical_json([self.input_files, self.validation_files])).hexdigest()

    @property
    def method(self) -> str:
        """What of the model is trained: 'full', 'lora' or 'head'."""
        return method_of(self.lora_rank, self.freeze_encoder)

    def to_json(self) -> bytes:
        """The bytes of ``config.json``."""
        content = asdict(self) | {"fingerprint": self.fingerprint}
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Settings:
        """Inverse of :meth:`to_json`. Raises ValueError, TypeError or KeyError if it is not one of ours."""
        values = json.loads(data)
        fingerprint = values.pop("fingerprint")
        for name in ("map", "learning_rate", "batch_size"):
            values[name] = tuple(values[name])
        settings = cls(**values)
        if settings.version != VERSION or settings.fingerprint != fingerprint:
            raise ValueError("not these settings")
        return settings


@dataclass(frozen=True)
class Sources:
    """What a model is made of: names of files → SHA-256 in hex, and the base model."""

    input_files: dict[str, str]
    validation_files: dict[str, str]
    base: ModelSource


def settle(config: FinetuneConfig, sources: Sources, device: str, recorded: Settings | None) -> Settings:
    """The settings that ``config`` asks for; what it leaves to ``auto`` is as ``recorded``, if anything is.

    Raises UsageError if the device or the model cannot do what was asked for.
    """
    precision = config.precision
    if precision == AUTO:
        precision = recorded.precision if recorded else _native_precision(device)
    machine.require_precision(precision, device, "torch")
    threads = config.threads
    if isinstance(threads, str):
        threads = recorded.threads if recorded else machine.available_cores()
    asked = {name: getattr(config, name) for name in _AS_ASKED}
    return Settings(
        version=VERSION,
        **asked,
        label_column=str(config.label_column),
        validation_share=None if config.validation else config.validation_share,
        input_files=sources.input_files,
        validation_files=sources.validation_files,
        base_model=sources.base.name,
        base_revision=sources.base.revision,
        base_files=sources.base.files,
        max_length=_max_length(config, sources.base.directory),
        learning_rate=config.learning_rate or (DEFAULT_LEARNING_RATES[config.method],),
        batch_size=config.batch_size or (DEFAULT_BATCH_SIZE,),
        precision=precision,
        threads=threads,
    )


_RESOLVED = (
    "validation",
    "base_model",
    "revision",
    "max_length",
    "learning_rate",
    "batch_size",
    "precision",
    "threads",
)
_AS_ASKED = tuple(
    f.name
    for f in option_fields(FinetuneConfig)
    if f.metadata["kind"] == "identity" and f.name not in (*_RESOLVED, "label_column", "validation_share")
)


def _native_precision(device: str) -> str:
    if device == "cpu":
        return "bf16" if machine.is_bf16_faster() else "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _max_length(config: FinetuneConfig, base: Path) -> int:
    from batchsent.models.pretrained import max_length, read_config

    limit = max_length(base, read_config(base))
    if isinstance(config.max_length, str):
        return limit
    if config.max_length > limit:
        raise UsageError(
            f"--max-length {config.max_length}", f"at most {limit}, the limit of the base model", "choose a smaller one"
        )
    return config.max_length


def require_same(settings: Settings, recorded: Settings, directory: Path) -> None:
    """Raise SettingsChangedError, naming what differs, unless DIR was begun with these ``settings``."""
    changes = []
    for name, found in asdict(recorded).items():
        wanted = asdict(settings)[name]
        if wanted == found or (name == "base_model" and settings.base_files == recorded.base_files):
            continue
        changes.append(f"{option_name(name)}: {_shown(found, wanted)} → {_shown(wanted, found)}")
    if changes:
        raise SettingsChangedError(
            f"{directory} holds a training with other settings ({'; '.join(changes)})",
            "the settings of that training",
            "use them, choose another --output, or pass --restart to discard what is there",
        )


def _shown(value: object, other: object) -> str:
    """A value in a message; of files, those that the other side does not have like this."""
    if isinstance(value, dict):
        own = {
            name: sha256 for name, sha256 in value.items() if not isinstance(other, dict) or other.get(name) != sha256
        }
        return ", ".join(f"{name} ({sha256[:8]})" for name, sha256 in own.items()) or "without"
    return ",".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)
