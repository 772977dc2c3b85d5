"""Texts as the token ids that a model is trained on, in batches of similar length.

What is drawn in an epoch depends on the seed and the epoch alone, not on what was drawn before: a training that goes
on from a checkpoint sees the same batches as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchsent.training.labels import Target

if TYPE_CHECKING:
    from batchsent.stages.encoder import Encoder
    from batchsent.training.settings import Settings
    from batchsent.training.texts import Texts

Ids = npt.NDArray[np.int32]

_TEXTS_AT_ONCE = 1_024
_GROUPED_BATCHES = 50
"""Batches that are cut from a run of texts sorted by length: many, so that little is padded; few, so that a text
meets others in each epoch."""


@dataclass
class Examples:
    """Encoded texts with their labels: a dataset for a ``DataLoader``."""

    windows: list[list[Ids]]
    """Of each text, in the order of the text; one, unless windows are drawn at random."""
    targets: list[Target]
    seed: int = 0
    epoch: int = 0
    """Set by whoever trains."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Ids, Target]:
        own = self.windows[index]
        if len(own) == 1:
            return own[0], self.targets[index]
        chooser = np.random.default_rng([self.seed, self.epoch, index])
        return own[chooser.integers(len(own))], self.targets[index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text; its windows are of one length."""
        return [len(own[0]) for own in self.windows]

    def by_length(self) -> Examples:
        """The same, the longest first: batches of them are hardly padded."""
        order = sorted(range(len(self)), key=lambda index: -len(self.windows[index][0]))
        return Examples([self.windows[i] for i in order], [self.targets[i] for i in order])


def examples_of(texts: Texts, model: Path, settings: Settings, check: Callable[[], None]) -> tuple[Examples, Examples]:
    """(to train on, to validate with), in the token ids that ``score`` makes of them for ``model``."""
    from batchsent.stages.encoder import Encoder

    # Half of it: whatever a window cuts in two stands whole in another.
    overlap = settings.max_length // 2 if settings.random_crop else None
    cropping = Encoder(model, settings.max_length, window_overlap=overlap)
    cutting = cropping if overlap is None else Encoder(model, settings.max_length)
    training = encode(cropping, *texts.training, check, settings.seed)
    return training, encode(cutting, *texts.validation, check).by_length()


def encode(
    encoder: Encoder, texts: Sequence[str], targets: Sequence[Target], check: Callable[[], None], seed: int = 0
) -> Examples:
    """Token ids of ``texts`` as ``encoder`` cuts them; a text without a token of its own is left out."""
    windows: list[list[Ids]] = []
    kept: list[Target] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        check()
        column = pa.chunked_array([pa.array(texts[start : start + _TEXTS_AT_ONCE], pa.large_string())])
        encoded = encoder.encode(column)
        ends = np.cumsum(encoded.window_counts)
        for record, text in enumerate(encoded.text_of_record.tolist()):
            own = encoded.ids[ends[text] - encoded.window_counts[text] : ends[text]]
            if len(own[0]) > encoder.special_token_count:
                windows.append(own)
                kept.append(targets[start + record])
    return Examples(windows, kept, seed)


class LengthGroupedOrder:
    """The order of the texts in an epoch: each batch holds texts of about one length, batches in random order.

    The longest batch comes first: if the memory does not suffice, that shows at once. (transformers has such a
    sampler, which draws from the process's own random numbers: after a resume it would draw others.)
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = np.asarray(lengths), batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        chooser = np.random.default_rng([self._seed, self.epoch])
        order = chooser.permutation(len(self))
        size = self._batch_size
        whole = len(order) - len(order) % size
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, whole, _GROUPED_BATCHES * size):
            run = order[start : min(start + _GROUPED_BATCHES * size, whole)]
            run = run[np.argsort(-self._lengths[run], kind="stable")]
            batches += np.split(run, len(run) // size)
        if batches:
            batches = [batches[index] for index in chooser.permutation(len(batches))]
            longest = max(range(len(batches)), key=lambda index: self._lengths[batches[index]].max())
            batches.insert(0, batches.pop(longest))
        # The one that is not full stays behind: in between it would shift all that follow.
        yield from np.concatenate([*batches, order[whole:]]).tolist()


def collate(items: Sequence[tuple[Ids, Target]], *, pad_token_id: int, label_count: int) -> dict[str, Any]:
    """Tensors of a batch: ids and mask int64 [texts, longest], filled up on the right; labels.

    Labels are int64 [texts]; where a text may have several, float32 [texts, labels] of 0 and 1.
    """
    import torch

    longest = max(len(ids) for ids, _ in items)
    ids = np.full((len(items), longest), pad_token_id, np.int64)
    mask = np.zeros((len(items), longest), np.int64)
    for row, (own, _) in enumerate(items):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    targets = [target for _, target in items]
    if isinstance(targets[0], int):
        labels = torch.tensor(targets)
    else:
        labels = torch.zeros(len(items), label_count)
        for row, target in enumerate(targets):
            for index in target if isinstance(target, frozenset) else ():
                labels[row, index] = 1.0
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "labels": labels}
