"""Token ids → length-sorted batches under a token budget.

Batches never cross a part, so what a part gives depends on it alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsent.records import EncodedPart, EncodedTexts


def batch_part(texts: EncodedTexts, *, batch_tokens: int, special_token_count: int) -> EncodedPart:
    """Sort and cut. Texts without a token of their own are in no batch."""
    lengths = np.fromiter((len(ids) for ids in texts.ids), np.int64, len(texts.ids))
    order = np.flatnonzero(lengths > special_token_count)
    # Longest first: if the device runs out of memory it does so at once. Stable, so equal lengths keep their order.
    order = order[np.argsort(-lengths[order], kind="stable")]
    ends = _ends_of_padded(lengths[order], batch_tokens)
    rows = np.diff(ends, prepend=0)
    longest = lengths[order][ends - rows]
    return EncodedPart(
        token_ids=np.concatenate([np.empty(0, np.int32), *(texts.ids[text] for text in order)]),
        lengths=lengths[order],
        text_indices=order,
        batch_ends=ends,
        padding_count=int((longest * rows).sum() - lengths[order].sum()),
        token_counts=lengths.astype(np.int32),
        truncated=texts.truncated,
        text_of_record=texts.text_of_record,
        unknown_token_count=texts.unknown_token_count,
        encode_seconds=texts.encode_seconds,
    )


def _ends_of_padded(lengths: npt.NDArray[np.int64], batch_tokens: int) -> npt.NDArray[np.int64]:
    """Where to cut ``lengths``, which decrease: longest times rows is at most ``batch_tokens``, or rows is 1."""
    ends = [0]
    while ends[-1] < len(lengths):
        ends.append(min(len(lengths), ends[-1] + max(1, batch_tokens // int(lengths[ends[-1]]))))
    return np.array(ends[1:], np.int64)
