"""The tokenizer processes are forked: what they must not inherit."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchsent.engines.local import tokenizing
from batchsent.records import EncodedPart, EncodedTexts, Part, Position, Shard
from batchsent.schema import TEXT
from batchsent.stages.batcher import batch_part
from batchsent.stop import StopSignal


class Garbage:
    """Cyclic, and not to be destroyed in another process than this one."""

    def __init__(self, witness: Path) -> None:
        self.itself = self
        self._witness, self._process = witness, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self._process:
            self._witness.touch()


def encode_and_collect() -> Callable[[Any], EncodedPart]:
    def encode(text: Any) -> EncodedPart:
        gc.collect()
        count = len(text)
        ids = [np.ones(3, np.int32)] * count
        texts = EncodedTexts(
            ids, np.ones(count, np.int32), np.zeros(count, bool), np.arange(count, dtype=np.int32), 0, 0.0
        )
        return batch_part(texts, batch_tokens=10, special_token_count=0)

    return encode


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_child_destroys_nothing_of_its_parent(tmp_path: Path, moment: str) -> None:
    """A compiled OpenVINO model waits for ever for threads that are not there."""
    witness = tmp_path / "destroyed-in-a-child"
    gc.disable()
    try:
        if moment == "before":
            Garbage(witness)
        else:
            kept = [Garbage(witness)]
        part = Part(
            Shard("a.csv", "/a.csv", ".csv", "", 1),
            "unit",
            0,
            pa.table({TEXT: pa.array(["x", "y"], pa.large_string())}),
            Position(2),
            is_last=True,
        )
        with tokenizing(
            iter([part]), encode_and_collect, workers=1, pin_memory=False, stop=StopSignal()
        ) as encoded_parts:
            [(_, encoded)] = encoded_parts
        assert len(encoded.lengths) == 2
        if moment == "meanwhile":
            kept.clear()
    finally:
        gc.enable()
    assert not witness.exists()
    assert gc.get_freeze_count() == 0
