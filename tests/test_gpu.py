"""What only a CUDA device can show; run by ``make test-gpu``.

Checked here: fp16 autocast and fp16 weights agree with fp32, packed as well as padded, and compiled; a text's packed
score does not depend on its neighbours; the host waits for nothing while a pass begins; real out-of-memory is survived
with the same labels; the device is chosen and named; what is cast ahead has autocast's bits; and a run on CUDA
resumes to the same bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batchsent.batching import TOLERANCES, largest_difference
from batchsent.machine import choose_device, choose_precision
from batchsent.models import torch_classifier
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.models.sequence_classification import SequenceClassifier
from batchsent.reporting.run_report import RunReport
from support import batch_of, published, rows, write_csv

pytestmark = pytest.mark.gpu

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def probabilities(directory: Path) -> np.ndarray[Any, Any]:
    return np.array([list(row["probabilities"].values()) for row in rows(directory / "r.parquet")])


def test_auto_is_fp16_on_cuda() -> None:
    assert choose_device("auto") == "cuda:0"
    assert choose_precision("auto", "cuda:0") == "fp16"


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """A device on which this process gets 600 MB: more than the model takes, less than a large batch."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(600e6 / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize(("precision", "batching"), [("fp32", "padded"), ("fp16", "packed")])
def test_real_out_of_memory_is_survived(
    score: Score, tmp_path: Path, reviews: Reviews, precision: str, batching: str
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(3_000))
    options: dict[str, Any] = {"model": "embedded", "device": "cuda", "precision": precision, "batching": batching}
    options |= {"rows_per_part": 3_000}
    score(path, output=tmp_path / "roomy", batch_tokens=8_192, **options)
    with little_memory():
        report = score(path, output=tmp_path / "tight", batch_tokens=1_000_000, **options)
    assert report.split_count > 0
    tight, roomy = probabilities(tmp_path / "tight"), probabilities(tmp_path / "roomy")
    np.testing.assert_allclose(tight, roomy, atol=5e-3)
    clear = np.abs(roomy[:, 0] - 0.5) > 5e-3
    assert (tight.argmax(1) == roomy.argmax(1))[clear].all()


def test_the_same_bytes_twice(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(1_000))
    for name in ("one", "two"):
        score(path, output=tmp_path / name, model="embedded", device="cuda", precision="fp16")
    assert published(tmp_path / "one") == published(tmp_path / "two")


def test_cudnn_plans_no_attention(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(20))
    torch.backends.cuda.enable_cudnn_sdp(True)
    score(path, output=tmp_path / "out", model="embedded", device="cuda", precision="fp16", batching="padded")
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]


# --- beside fp32

HALF = ("fp16", "fp16-weights", "bf16")


@pytest.fixture(scope="module")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DistilBERT's real shape, and random weights that give labels of both kinds."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig

    directory = tmp_path_factory.mktemp("distilbert")
    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    torch.manual_seed(0)
    classifier: Any = AutoModelForSequenceClassification
    config = DistilBertConfig(vocab_size=len(tokenizer), initializer_range=0.05)
    classifier.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def require_agreement(half: Path, full: Path, *, largest: float, tie: float) -> None:
    """Probabilities differ by ``largest`` at most, and labels only where fp32 is within ``tie`` of 0.5."""
    found, expected = probabilities(half), probabilities(full)
    np.testing.assert_allclose(found, expected, atol=largest)
    clear = np.abs(expected[:, 0] - 0.5) > tie
    assert clear.mean() > 0.9
    assert (found.argmax(1) == expected.argmax(1))[clear].all()


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("precision", HALF)
def test_distilbert_agrees_with_fp32(
    score: Score, tmp_path: Path, reviews: Reviews, distilbert: Path, precision: str, batching: str
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(2_000))
    options: dict[str, Any] = {"model": str(distilbert), "device": "cuda", "rows_per_part": 2_000}
    score(path, output=tmp_path / "full", precision="fp32", batching="padded", **options)
    score(path, output=tmp_path / "half", precision=precision, batching=batching, **options)
    largest, tie = (2e-2, 2e-2) if precision == "bf16" else (2e-3, 5e-3)
    require_agreement(tmp_path / "half", tmp_path / "full", largest=largest, tie=tie)


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("precision", HALF)
def test_the_embedded_model_agrees_with_fp32(
    score: Score, tmp_path: Path, reviews: Reviews, precision: str, batching: str
) -> None:
    """Its logits lie further apart than random weights', and what rounding does grows with them.

    docs/benchmarks.md has what an H200 gave: 3.0e-3 in fp16, 3.9e-3 in fp16-weights, 3.5e-2 in bf16.
    """
    path = write_csv(tmp_path / "r.csv", reviews(2_000))
    options: dict[str, Any] = {"model": "embedded", "device": "cuda", "rows_per_part": 2_000}
    score(path, output=tmp_path / "full", precision="fp32", batching="padded", **options)
    score(path, output=tmp_path / "half", precision=precision, batching=batching, **options)
    largest, tie = (5e-2, 5e-2) if precision == "bf16" else (5e-3, 5e-3)
    require_agreement(tmp_path / "half", tmp_path / "full", largest=largest, tie=tie)


