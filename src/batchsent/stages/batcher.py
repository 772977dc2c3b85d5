"""Token ids → length-sorted, padded batches under a token budget.

Batches never cross a part, so what a part gives depends on it alone.
"""

from __future__ import annotations

import numpy as np

from batchsent.records import EncodedPart, EncodedTexts, TokenBatch


def batch_part(texts: EncodedTexts, *, batch_tokens: int, special_token_count: int) -> EncodedPart:
    """Sort, cut and pad. Texts without a token of their own are in no batch."""
    lengths = np.fromiter((len(ids) for ids in texts.ids), np.int64, len(texts.ids))
    order = np.flatnonzero(lengths > special_token_count)
    # Longest first: if the device runs out of memory it does so at once. Stable, so equal lengths keep their order.
    order = order[np.argsort(-lengths[order], kind="stable")]
    batches = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        stop = start + max(1, batch_tokens // longest)
        rows = order[start:stop]
        input_ids = np.zeros((len(rows), longest), np.int64)
        for row, text in enumerate(rows):
            input_ids[row, : lengths[text]] = texts.ids[text]
        batches.append(TokenBatch(input_ids, lengths[rows], rows))
        start = stop
    return EncodedPart(
        batches=batches,
        token_counts=lengths.astype(np.int32),
        truncated=texts.truncated,
        text_of_record=texts.text_of_record,
        unknown_token_count=texts.unknown_token_count,
        encode_seconds=texts.encode_seconds,
    )
