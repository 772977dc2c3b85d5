"""How long forward passes take: the batches that whole parts would have, and the time of some of them.

A pass is taken to cost a moment for itself, one for each token position, and one for each pair of positions that
attention looks at; how much, non-negative least squares say of measured passes. They run as in a run: several at a
time, the longest first, by the classifier itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from batchsent.identity import Identity
from batchsent.plan.sample import Stretch
from batchsent.records import EncodedPart, EncodedTexts, Part, TokenBatch
from batchsent.stages.batcher import batch_part
from batchsent.stages.classifier import Model, classify

FORWARD_SECONDS = 5.0
"""Of passes, and as much again: a shape's first pass is timed apart, because it has to be prepared."""
FEWEST_PASSES = 8
MOST_PASSES = 240
_SEGMENTS = 12
"""Passes are timed in so many runs: a single one has no time of its own where several run at once."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Batched:
    """A whole part as its texts would be cut into batches, where those that were tokenized stand for the others."""

    stretch: Stretch
    lengths: npt.NDArray[np.int64]
    """[windows]: in the order of the batches."""
    sources: npt.NDArray[np.int64]
    """[windows]: which of the tokenized windows each is."""
    ends: npt.NDArray[np.int64]
    """[batches]: windows before the end of each."""
    capacity: int
    padding_count: int

    @property
    def features(self) -> Floats:
        """[batches, 3]: one, token positions, pairs of positions."""
        if not len(self.ends):
            return np.empty((0, 3))
        starts = np.append(0, self.ends)[:-1]
        rows, longest = np.diff(self.ends, prepend=0), self.lengths[starts]
        if self.capacity:
            positions = np.maximum(self.capacity, np.add.reduceat(self.lengths, starts))
            pairs = np.add.reduceat(self.lengths**2, starts)
        else:
            positions, pairs = rows * longest, rows * longest**2
        return np.stack([np.ones(len(rows)), positions, pairs], axis=1).astype(np.float64)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, longest) of each batch; packed passes have one shape."""
        if self.capacity:
            return [(0, self.capacity)] * len(self.ends)
        starts = np.append(0, self.ends)[:-1]
        return list(zip(np.diff(self.ends, prepend=0).tolist(), self.lengths[starts].tolist(), strict=True))

    def batch(self, index: int) -> TokenBatch:
        """One of them, with real token ids."""
        start, end = (int(self.ends[index - 1]) if index else 0), int(self.ends[index])
        ids = [self.stretch.encoded.ids[source] for source in self.sources[start:end].tolist()]
        return TokenBatch(np.concatenate(ids), self.lengths[start:end], np.arange(end - start), self.capacity)


