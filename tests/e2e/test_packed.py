"""The whole job with packed batches, on the CPU: what padded ones give, resumed, short of memory, refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batchsent import batching, scoring
from batchsent.batching import Obstacle
from batchsent.errors import SettingsChangedError, UsageError
from batchsent.identity import Identity
from batchsent.models.sequence_classification import SequenceClassifier
from batchsent.records import TokenBatch
from batchsent.reporting.run_report import RunReport
from faults.inline import KillAfter, KilledError
from support import published, rows, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def probabilities(path: Path) -> np.ndarray[Any, Any]:
    return np.array([list(row["probabilities"].values()) for row in rows(path)])


def batching_of(output: Path) -> object:
    return json.loads((output / "_batchsent/config.json").read_bytes())["batching"]


@pytest.mark.parametrize("batch_tokens", [2_048, 150, 20])
def test_packed_gives_what_padded_gives(score: Score, tmp_path: Path, reviews: Reviews, batch_tokens: int) -> None:
    path = write_csv(tmp_path / "r.csv", [*reviews(230), "", "good"])
    for way in ("padded", "packed"):
        score(path, output=tmp_path / way, batching=way, batch_tokens=batch_tokens, max_length=48)
        assert batching_of(tmp_path / way) == way
    padded, packed = (rows(tmp_path / way / "r.parquet") for way in ("padded", "packed"))
    for one, other in zip(padded, packed, strict=True):
        assert (one["row_index"], one["label"], one["truncated"]) == (
            other["row_index"],
            other["label"],
            other["truncated"],
        )
    np.testing.assert_allclose(
        probabilities(tmp_path / "packed/r.parquet"), probabilities(tmp_path / "padded/r.parquet"), atol=1e-5
    )


def test_what_a_packed_pass_is_filled_up_with_is_counted(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(100))
    report = score(path, output=tmp_path / "out", batching="packed", batch_tokens=512, rows_per_part=1_000)
    assert (report.token_count + report.padding_count) % 512 == 0
    assert 0 < report.padding_share < 0.2


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_an_interrupted_run_goes_on_packed(score: Score, tmp_path: Path, reviews: Reviews, stop_after: int) -> None:
    path, out = write_csv(tmp_path / "r.csv", reviews(230)), tmp_path / "out"
    score(path, output=tmp_path / "whole", batching="packed")
    with pytest.raises(KilledError):
        score(path, output=out, batching="packed", progress=KillAfter(stop_after))
    score(path, output=out)  # auto keeps what was recorded
    assert published(out) == published(tmp_path / "whole")
    with pytest.raises(SettingsChangedError, match="batching: packed → padded"):
        score(path, output=out, batching="padded")


class TightModel(SequenceClassifier):
    """A classifier on a device that holds only so many tokens of a pass."""

    memory_tokens = 0

    def start(self, batch: TokenBatch) -> Callable[[], Any]:
        if max(batch.capacity, len(batch.token_ids)) > self.memory_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory (a stand-in)")
        return super().start(batch)


def tight(memory_tokens: int) -> Callable[[Identity, Path, str], TightModel]:
    def load(identity: Identity, directory: Path, device: str) -> TightModel:
        model = TightModel(
            directory,
            precision=identity.precision,
            device=device,
            threads=identity.threads,
            packed_length=identity.max_length,
        )
        model.memory_tokens = memory_tokens
        return model

    return load


def test_out_of_memory_halves_what_a_pass_computes(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(230))
    score(path, output=tmp_path / "roomy", batching="packed")
    report = score(path, output=tmp_path / "tight", batching="packed", load_model=tight(300))
    assert report.split_count > 5
    roomy, narrow = (tmp_path / name / "r.parquet" for name in ("roomy", "tight"))
    assert [row["label"] for row in rows(narrow)] == [row["label"] for row in rows(roomy)]
    np.testing.assert_allclose(probabilities(narrow), probabilities(roomy), atol=1e-5)


def test_a_text_that_fits_alone_is_not_rejected(score: Score, tmp_path: Path) -> None:
    # Filled up to the budget its pass does not fit.
    path = write_csv(tmp_path / "r.csv", ["good film"])
    report = score(path, output=tmp_path / "one", batching="packed", load_model=tight(10))
    assert (report.split_count, report.totals["reject_counts"]) == (1, {})
    path = write_csv(tmp_path / "r.csv", ["good film", "very bad " * 20])
    options: dict[str, Any] = {"batching": "packed", "max_reject_rate": 0.5}
    score(path, output=tmp_path / "two", load_model=tight(10), **options)
    rejects = rows(tmp_path / "two/_batchsent/rejects/r.parquet")
    assert [(row["row_index"], row["reason"]) for row in rejects] == [(1, "out_of_memory")]


def test_a_machine_that_cannot_pack_does_not_go_on(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_csv(tmp_path / "r.csv", reviews(120)), tmp_path / "out"
    with pytest.raises(KilledError):
        score(path, output=out, batching="packed", progress=KillAfter(1))
    with monkeypatch.context() as patch:
        patch.setattr(batching, "_obstacle", lambda *_: Obstacle("Tesla T4", "a newer one"))
        with pytest.raises(UsageError, match="DIR was begun with packed batches, which cannot be had with Tesla T4"):
            score(path, output=out)
    assert not (out / "_SUCCESS").exists()
    score(path, output=out)
    assert (out / "_SUCCESS").exists()


def test_a_model_that_cannot_be_packed_takes_no_directory(score: Score, tmp_path: Path, monkeypatch: Any) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"])
    monkeypatch.setattr("batchsent.models.packed.PACKABLE_TYPES", ("electra",))
    with pytest.raises(UsageError, match="--batching packed with a model of type bert"):
        score(path, output=tmp_path / "out", batching="packed")
    assert not (tmp_path / "out/_batchsent/config.json").exists()
    score(path, output=tmp_path / "out")
    assert batching_of(tmp_path / "out") == "padded"


def test_the_choice_is_said_where_a_run_begins(score: Score, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=scoring.__name__)
    score(write_csv(tmp_path / "r.csv", ["good"]), output=tmp_path / "out", batching="packed")
    assert "batching packed" in caplog.text
