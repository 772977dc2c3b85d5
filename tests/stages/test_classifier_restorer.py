"""Predictions find their records again, whatever the order, the duplicates and the failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent import schema
from batchsent.identity import Labelling
from batchsent.records import EncodedTexts, Part, Position, Shard, TokenBatch
from batchsent.stages.batcher import batch_part
from batchsent.stages.classifier import Logits, classify
from batchsent.stages.restorer import restore

LABELS = ("A", "B", "C")
SHARD = Shard("s.csv", "/s.csv", ".csv", "", 1)


class SumModel:
    """Logits that follow from a text's own tokens; out of memory above a size."""

    def __init__(self, memory: int, in_flight: int) -> None:
        self._memory = memory
        self.in_flight = in_flight

    def start(self, batch: TokenBatch) -> Callable[[], Logits]:
        return partial(np.array, self.full_precision_logits(batch))

    def full_precision_logits(self, batch: TokenBatch) -> Logits:
        if batch.padded(0).size > self._memory:
            raise torch.OutOfMemoryError
        sums = batch.padded(0).sum(axis=1) % 97
        return np.stack([sums / 30, 1 - sums / 50, sums * 0], axis=1).astype(np.float32)


def expected(tokens: list[int], multi_label: bool, temperature: float = 1.0) -> list[float]:
    total = sum(tokens) % 97
    logits = torch.tensor([total / 30, 1 - total / 50, 0.0]) / temperature
    values: list[float] = (torch.sigmoid(logits) if multi_label else torch.softmax(logits, -1)).tolist()
    return values


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    records=st.lists(st.integers(-1, 29), max_size=60),
    budget=st.integers(1, 300),
    memory=st.integers(10, 400),
    multi_label=st.booleans(),
    in_flight=st.integers(0, 4),
)
def test_every_record_gets_its_own_prediction(
    lengths: list[int], records: list[int], budget: int, memory: int, multi_label: bool, in_flight: int
) -> None:
    ids = [np.arange(length, dtype=np.int32) * 7 + index + 1 for index, length in enumerate(lengths)]
    of_record = np.array([min(r, len(ids) - 1) for r in records], np.int32)
    texts = EncodedTexts(ids, np.ones(len(ids), np.int32), np.zeros(len(ids), bool), of_record, 0, 0.0)
    encoded = batch_part(texts, batch_tokens=budget, special_token_count=1)
    part = Part(SHARD, "u", 0, read_records(of_record), Position(len(records)), is_last=True)
    # The same part three times: what one leaves in flight must not get into the next.
    model = SumModel(memory, in_flight)
    labelling = Labelling(LABELS, multi_label)
    parts = classify([(part, encoded)] * 3, model, labelling, lambda: None)
    (_, _, predictions), *others = parts
    for _, _, other in others:
        np.testing.assert_array_equal(other.probabilities, predictions.probabilities)
        assert other.failures == predictions.failures
    table = restore(part, encoded, predictions, labelling).table
    assert table.num_rows == len(records)
    assert table.column("kept.id").to_pylist() == list(range(len(records)))
    for row, text in zip(table.to_pylist(), of_record.tolist(), strict=True):
        if text < 0:
            assert (row["reason"], row["label"]) == ("field_count", None)
        elif lengths[text] == 1:
            assert (row["reason"], row["probabilities"]) == ("empty_text", None)
        elif lengths[text] > memory:
            assert (row["reason"], row["token_count"]) == ("out_of_memory", None)
        else:
            wanted = expected(ids[text].tolist(), multi_label)
            np.testing.assert_allclose([row["probabilities"][label] for label in LABELS], wanted, atol=1e-6)
            assert row["label"] == LABELS[int(np.argmax(wanted))]
            assert row["probability"] == max(row["probabilities"].values())
            assert (row["reason"], row["token_count"]) == (None, lengths[text])


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=12),
    budget=st.integers(1, 60),
    aggregate=st.sampled_from(["mean", "max"]),
    multi_label=st.booleans(),
    temperature=st.sampled_from([None, 0.5, 3.0]),
)
def test_the_windows_of_a_text_become_one_prediction(
    texts: list[list[int]], budget: int, aggregate: str, multi_label: bool, temperature: float | None
) -> None:
    lengths = [length for windows in texts for length in windows]
    ids = [np.arange(length, dtype=np.int32) * 7 + index + 1 for index, length in enumerate(lengths)]
    counts, of_record = np.array([len(windows) for windows in texts], np.int32), np.arange(len(texts), dtype=np.int32)
    encoded = batch_part(
        EncodedTexts(ids, counts, np.zeros(len(texts), bool), of_record, 0, 0.0),
        batch_tokens=budget,
        special_token_count=0,
    )
    part = Part(SHARD, "u", 0, read_records(of_record), Position(len(texts)), is_last=True)
    model = SumModel(10, 1)
    labelling = Labelling(LABELS, multi_label, temperature, aggregate)
    [(_, _, predictions)] = classify([(part, encoded)], model, labelling, lambda: None)
    found = restore(part, encoded, predictions, labelling).table
    ends = np.cumsum(counts).tolist()
    for row, end, windows in zip(found.to_pylist(), ends, texts, strict=True):
        own = ids[end - len(windows) : end]
        if max(windows) > 10:  # one window does not fit, so nothing is known of the text
            assert (row["reason"], row["label"], row["window_count"]) == ("out_of_memory", None, None)
            continue
        each = np.array([expected(window.tolist(), multi_label, temperature or 1.0) for window in own])
        wanted = each.mean(0) if aggregate == "mean" else each.max(0)
        if aggregate == "max" and not multi_label:
            wanted /= wanted.sum()
        np.testing.assert_allclose([row["probabilities"][label] for label in LABELS], wanted, atol=1e-6)
        assert (row["window_count"], row["token_count"]) == (len(windows), sum(windows))


def read_records(of_record: Any) -> pa.Table:
    """What a reader says of records whose text is index ``of_record``; -1 is a row with too few fields."""
    count = len(of_record)
    rejected = of_record < 0
    columns = {
        schema.ROW_INDEX: pa.array(range(count), pa.int64()),
        schema.BYTE_OFFSET: pa.array(range(count), pa.int64()),
        schema.TEXT: pa.array([None if r else "x" for r in rejected], pa.large_string()),
        schema.REASON: pa.array(["field_count" if r else None for r in rejected], pa.string()),
        schema.DETAIL: pa.nulls(count, pa.string()),
        "kept.id": pa.array(range(count), pa.int64()),
    }
    return pa.table(columns)
