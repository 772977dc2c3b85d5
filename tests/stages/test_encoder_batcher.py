"""Texts to batches and back: nothing lost, nothing doubled, ids as the transformers library has them."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.errors import ModelError
from batchsent.models.resolution import EMBEDDED_DIRECTORY, resolve_model
from batchsent.records import EncodedTexts, TokenBatch, packed_window_limit
from batchsent.stages.batcher import batch_part
from batchsent.stages.encoder import Encoder
from batchsent.stages.encoder import texts as encoder_texts
from families import roberta

ODD_TEXTS = [
    "A plain review.",
    "x",
    "word " * 900,
    'Ünïcödé, emoji 👩‍👩‍👧 and 中文 mixed; 5" wide\n\n<br /> &amp; tabs\t',
    "[SEP] tokens that look special [CLS] </s> <|endoftext|>",
    "a" * 3000,
    "\u200b\ufeff zero width",
    "NA",
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("limit", [8, 64, 512])
def test_ids_are_those_of_the_library(tmp_path: Path, family: str, side: str, limit: int) -> None:
    from transformers import AutoTokenizer

    directory = EMBEDDED_DIRECTORY if family == "bert" else roberta(tmp_path)
    reference: Any = AutoTokenizer.from_pretrained(directory, truncation_side=side)
    copy = tmp_path / "copy"
    reference.save_pretrained(copy)
    encoded = Encoder(copy, limit).encode(pa.chunked_array([ODD_TEXTS]))
    expected = reference(ODD_TEXTS, truncation=True, max_length=limit)["input_ids"]
    assert [ids.tolist() for ids in encoded.ids] == expected
    whole = reference(ODD_TEXTS, verbose=False)["input_ids"]
    assert encoded.truncated.tolist() == [len(ids) > limit for ids in whole]


@pytest.mark.parametrize("is_by_words", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_of_a_giant_text_only_as_much_is_tokenized_as_counts(
    tmp_path: Path, family: str, side: str, is_by_words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    directory = EMBEDDED_DIRECTORY if family == "bert" else roberta(tmp_path)
    reference: Any = AutoTokenizer.from_pretrained(directory, truncation_side=side)
    copy = tmp_path / "copy"
    reference.save_pretrained(copy)
    monkeypatch.setattr(encoder_texts, "_CHUNK_BYTES", 2000)
    if not is_by_words:
        monkeypatch.setattr(encoder_texts, "cuts_of", lambda components: None)
    blank_in_front = " " * 5000 + "It broke, then worked; " * 900
    texts = [
        *ODD_TEXTS,
        "It broke, then worked; " * 900,
        blank_in_front,
        blank_in_front[::-1],
        "a" * 9000,
        "中文" * 4000,
    ]
    sizes: list[int] = []
    library_ids = Encoder._library_ids

    def measured(encoder: Encoder, some: list[str], **options: Any) -> Any:
        sizes.append(sum(map(len, some)))
        return library_ids(encoder, some, **options)

    tokenizing = Encoder(copy, 64)
    monkeypatch.setattr(Encoder, "_library_ids", measured)
    encoded = tokenizing.encode(pa.chunked_array([texts]))
    assert [ids.tolist() for ids in encoded.ids] == reference(texts, truncation=True, max_length=64)["input_ids"]
    assert encoded.truncated.tolist() == [len(reference(text)["input_ids"]) > 64 for text in texts]
    assert max(sizes) < 17_000, "of 25,700 characters"


def test_each_distinct_text_is_encoded_once() -> None:
    encoder = Encoder(EMBEDDED_DIRECTORY, 16)
    text = pa.chunked_array([["good", None, "bad"], ["good", "bad", None]], pa.large_string())
    encoded = encoder.encode(text)
    assert encoded.text_of_record.tolist() == [0, -1, 1, 0, 1, -1]
    assert len(encoded.ids) == 2


def test_unknown_tokens_are_counted() -> None:
    encoded = Encoder(EMBEDDED_DIRECTORY, 64).encode(pa.chunked_array([["good 龘龘龘 film"]]))
    assert encoded.unknown_token_count == 3


def test_a_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(ModelError, match="more than the 2 tokens around a text"):
        Encoder(EMBEDDED_DIRECTORY, 2)


@pytest.mark.parametrize("overlap", [0, 1, 5, 13])
@pytest.mark.parametrize("count", [1, 14, 15, 28, 100, 3_000])
def test_windows_cover_a_text(overlap: int, count: int) -> None:
    words = ["good", "film", "bad", "the", "kettle"]
    text = " ".join(words[i % 5] for i in range(count))
    whole = Encoder(EMBEDDED_DIRECTORY, 10_000).encode(pa.chunked_array([[text]])).ids[0].tolist()
    encoded = Encoder(EMBEDDED_DIRECTORY, 16, window_overlap=overlap).encode(pa.chunked_array([["bad", text, "film"]]))
    windows = [ids.tolist() for ids in encoded.ids][1:-1]
    assert encoded.window_counts.tolist() == [1, len(windows), 1]
    assert not encoded.truncated.any()
    if len(whole) <= 16:
        assert windows == [whole]
        return
    own = whole[1:-1]
    assert {len(window) for window in windows} == {16}
    assert all(window[0] == whole[0] and window[-1] == whole[-1] for window in windows)
    starts = [*range(0, len(own) - 14, 14 - overlap), len(own) - 14]
    assert [window[1:-1] for window in windows] == [own[start : start + 14] for start in starts]


def test_an_overlap_without_progress_is_refused() -> None:
    with pytest.raises(ModelError, match="--window-overlap 14; expected fewer than the 14 tokens"):
        Encoder(EMBEDDED_DIRECTORY, 16, window_overlap=14)


def test_the_tokens_of_a_text_are_those_of_its_windows() -> None:
    ids = [np.ones(length, np.int32) for length in (3, 9, 4, 4, 2)]
    texts = EncodedTexts(ids, np.array([1, 3, 1], np.int32), np.zeros(3, bool), np.empty(0, np.int32), 0, 0.0)
    part = batch_part(texts, batch_tokens=10, special_token_count=2)
    assert part.token_counts.tolist() == [3, 17, 2]
    assert sorted(part.window_indices.tolist()) == [0, 1, 2, 3]


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    # The library would make a BERT tokenizer that knows no word.
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="has no tokenizer"):
        resolve_model(str(tmp_path), None, lambda path: "")


@settings(max_examples=300, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 200), max_size=80),
    budget=st.integers(1, 3000),
    records=st.lists(st.integers(-1, 79), max_size=100),
)
def test_sort_cut_and_pad_lose_nothing(lengths: list[int], budget: int, records: list[int]) -> None:
    ids = [np.arange(1, length + 1, dtype=np.int32) + 1000 * index for index, length in enumerate(lengths)]
    text_of_record = np.array([r for r in records if r < len(lengths)], np.int32)
    texts = EncodedTexts(ids, np.ones(len(ids), np.int32), np.zeros(len(ids), bool), text_of_record, 0, 0.0)
    part = batch_part(texts, batch_tokens=budget, special_token_count=2)
    seen: dict[int, list[int]] = {}
    padding = 0
    for batch in part.batches:
        padded = batch.padded(-1)
        rows, longest = padded.shape
        assert rows == 1 or rows * longest <= budget
        assert longest == batch.lengths[0] == batch.lengths.max()
        for row, length, text in zip(padded, batch.lengths, batch.window_indices, strict=True):
            assert (row[length:] == -1).all()
            assert int(text) not in seen
            seen[int(text)] = row[:length].tolist()
            padding += longest - int(length)
    assert padding == part.padding_count
    assert seen == {i: ids[i].tolist() for i, length in enumerate(lengths) if length > 2}
    order = [length for batch in part.batches for length in batch.lengths.tolist()]
    assert order == sorted(order, reverse=True)


@settings(max_examples=300, deadline=None)
@given(lengths=st.lists(st.integers(2, 200), max_size=80), budget=st.integers(1, 3000))
def test_packing_loses_nothing(lengths: list[int], budget: int) -> None:
    ids = [np.arange(1, length + 1, dtype=np.int32) + 1000 * index for index, length in enumerate(lengths)]
    texts = EncodedTexts(ids, np.ones(len(ids), np.int32), np.zeros(len(ids), bool), np.empty(0, np.int32), 0, 0.0)
    part = batch_part(texts, batch_tokens=budget, special_token_count=2, batching="packed")
    seen: dict[int, list[int]] = {}
    computed = 0
    for batch, following in zip_longest(part.batches, part.batches[1:]):
        count, tokens = len(batch.lengths), int(batch.lengths.sum())
        assert count == 1 or tokens <= budget
        assert count <= packed_window_limit(budget)
        assert batch.capacity == budget
        assert len(batch.token_ids) == tokens
        # Cut no earlier than it has to be.
        assert not following or count == packed_window_limit(budget) or tokens + following.lengths[0] > budget
        computed += max(budget, tokens)
        starts = np.cumsum(batch.lengths) - batch.lengths
        for start, length, text in zip(starts, batch.lengths, batch.window_indices, strict=True):
            assert int(text) not in seen
            seen[int(text)] = batch.token_ids[start : start + length].tolist()
    assert part.padding_count == computed - sum(length for length in lengths if length > 2)
    assert seen == {i: ids[i].tolist() for i, length in enumerate(lengths) if length > 2}
    order = [length for batch in part.batches for length in batch.lengths.tolist()]
    assert order == sorted(order, reverse=True)


def test_many_short_texts_meet_the_limit_of_texts() -> None:
    texts = EncodedTexts(
        [np.ones(3, np.int32)] * 100, np.ones(100, np.int32), np.zeros(100, bool), np.empty(0, np.int32), 0, 0.0
    )
    part = batch_part(texts, batch_tokens=160, special_token_count=2, batching="packed")
    assert [len(batch.lengths) for batch in part.batches] == [20] * 5


def test_padded_batches_are_filled_up_to_nothing() -> None:
    texts = EncodedTexts([np.ones(3, np.int32)], np.ones(1, np.int32), np.zeros(1, bool), np.empty(0, np.int32), 0, 0.0)
    (batch,) = batch_part(texts, batch_tokens=160, special_token_count=2).batches
    assert (batch.capacity, batch.smaller()) == (0, [])


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), capacity=st.integers(0, 3000))
def test_what_is_smaller_is_all_of_it_and_comes_to_an_end(lengths: list[int], capacity: int) -> None:
    tokens = np.arange(sum(lengths), dtype=np.int32)
    waiting = [TokenBatch(tokens, np.array(lengths), np.arange(len(lengths)), capacity)]
    alone: list[TokenBatch] = []
    while waiting:
        batch = waiting.pop()
        smaller = batch.smaller()
        for part in smaller:
            assert max(part.capacity, len(part.token_ids)) < max(batch.capacity, len(batch.token_ids))
        waiting += reversed(smaller)
        alone += [] if smaller else [batch]
    assert [len(batch.lengths) for batch in alone] == [1] * len(lengths)
    assert all(batch.capacity <= len(batch.token_ids) for batch in alone), "nothing but the text itself"
    assert [index for batch in alone for index in batch.window_indices] == list(range(len(lengths)))
    np.testing.assert_array_equal(np.concatenate([batch.token_ids for batch in alone]), tokens)
