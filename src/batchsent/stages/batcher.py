"""Token ids → length-sorted batches under a token budget.

Batches never cross a part, so what a part gives depends on it alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsent.records import EncodedPart, EncodedTexts, packed_window_limit

Array = npt.NDArray[np.int64]


def batch_part(
    texts: EncodedTexts, *, batch_tokens: int, special_token_count: int, batching: str = "padded"
) -> EncodedPart:
    """Sort and cut. Windows without a token of their own are in no batch.

    ``batch_tokens`` bounds what a pass computes: rows times the longest of them where ``batching`` is 'padded',
    the sum of the lengths where it is 'packed'. A window that is longer is a batch of its own.
    """
    lengths = np.fromiter((len(ids) for ids in texts.ids), np.int64, len(texts.ids))
    order = np.flatnonzero(lengths > special_token_count)
    # Longest first: if the device runs out of memory it does so at once. Stable, so equal lengths keep their order.
    order = order[np.argsort(-lengths[order], kind="stable")]
    ordered = lengths[order]
    is_packed = batching == "packed"
    ends, computed_count = (_packed if is_packed else _padded)(ordered, batch_tokens)
    return EncodedPart(
        token_ids=np.concatenate([np.empty(0, np.int32), *(texts.ids[window] for window in order)]),
        lengths=ordered,
        window_indices=order,
        batch_ends=ends,
        capacity=batch_tokens if is_packed else 0,
        padding_count=computed_count - int(ordered.sum()),
        window_counts=texts.window_counts,
        token_counts=_sums(lengths, texts.window_counts).astype(np.int32),
        truncated=texts.truncated,
        text_of_record=texts.text_of_record,
        unknown_token_count=texts.unknown_token_count,
        encode_seconds=texts.encode_seconds,
    )


def _sums(lengths: Array, window_counts: npt.NDArray[np.int32]) -> Array:
    """[distinct texts]: what the windows of each have together."""
    before = np.append(0, np.cumsum(lengths))
    ends = np.cumsum(window_counts)
    sums: Array = before[ends] - before[ends - window_counts]
    return sums


def _padded(lengths: Array, batch_tokens: int) -> tuple[Array, int]:
    """Where to cut ``lengths``, which decrease, and how many token positions are computed then.

    Longest times rows is at most ``batch_tokens``, or rows is 1.
    """
    ends = [0]
    while ends[-1] < len(lengths):
        ends.append(min(len(lengths), ends[-1] + max(1, batch_tokens // int(lengths[ends[-1]]))))
    rows = np.diff(ends)
    return np.array(ends[1:], np.int64), int((lengths[ends[:-1]] * rows).sum())


def _packed(lengths: Array, batch_tokens: int) -> tuple[Array, int]:
    """The same, where the sum of the lengths is at most ``batch_tokens``, and every pass is filled up to it."""
    sums = np.cumsum(lengths, dtype=np.int64)
    ends, computed_count = [0], 0
    while (start := ends[-1]) < len(lengths):
        before = int(sums[start - 1]) if start else 0
        fitting = int(np.searchsorted(sums, before + batch_tokens, side="right"))
        ends.append(min(max(start + 1, fitting), start + packed_window_limit(batch_tokens)))
        computed_count += max(batch_tokens, int(sums[ends[-1] - 1]) - before)
    return np.array(ends[1:], np.int64), computed_count
