"""Which texts to train on and which to validate with, and their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from batchsent.labelled import Columns
from batchsent.records import Shard, ShardDigest
from batchsent.training.data import LabelledTexts, read_labelled, with_targets
from batchsent.training.labels import Target, scheme_of
from batchsent.training.settings import Settings
from batchsent.training.split import limited, require_every_label, split


@dataclass(frozen=True)
class Texts:
    """Labelled texts, ready to be encoded."""

    labels: tuple[str, ...]
    """In the order of the logits."""
    training: tuple[list[str], list[Target]]
    validation: tuple[list[str], list[Target]]
    left_out: dict[str, int]
    """How many, by reason."""


def gather(
    settings: Settings,
    shards: list[Shard],
    validation_shards: list[Shard],
    digest_of: Callable[[str], ShardDigest],
    check: Callable[[], None],
) -> Texts:
    """Read and split; ``check`` is called meanwhile, and may raise. Raises InputError or UsageError."""
    columns = Columns(settings.text_column, settings.label_column, settings.encoding, settings.delimiter)
    read = partial(read_labelled, columns=columns, digest_of=digest_of, check=check, multi_label=settings.multi_label)
    given: LabelledTexts = read(shards)
    scheme = scheme_of(given.value_counts(), settings.map)
    texts, targets, others = with_targets(given, scheme, multi_label=settings.multi_label)
    left_out = given.left_out + Counter({"not named by --map": others})
    chosen = _taken(texts, targets, limited(targets, settings.limit, settings.seed))
    if validation_shards:
        held: LabelledTexts = read(validation_shards, known=frozenset(chosen[0]))
        held_texts, held_targets, others = with_targets(held, scheme, multi_label=settings.multi_label)
        left_out += held.left_out + Counter({"of other labels": others})
        training, validation = chosen, (held_texts, held_targets)
    else:
        to_train, to_validate = split(chosen[1], settings.validation_share or 0.0, settings.seed)
        training, validation = _taken(*chosen, to_train), _taken(*chosen, to_validate)
    require_every_label(scheme.names, training[1], validation[1])
    return Texts(scheme.names, training, validation, dict(left_out))


def _taken(texts: list[str], targets: list[Target], indices: list[int]) -> tuple[list[str], list[Target]]:
    return [texts[index] for index in indices], [targets[index] for index in indices]