@pytest.mark.parametrize("model", ["embedded", "distilbert"])
@pytest.mark.parametrize("packed_length", [None, 512])
def test_what_is_cast_ahead_has_the_bits_of_autocast(
    packed_length: int | None, model: str, distilbert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = distilbert if model == "distilbert" else EMBEDDED_DIRECTORY
    chooser = np.random.default_rng(0)
    batch = batch_of([chooser.integers(1_000, 20_000, n).tolist() for n in range(400, 3, -10)], 33_792)
    options: dict[str, Any] = {"precision": "fp16", "device": "cuda:0", "threads": 1, "packed_length": packed_length}
    ahead = SequenceClassifier(directory, **options)
    monkeypatch.setattr(torch_classifier, "cast_ahead", lambda model, _dtype: model)
    every_time = SequenceClassifier(directory, **options)
    np.testing.assert_array_equal(ahead.start(batch)(), every_time.start(batch)())


# --- packed


def test_auto_packs_the_embedded_model(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(50))
    score(path, output=tmp_path / "out", model="embedded", device="cuda", precision="auto")
    settings = json.loads((tmp_path / "out/_batchsent/config.json").read_bytes())
    assert (settings["precision"], settings["batching"]) == ("fp16", "packed")


@pytest.mark.parametrize("precision", HALF)
def test_random_texts_have_the_same_probabilities_both_ways(precision: str) -> None:
    found = largest_difference(EMBEDDED_DIRECTORY, precision=precision, device="cuda:0", max_length=512)
    assert found <= TOLERANCES[precision]


@pytest.mark.parametrize("precision", HALF)
def test_packed_scores_do_not_depend_on_order_or_neighbours(
    score: Score, tmp_path: Path, reviews: Reviews, precision: str
) -> None:
    texts = reviews(2_000)
    options: dict[str, Any] = {"model": "embedded", "device": "cuda", "precision": precision, "batching": "packed"}
    path, reverse = write_csv(tmp_path / "r.csv", texts), write_csv(tmp_path / "reverse/r.csv", texts[::-1])
    score(path, output=tmp_path / "one", rows_per_part=2_000, **options)
    score(reverse, output=tmp_path / "two", rows_per_part=2_000, **options)
    score(path, output=tmp_path / "parts", rows_per_part=90, **options)
    one = probabilities(tmp_path / "one")
    np.testing.assert_array_equal(probabilities(tmp_path / "two")[::-1], one)
    np.testing.assert_array_equal(probabilities(tmp_path / "parts"), one)


@pytest.mark.parametrize("precision", HALF)
def test_the_host_waits_for_nothing_while_a_packed_pass_begins(precision: str) -> None:
    model = SequenceClassifier(EMBEDDED_DIRECTORY, precision=precision, device="cuda:0", threads=1, packed_length=512)
    chooser = np.random.default_rng(0)
    batch = batch_of([chooser.integers(1_000, 20_000, n).tolist() for n in range(400, 3, -10)], 33_792)
    first = np.array(model.start(batch)())
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = model.start(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_array_equal(pending(), first)


# --- compiled


@pytest.mark.parametrize("precision", ["fp16", "fp16-weights"])
def test_a_compiled_model_agrees_with_padded_passes(precision: str) -> None:
    found = largest_difference(
        EMBEDDED_DIRECTORY, precision=precision, device="cuda:0", max_length=512, compiled_tokens=33_792
    )
    assert found <= TOLERANCES[precision]


@pytest.mark.parametrize("precision", ["fp16", "fp16-weights"])
def test_a_compiled_text_does_not_depend_on_its_neighbours(precision: str) -> None:
    model = SequenceClassifier(
        EMBEDDED_DIRECTORY, precision=precision, device="cuda:0", threads=1, packed_length=512, is_compiled=True
    )
    chooser = np.random.default_rng(0)
    rows = [chooser.integers(1_000, 20_000, length).tolist() for length in range(400, 3, -10)]
    together = np.array(model.start(batch_of(rows, 33_792))())
    for index in (0, 7, 39):
        np.testing.assert_array_equal(model.start(batch_of([rows[index]], 33_792))()[0], together[index])
