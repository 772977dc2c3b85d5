"""Batches of one length, drawn by seed and epoch; ids as score makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.stages.encoder import Encoder
from batchsent.training.examples import Examples, LengthGroupedOrder, collate, encode


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 17), st.integers(0, 3))
def test_an_epoch_is_every_text_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    order = LengthGroupedOrder(lengths, batch_size, seed=1)
    order.epoch = epoch
    drawn = list(order)
    assert sorted(drawn) == list(range(len(lengths)))
    assert drawn == list(order), "the same for the same epoch"
    whole = len(lengths) - len(lengths) % batch_size
    if whole:
        assert max(lengths[i] for i in drawn[:batch_size]) == max(lengths[i] for i in drawn[:whole])


def test_epochs_differ_and_batches_hold_texts_of_one_length() -> None:
    lengths = [int(x) for x in np.random.default_rng(0).integers(1, 100, 640)]
    order = LengthGroupedOrder(lengths, 16, seed=1)
    first = list(order)
    order.epoch = 1
    assert first != list(order)
    spread = [max(b) - min(b) for b in ([lengths[i] for i in first[s : s + 16]] for s in range(0, 640, 16))]
    assert np.mean(spread) < 5


def test_ids_are_those_of_the_encoder(base: Path) -> None:
    encoder = Encoder(base, 8)
    examples = encode(encoder, ["good film", "bad", "good " * 20, "\u200b"], [0, 1, 0, 1], lambda: None)
    assert [len(examples[i][0]) for i in range(len(examples))] == [4, 3, 8], (
        "without the text that has no token of its own"
    )
    assert examples.targets == [0, 1, 0]
    assert examples.by_length().lengths == [8, 4, 3]


def test_a_long_text_is_another_window_in_each_epoch(base: Path) -> None:
    words = "the a it is was very not good bad great awful fine kettle film shoes coffee"
    encoder = Encoder(base, 8, window_overlap=4)
    examples = encode(encoder, [words, "good film"], [0, 1], lambda: None, seed=3)
    seen = set()
    for epoch in range(20):
        examples.epoch = epoch
        ids, _ = examples[0]
        assert len(ids) == 8
        assert examples[0][0].tolist() == ids.tolist(), "the same for the same epoch"
        seen.add(tuple(ids.tolist()))
        assert len(examples[1][0]) == 4
    assert len(seen) > 3


def test_a_batch_is_filled_up_on_the_right() -> None:
    ids = [np.array([2, 5, 3], np.int32), np.array([2, 3], np.int32)]
    batch = collate([(ids[0], 1), (ids[1], 0)], pad_token_id=9, label_count=2)
    assert batch["input_ids"].tolist() == [[2, 5, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize("targets", [(frozenset({0, 2}), frozenset())])
def test_several_labels_are_zeros_and_ones(targets: tuple[frozenset[int], ...]) -> None:
    rows = Examples([[np.array([1], np.int32)]] * 2, list(targets))
    batch = collate([rows[0], rows[1]], pad_token_id=0, label_count=3)
    assert batch["labels"].tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
