"""INPUT → labelled texts, each once, and those that have labels to learn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from batchsent.errors import InputError
from batchsent.labelled import Columns, read_parts
from batchsent.records import Part, Shard, ShardDigest
from batchsent.schema import KEPT_PREFIX, REASON, TEXT
from batchsent.training.labels import LabelScheme, Target, values_in


@dataclass
class LabelledTexts:
    """Texts with what their label column says, each text once; and how many records were left out, by reason."""

    texts: list[str] = field(default_factory=list)
    values: list[tuple[str, ...]] = field(default_factory=list)
    """Of each text: one value; or any number, where a text may have several labels."""
    left_out: Counter[str] = field(default_factory=Counter)

    def value_counts(self) -> Counter[str]:
        """How many texts have each value."""
        return Counter(value for values in self.values for value in values)


def read_labelled(
    shards: list[Shard],
    columns: Columns,
    digest_of: Callable[[str], ShardDigest],
    check: Callable[[], None],
    *,
    multi_label: bool,
    known: frozenset[str] = frozenset(),
) -> LabelledTexts:
    """Read every record of ``shards``; ``check`` is called meanwhile, and may raise.

    A text that stands there twice, or is among the ``known`` ones, is left out: a text that a model was trained on
    tells nothing of it when it validates. Raises InputError if a shard cannot be read, or does not have the columns.
    """
    found = LabelledTexts()
    seen: set[str] = set(known)
    with closing(read_parts(shards, columns, digest_of, check)) as parts:
        for part in parts:
            labels = (values_in(label, multi_label=multi_label) for label in _labels(part, columns.label))
            _take(part, labels, found, seen)
    if not found.texts:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "no records"
        raise InputError(
            f"no text with a label in what was given ({reasons})",
            "texts and their labels",
            "check --text-column and --label-column",
        )
    return found


def _take(part: Part, labels: Iterator[tuple[str, ...] | None], found: LabelledTexts, seen: set[str]) -> None:
    texts, reasons = (part.records.column(name).to_pylist() for name in (TEXT, REASON))
    for text, reason, values in zip(texts, reasons, labels, strict=True):
        if reason is not None:
            found.left_out["without text" if reason == "empty_text" else "malformed"] += 1
        elif values is None:
            found.left_out["without label"] += 1
        elif text in seen:
            found.left_out["repeated"] += 1
        else:
            seen.add(text)
            found.texts.append(text)
            found.values.append(values)


def _labels(part: Part, column: str) -> Iterator[Any]:
    """What the label column holds; JSON Lines bring it as JSON text."""
    values = part.records.column(KEPT_PREFIX + column).to_pylist()
    if part.shard.is_json_lines:
        return (None if value is None else json.loads(value) for value in values)
    return iter(values)


def with_targets(
    labelled: LabelledTexts, scheme: LabelScheme, *, multi_label: bool
) -> tuple[list[str], list[Target], int]:
    """The texts that have labels of ``scheme`` only, these labels, and how many texts have others."""
    texts: list[str] = []
    targets: list[Target] = []
    other_count = 0
    for text, values in zip(labelled.texts, labelled.values, strict=True):
        indices = [index for value in values if (index := scheme.target(value)) is not None]
        if len(indices) < len(values):
            other_count += 1
            continue
        texts.append(text)
        targets.append(frozenset(indices) if multi_label else indices[0])
    return texts, targets, other_count
