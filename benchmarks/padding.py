"""How much of what is computed is padding, by how batches are made. Counted, not timed.

    python benchmarks/padding.py

Texts of IMDb's lengths and the example reviews, tokenized by the embedded model's tokenizer; parts and batches as
``batchsent score`` makes them, and as it would be without sorting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.records import EncodedTexts
from batchsent.stages.batcher import batch_part
from batchsent.stages.encoder import Encoder
from common import example_reviews, imdb_like_texts, save

MAX_LENGTH = 512
CPU_ROWS, CUDA_ROWS = 2_048, 16_384
"""Rows of a part."""

Lengths = npt.NDArray[np.int64]
Computed = Callable[[EncodedTexts, Lengths], int]


def fixed(rows: int, *, to: int | None = None, is_sorted: bool = False) -> Computed:
    """Batches of so many texts, filled up to the longest of each or to ``to``; sorted by length over a part or not."""

    def count(_texts: EncodedTexts, lengths: Lengths) -> int:
        ordered = np.sort(lengths)[::-1] if is_sorted else lengths
        batches = [ordered[start : start + rows] for start in range(0, len(ordered), rows)]
        return sum(len(batch) * (to or int(batch.max())) for batch in batches)

    return count


def ours(batch_tokens: int, batching: str = "padded") -> Computed:
    """As the job makes them."""

    def count(texts: EncodedTexts, _lengths: Lengths) -> int:
        part = batch_part(texts, batch_tokens=batch_tokens, special_token_count=2, batching=batching)
        return len(part.token_ids) + part.padding_count

    return count


WAYS: list[tuple[str, int, Computed]] = [
    ("32 texts as they come, each to 512 tokens", CPU_ROWS, fixed(32, to=MAX_LENGTH)),
    ("32 texts as they come, to the longest of the batch", CPU_ROWS, fixed(32)),
    ("32 texts, sorted by length over a part of 2,048", CPU_ROWS, fixed(32, is_sorted=True)),
    ("sorted, at most 512 tokens (OpenVINO, fp32)", CPU_ROWS, ours(512)),
    ("sorted, at most 1,024 tokens (on a CPU otherwise)", CPU_ROWS, ours(1_024)),
    ("sorted over a part of 16,384, at most 33,792 tokens (CUDA)", CUDA_ROWS, ours(33_792)),
    ("the same, packed", CUDA_ROWS, ours(33_792, "packed")),
]


def encoded(texts: list[str], rows: int) -> Iterator[EncodedTexts]:
    """Part by part."""
    encoder = Encoder(EMBEDDED_DIRECTORY, MAX_LENGTH)
    for start in range(0, len(texts), rows):
        yield encoder.encode(pa.chunked_array([texts[start : start + rows]], pa.large_string()))


def share(texts: list[str], rows: int, computed: Computed) -> float:
    """Padding, of all token positions that are computed."""
    token_count = computed_count = 0
    for part in encoded(texts, rows):
        # Each distinct text is computed once, in the order in which it first stands there.
        lengths = np.array([len(ids) for ids in part.ids], np.int64)
        token_count += int(lengths.sum())
        computed_count += computed(part, lengths)
    return 1 - token_count / computed_count


def main() -> None:
    """Count every way on both sets of texts."""
    texts = {"texts of IMDb's lengths": imdb_like_texts(CUDA_ROWS), "example reviews": example_reviews()}
    rows = [
        {"way": way, "padding": {name: share(given, part_rows, computed) for name, given in texts.items()}}
        for way, part_rows, computed in WAYS
    ]
    save("padding", {"texts": {name: len(given) for name, given in texts.items()}, "rows": rows})


if __name__ == "__main__":
    main()
