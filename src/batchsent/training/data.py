"""INPUT → labelled texts: read as ``score`` reads them, so that a record is the same in both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batchsent.errors import InputError, ShardError
from batchsent.records import Part, Shard, ShardDigest
from batchsent.schema import KEPT_PREFIX, REASON, TEXT
from batchsent.stages.reader import InspectRequest, ReaderProcess, ReadRequest
from batchsent.training.labels import LabelScheme, Target, one_value, several_values

_ROWS_PER_PART = 4_096
_JSON_FORMATS = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Columns:
    """What is read of each record, and how."""

    text: str
    label: str
    multi_label: bool
    encoding: str
    delimiter: str | None


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
    known: frozenset[str] = frozenset(),
) -> LabelledTexts:
    """Read every record of ``shards``; ``check`` is called meanwhile, and may raise.

    A text that stands there twice, or is among the ``known`` ones, is left out: a text that a model was trained on
    tells nothing of it when it validates. Raises InputError if a shard cannot be read, or does not have the columns.
    """
    found = LabelledTexts()
    seen: set[str] = set(known)
    with ReaderProcess(check) as reader:
        inspect = [
            InspectRequest(s, columns.text, (columns.label,), columns.encoding, columns.delimiter) for s in shards
        ]
        for inspection in reader.inspect(inspect):
            if inspection.error is not None:
                # The reader knows the label column as one that is kept.
                raise InputError(inspection.error.replace("--keep", "--label-column"))
        for shard in shards:
            try:
                for part in reader.read(_request(shard, columns, digest_of(shard.path))):
                    check()
                    _take(part, columns, found, seen)
            except ShardError as error:
                raise InputError(*error.args) from error
    if not found.texts:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "no records"
        raise InputError(
            f"no text with a label in what was given ({reasons})",
            "texts and their labels",
            "check --text-column and --label-column",
        )
    return found


def _request(shard: Shard, columns: Columns, digest: ShardDigest) -> ReadRequest:
    return ReadRequest(
        shard=shard,
        unit="",
        digest=digest,
        done={},
        text_column=columns.text,
        kept=(columns.label,),
        encoding=columns.encoding,
        delimiter=columns.delimiter,
        rows_per_part=_ROWS_PER_PART,
        limit=None,
    )


def _take(part: Part, columns: Columns, found: LabelledTexts, seen: set[str]) -> None:
    records = part.records
    rows = zip(
        records.column(TEXT).to_pylist(), records.column(REASON).to_pylist(), _labels(part, columns.label), strict=True
    )
    for text, reason, label in rows:
        if columns.multi_label:
            values = several_values(label)
        else:
            value = one_value(label)
            values = None if value is None else (value,)
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
    if part.shard.format in _JSON_FORMATS:
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
