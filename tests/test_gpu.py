"""What only a CUDA device can show; run by ``make test-gpu``.

Checked here: fp16 autocast and fp16 weights agree with fp32, real out-of-memory is survived with the same labels,
the device is chosen and named, and a run on CUDA resumes to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsent.machine import choose_device, choose_precision
from batchsent.reporting.run_report import RunReport
from support import published, rows, write_csv

pytestmark = pytest.mark.gpu

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def probabilities(directory: Path) -> np.ndarray[Any, Any]:
    return np.array([list(row["probabilities"].values()) for row in rows(directory / "r.parquet")])


def test_auto_is_fp16_on_cuda() -> None:
    assert choose_device("auto") == "cuda:0"
    assert choose_precision("auto", "cuda:0") == "fp16"


@pytest.mark.parametrize("precision", ["fp16", "fp16-weights", "bf16"])
def test_half_precision_agrees_with_fp32(score: Score, tmp_path: Path, reviews: Reviews, precision: str) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(500))
    score(path, output=tmp_path / "full", model="embedded", device="cuda", precision="fp32")
    score(path, output=tmp_path / "half", model="embedded", device="cuda", precision=precision)
    full, half = probabilities(tmp_path / "full"), probabilities(tmp_path / "half")
    np.testing.assert_allclose(half, full, atol=2e-2 if precision == "bf16" else 5e-3)
    clear = np.abs(full[:, 0] - 0.5) > 2e-2
    assert (half.argmax(1) == full.argmax(1))[clear].all()


def test_real_out_of_memory_is_survived(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    import torch

    path = write_csv(tmp_path / "r.csv", reviews(3_000))
    options: dict[str, Any] = {"model": "embedded", "device": "cuda", "precision": "fp32", "rows_per_part": 3_000}
    score(path, output=tmp_path / "roomy", batch_tokens=4_096, **options)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(600e6 / total)
    try:
        report = score(path, output=tmp_path / "tight", batch_tokens=1_000_000, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert report.split_count > 0
    assert [r["label"] for r in rows(tmp_path / "tight/r.parquet")] == [
        r["label"] for r in rows(tmp_path / "roomy/r.parquet")
    ]


def test_the_same_bytes_twice(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(1_000))
    for name in ("one", "two"):
        score(path, output=tmp_path / name, model="embedded", device="cuda", precision="fp16")
    assert published(tmp_path / "one") == published(tmp_path / "two")
