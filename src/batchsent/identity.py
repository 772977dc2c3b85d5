"""What was decided: the settings of DIR, every ``auto`` resolved, that decide the numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from batchsent.config import ScoreConfig
from batchsent.options import AUTO, option_name

SCHEMA_VERSION = 2
"""Version of the files under DIR; part of the fingerprint, so another version never mixes with this one."""


@dataclass(frozen=True)
class Labelling:
    """How logits become the prediction of a text."""

    labels: tuple[str, ...]
    multi_label: bool = False
    """Sigmoid of each logit instead of softmax over them."""
    temperature: float | None = None
    """By which logits are divided; None where they stay as they are."""
    window_aggregate: str | None = None
    """How the windows of a text are combined ('mean' or 'max'); None where each text has one."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Everything that decides the numbers, with every ``auto`` resolved: the content of ``config.json``."""

    schema_version: int
    text_column: str
    keep: tuple[str, ...]
    keep_all: bool
    label_column: str | None
    encoding: str
    delimiter: str | None
    limit: int | None
    model: str
    requested_revision: str | None
    revision: str | None
    """Commit of a hub model; None for a directory and the embedded model, which their hashes identify."""
    model_files: dict[str, str]
    """Name → SHA-256 in hex of every file that the model and its tokenizer are read from."""
    labels: tuple[str, ...]
    multi_label: bool
    """Sigmoid of each logit instead of softmax over them."""
    task: str
    prompt: str | None
    """The template by which a model that writes text is asked; None for a model with a classification head."""
    rendered_prompt: tuple[str, str] | None
    """What such a model reads before and after a text, chat markup and special tokens included."""
    verbalizers: tuple[str, ...]
    """The words that stand for the labels there."""
    calibrate_prompt: bool
    temperature: float | None
    """By which logits are divided; None where they stay as they are."""
    precision: str
    calibration_texts: str | None
    """SHA-256 in hex of the texts that int8 is calibrated on; None where nothing is."""
    backend: str
    batching: str
    compiled: bool
    """Whether torch.compile makes the passes."""
    batch_tokens: int
    threads: int
    rows_per_part: int
    max_length: int
    long_text: str
    window_overlap: int | None
    """Tokens; None, as the next, where a text has one window."""
    window_aggregate: str | None

    @property
    def labelling(self) -> Labelling:
        """What makes predictions of logits."""
        return Labelling(self.labels, self.multi_label, self.temperature, self.window_aggregate)

    @property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the canonical JSON of these settings."""
        return hashlib.sha256(canonical_json(asdict(self))).hexdigest()

    @property
    def model_version(self) -> str:
        """The commit, or the hash over the model's file hashes."""
        return self.revision or files_version(self.model_files)

    def to_json(self) -> bytes:
        """The bytes of ``config.json``: the settings, and their fingerprint as a checksum."""
        return (
            json.dumps(
                {**asdict(self), "fingerprint": self.fingerprint}, indent=2, sort_keys=True, ensure_ascii=False
            ).encode()
            + b"\n"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Identity:
        """Inverse of :meth:`to_json`. Raises ValueError, TypeError or KeyError if it is not one of ours."""
        values = json.loads(data)
        if not isinstance(values, dict):
            raise TypeError("not a JSON object")
        fingerprint = values.pop("fingerprint")
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {values['schema_version']}")
        for name in ("keep", "labels", "rendered_prompt", "verbalizers"):
            values[name] = None if values[name] is None else tuple(values[name])
        identity = cls(**values)
        if identity.fingerprint != fingerprint:
            raise ValueError("the fingerprint does not fit the settings")
        return identity


def canonical_json(value: object) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def checksum_of(content: object) -> str:
    """For a file of ours that is trusted on its own: SHA-256 in hex over the canonical JSON."""
    return hashlib.sha256(canonical_json(content)).hexdigest()


def files_version(files: dict[str, str]) -> str:
    """What identifies a model that has no revision: the hash over its files' hashes."""
    return "sha256:" + hashlib.sha256(canonical_json(files)).hexdigest()


def changed_fields(asked: ScoreConfig, recorded: Identity) -> list[str]:
    """What ``asked`` wants otherwise than ``recorded``, as ``name: recorded → asked``.

    An ``auto`` accepts what was recorded, as does an option of windows that was not given. The model's name and
    revision, its prompt and the calibration are compared by whoever can resolve them (a directory may have moved
    without changing).
    """
    changes = []
    for name in _COMPARED:
        wanted, found = getattr(asked, name), getattr(recorded, name)
        default = ScoreConfig.__dataclass_fields__[name].default
        accepts = wanted == default and default in (AUTO, None) and name not in _NONE_IS_A_SETTING
        if not accepts and wanted != found:
            changes.append(f"{option_name(name)}: {_shown(found)} → {_shown(wanted)}")
    return changes


def _shown(value: object) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "none" if value is None or not shown else shown


_NONE_IS_A_SETTING = ("label_column", "delimiter", "limit")

_COMPARED = (
    "text_column",
    "keep",
    "keep_all",
    "label_column",
    "encoding",
    "delimiter",
    "limit",
    "task",
    "precision",
    "backend",
    "batching",
    "batch_tokens",
    "threads",
    "rows_per_part",
    "max_length",
    "long_text",
    "window_overlap",
    "window_aggregate",
    "calibrate_prompt",
)