def batched(stretch: Stretch, identity: Identity, special_token_count: int) -> Batched:
    """Cut as a run cuts. Each tokenized text stands for as many as its share says, evenly over all lengths."""
    texts, count = stretch.encoded, stretch.distinct_count
    ends = np.cumsum(texts.window_counts)
    lengths = np.array([len(ids) for ids in texts.ids], np.int64)
    chosen = np.empty(0, np.int64)
    if len(ends):
        totals = np.add.reduceat(lengths, ends - texts.window_counts)
        order = np.argsort(totals, kind="stable")
        chosen = order[(np.arange(count) * len(order)) // count]
    sources = np.concatenate(
        [np.empty(0, np.int64), *(np.arange(ends[text] - texts.window_counts[text], ends[text]) for text in chosen)]
    )
    blank = np.zeros(int(lengths.max(initial=0)), np.int32)
    whole = EncodedTexts(
        ids=[blank[:length] for length in lengths[sources]],
        window_counts=texts.window_counts[chosen],
        truncated=texts.truncated[chosen],
        text_of_record=np.arange(count, dtype=np.int32),
        unknown_token_count=0,
        encode_seconds=0.0,
    )
    part = batch_part(
        whole,
        batch_tokens=identity.batch_tokens,
        special_token_count=special_token_count,
        batching=identity.batching,
    )
    return Batched(
        stretch, part.lengths, sources[part.window_indices], part.batch_ends, part.capacity, part.padding_count
    )


@dataclass(frozen=True)
class PassCosts:
    """What passes cost, as measured."""

    coefficients: Floats
    """Seconds [3] of each of ``Batched.features``, as long as others run beside it."""
    shape_seconds: float
    """More, where a shape is computed for the first time."""
    spread: float
    """Standard error of what they say, as a share of it."""
    pass_count: int
    seconds: float
    """That measuring took."""

    def seconds_of(self, part: Batched) -> float:
        """Of all its passes."""
        return float((part.features @ self.coefficients).sum())


NO_PASSES = PassCosts(np.zeros(3), 0.0, 0.0, 0, 0.0)
"""Where no text is left to be scored."""


def measure_passes(parts: list[Batched], model: Model, identity: Identity, check: Callable[[], None]) -> PassCosts:
    """Time passes of ``parts``, drawn evenly over all lengths. ``check`` is called in between, and may raise."""
    began = time.perf_counter()
    run = partial(_segment_seconds, model=model, identity=identity, check=check)
    order = _by_length(parts)
    if not order:
        return NO_PASSES
    middle = [[order[len(order) // 2]]] * (2 + model.in_flight)
    run(middle)  # the first of all does more than pass
    pass_seconds = float(np.median(run(middle)))
    wanted = min(max(int(FORWARD_SECONDS / max(pass_seconds, 1e-6)), FEWEST_PASSES), MOST_PASSES, len(order))
    chosen = [order[int((index + 0.5) * len(order) / wanted)] for index in range(wanted)]
    segments = [chosen[part[0] : part[-1] + 1] for part in np.array_split(np.arange(wanted), min(_SEGMENTS, wanted))]
    first = run(segments)
    again = run(segments) if pass_seconds * FEWEST_PASSES < FORWARD_SECONDS else first
    features = np.array([sum(part.features[index] for part, index in segment) for segment in segments])
    coefficients, spread = _fit(features, again)
    shapes = [len({part.shapes[index] for part, index in segment}) for segment in segments]
    # The median: one run that something else on the machine held up must not count.
    shape_seconds = max(0.0, float(np.median((first - again) / shapes)))
    return PassCosts(coefficients, shape_seconds, spread, wanted, time.perf_counter() - began)


_Pass = tuple[Batched, int]


def _by_length(parts: list[Batched]) -> list[_Pass]:
    """Every batch, the longest first."""
    every = [(part, index) for part in parts for index in range(len(part.ends))]
    longest = {id(part): part.lengths[np.append(0, part.ends[:-1])] for part in parts if len(part.ends)}
    return sorted(every, key=lambda one: -int(longest[id(one[0])][one[1]]))


def _segment_seconds(
    segments: list[list[_Pass]], *, model: Model, identity: Identity, check: Callable[[], None]
) -> Floats:
    """Seconds from the end of one segment to the end of the next."""
    encoded = [_encoded([part.batch(index) for part, index in segment]) for segment in segments]
    stand_in: Part = segments[0][0][0].stretch.part
    began = time.perf_counter()
    classified = classify(((stand_in, part) for part in encoded), model, identity.labelling, check)
    return np.diff([began, *(time.perf_counter() for _ in classified)])


def _encoded(batches: list[TokenBatch]) -> EncodedPart:
    """A part of just these batches."""
    lengths = np.concatenate([batch.lengths for batch in batches])
    count = len(lengths)
    return EncodedPart(
        token_ids=np.concatenate([batch.token_ids for batch in batches]),
        lengths=lengths,
        window_indices=np.arange(count),
        batch_ends=np.cumsum([len(batch.lengths) for batch in batches]),
        capacity=batches[0].capacity,
        padding_count=0,
        window_counts=np.ones(count, np.int32),
        token_counts=lengths.astype(np.int32),
        truncated=np.zeros(count, bool),
        text_of_record=np.arange(count, dtype=np.int32),
        unknown_token_count=0,
        encode_seconds=0.0,
    )


def _fit(features: Floats, seconds: Floats) -> tuple[Floats, float]:
    """Seconds of each feature, none negative, and the standard error of what they say of all.

    The sum of what was measured is kept: least squares only say how it is to be divided.
    """
    from scipy.optimize import nnls

    scale = features.mean(axis=0)
    coefficients, _ = nnls(features / scale / seconds[:, None], np.ones(len(seconds)))
    coefficients = coefficients / scale
    expected = features @ coefficients
    if not expected.sum():
        coefficients = np.array([0.0, float(seconds.sum() / features[:, 1].sum()), 0.0])
        expected = features @ coefficients
    coefficients = coefficients * seconds.sum() / expected.sum()
    ratios = seconds / (features @ coefficients)
    return coefficients, float(ratios.std(ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else 0.0
