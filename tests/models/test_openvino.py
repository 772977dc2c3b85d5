"""OpenVINO computes what torch computes, or is not taken; a model is converted once; int8 keeps its labels."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsent import checkpoint, machine
from batchsent.errors import ConversionError, DeviceError, StoppedError, UsageError
from batchsent.identity import Identity
from batchsent.models import conversion, graphs, openvino
from batchsent.models.cache import cache_directory
from batchsent.models.graphs import CONVERTIBLE, graph_of
from batchsent.models.openvino import OpenVinoClassifier
from batchsent.models.resolution import MODEL_FILES, sha256_of
from batchsent.models.sequence_classification import SequenceClassifier
from batchsent.records import TokenBatch
from batchsent.reporting.run_report import RunReport
from quantized import with_floats
from support import batch_of, make_bert, make_tokenizer, published, rows, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]

ROWS = [[2, 9, 14, 30, 31, 32, 3], [2, 9, 14, 3], [2, 30, 3]]


def files_of(directory: Path) -> dict[str, str]:
    paths = sorted({path for pattern in MODEL_FILES for path in directory.glob(pattern)})
    return {path.name: sha256_of(str(path)) for path in paths}


def make(directory: Path, model_type: str) -> Path:
    """A random classifier of a kind, with a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 128, "max_position_embeddings": 132, "num_labels": 3}
    if model_type == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = AutoConfig.for_model(model_type, initializer_range=0.4, pad_token_id=0, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)  # type: ignore[no-untyped-call]
    make_tokenizer(directory)
    return directory


def load(directory: Path, precision: str = "fp32") -> SequenceClassifier:
    return SequenceClassifier(directory, precision=precision, device="cpu", threads=1)


def classifier(directory: Path, precision: str = "fp32", threads: int = 2) -> OpenVinoClassifier:
    graph = graph_of(directory, files_of(directory), quantized=precision == "int8", max_length=64, check=lambda: None)
    return OpenVinoClassifier(
        graph, precision=precision, threads=threads, pad_token_id=0, load_full_precision=lambda: load(directory)
    )


def random_batch(texts: int, seed: int) -> TokenBatch:
    chooser = np.random.default_rng(seed)
    lengths = sorted(chooser.integers(3, 60, texts).tolist(), reverse=True)
    return batch_of([[2, *chooser.integers(5, 100, length - 2).tolist(), 3] for length in lengths])


# --- what it computes


@pytest.mark.parametrize("model_type", CONVERTIBLE)
def test_logits_are_those_of_torch(tmp_path: Path, model_type: str) -> None:
    directory = make(tmp_path / model_type, model_type)
    found, expected = classifier(directory), load(directory)
    for seed in range(3):
        batch = random_batch(7, seed)
        np.testing.assert_allclose(found.start(batch)(), expected.start(batch)(), atol=2e-4)
    assert found.start(batch)().dtype == np.float32


@pytest.mark.parametrize(("is_apart", "fused_count"), [(True, 0), (False, 2)])
def test_without_avx512_gelu_is_no_part_of_a_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_apart: bool, fused_count: int
) -> None:
    monkeypatch.setattr(openvino, "is_avx2_widest", lambda: is_apart)
    directory = make(tmp_path / "bert", "bert")
    graph = graph_of(directory, files_of(directory), quantized=False, max_length=64, check=lambda: None)
    compiled = openvino.compile_graph(graph, precision="fp32", threads=1)
    executed = [
        node.get_rt_info()["originalLayersNames"].astype(str) for node in compiled.get_runtime_model().get_ops()
    ]
    fused = [names for names in executed if "gelu" in names and "aten::linear" in names]
    assert len(fused) == fused_count, "one a layer"
    batch = random_batch(7, seed=0)
    found = compiled(openvino.inputs_of(batch, 0))[0]
    np.testing.assert_allclose(found, load(directory).start(batch)(), atol=2e-4)
    kinds = [operation.get_type_name() for operation in graph.get_ops()]
    assert kinds.count("Gelu") == 2, "the graph itself stays as it was"


def test_threads_are_done_before_a_queue_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a process that ends right after its last pass is aborted now and then, with exit code 134."""
    library, waited = openvino.import_openvino(), []

    class Watched(library.AsyncInferQueue):  # type: ignore[misc, name-defined]
        def wait_all(self) -> None:
            waited.append(True)
            super().wait_all()

    monkeypatch.setattr(library, "AsyncInferQueue", Watched)
    model = classifier(make(tmp_path / "bert", "bert"))
    model.start(batch_of(ROWS))()
    assert not waited
    del model
    assert waited


def test_passes_run_at_once_and_answer_for_their_own_batch(tiny_model: Path) -> None:
    model, alone = classifier(tiny_model, threads=3), classifier(tiny_model, threads=1)
    assert (model.in_flight, alone.in_flight) == (2, 0)
    batches = [random_batch(1 + seed % 5, seed) for seed in range(60)]
    pending = [model.start(batch) for batch in batches]
    for batch, wait in zip(batches, pending, strict=True):
        np.testing.assert_array_equal(wait(), alone.start(batch)(), err_msg="the same bits, whatever runs beside it")


def test_a_pass_that_fails_is_a_device_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_PATIENCE_SECONDS", 0.05)
    model = classifier(tiny_model)
    wait = model.start(batch_of([[5] * 200]))  # more than it has positions
    with pytest.raises(DeviceError, match="OpenVINO failed"):
        wait()


def test_full_precision_is_torch(tiny_model: Path) -> None:
    batch = batch_of(ROWS)
    np.testing.assert_array_equal(
        classifier(tiny_model, "int8").full_precision_logits(batch), load(tiny_model).full_precision_logits(batch)
    )


# --- what is refused


def test_a_graph_that_computes_something_else_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "TOLERANCE", -1.0)
    conversion.convert(tiny_model, tmp_path, quantized=False, max_length=64, parent=os.getppid())
    assert [path.name for path in tmp_path.iterdir()] == [conversion.REFUSED]


def test_auto_takes_torch_where_openvino_cannot(
    score: Score, tmp_path: Path, reviews: Reviews, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(30))
    model = make(tmp_path / "albert", "albert")
    with caplog.at_level(logging.INFO, logger="batchsent"):
        score(path, output=tmp_path / "out", model=str(model), backend="auto")
    assert [line for line in caplog.messages if "--backend auto" in line] == [
        "--backend auto takes torch: OpenVINO and albert, a model of type albert"
    ]
    assert identity_in(tmp_path / "out").backend == "torch"
    with pytest.raises(ConversionError, match="expected one of bert, distilbert"):
        score(path, output=tmp_path / "named", model=str(model), backend="openvino")


def test_auto_takes_openvino_and_never_int8(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(30))
    score(path, output=tmp_path / "out", backend="auto", precision="auto")
    found = identity_in(tmp_path / "out")
    assert (found.backend, found.calibration_texts) == ("openvino", None)
    assert found.precision == ("bf16" if machine.is_bf16_faster() else "fp32")


def test_int8_is_refused_on_torch(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"])
    with pytest.raises(UsageError, match="precision int8 with torch on cpu"):
        score(path, output=tmp_path / "out", precision="int8", backend="torch")


def test_bf16_is_refused_where_it_would_be_fp32(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_native_bf16", lambda: False)
    path = write_csv(tmp_path / "r.csv", ["good"])
    with pytest.raises(UsageError, match="would compute fp32"):
        score(path, output=tmp_path / "out", precision="bf16", backend="openvino")
    score(path, output=tmp_path / "out", precision="bf16", backend="auto")
    assert identity_in(tmp_path / "out").backend == "torch"


def test_int8_is_refused_where_its_sums_overflow(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_int8_dot_products", lambda: False)
    path = write_csv(tmp_path / "r.csv", ["good"])
    with pytest.raises(UsageError, match="int8 on a processor without dot products"):
        score(path, output=tmp_path / "out", precision="int8", backend="auto")
    assert not published(tmp_path / "out")


def test_bf16_that_gains_nothing_is_told_of(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "r.csv", ["good", "bad"])
    for is_faster in (True, False):
        monkeypatch.setattr(machine, "has_native_bf16", lambda is_faster=is_faster: is_faster)
        monkeypatch.setattr(machine, "is_bf16_faster", lambda is_faster=is_faster: is_faster)
        caplog.clear()
        score(path, output=tmp_path / f"out-{is_faster}", precision="bf16", backend="torch")
        told = [line for line in caplog.messages if "gains nothing" in line]
        assert told == (
            [] if is_faster else ["precision bf16 gains nothing here: this processor emulates bf16; fp32 is faster"]
        )


def test_without_the_extra(score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(30))
    score(path, output=tmp_path / "begun", backend="auto")
    (tmp_path / "begun/r.parquet").unlink()
    for module in ("batchsent.models.openvino", "batchsent.resolve"):
        monkeypatch.setattr(f"{module}.is_installed", lambda: False)
    score(path, output=tmp_path / "out", backend="auto")
    assert identity_in(tmp_path / "out").backend == "torch"
    for options in ({"backend": "openvino"}, {"precision": "int8", "backend": "auto"}):
        with pytest.raises(UsageError, match=r"pip install 'batchsent\[openvino\]'"):
            score(path, output=tmp_path / "other", **options)
    with pytest.raises(UsageError, match="openvino is not installed"):
        score(path, output=tmp_path / "begun", backend="auto")


# --- the cache


def test_a_model_is_converted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = make_bert(tmp_path / "mine", labels=("once", "twice"))
    with caplog.at_level(logging.INFO, logger="batchsent"):
        for _ in range(2):
            classifier(directory)
    assert sum("converting mine" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("end", ["xml", "bin", "sha256"])
def test_a_damaged_graph_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str) -> None:
    directory = make_bert(tmp_path / "mine", labels=("whole", end))
    before = set(cache_directory().glob(f"*.{end}"))
    expected = classifier(directory).start(batch_of(ROWS))()
    [path] = set(cache_directory().glob(f"*.{end}")) - before
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.INFO, logger="batchsent"):
        found = classifier(directory).start(batch_of(ROWS))()
    assert any("converting mine" in line for line in caplog.messages)
    np.testing.assert_array_equal(found, expected)


def test_without_a_cache_it_is_made_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    directory = make_bert(tmp_path / "mine")
    found = classifier(directory).start(batch_of(ROWS))()
    assert any("is not kept" in line for line in caplog.messages)
    np.testing.assert_allclose(found, load(directory).start(batch_of(ROWS))(), atol=2e-4)


def test_a_signal_ends_a_conversion(tmp_path: Path) -> None:
    def stopped() -> None:
        raise StoppedError(signal.SIGTERM)

    directory = make_bert(tmp_path / "mine")
    with pytest.raises(StoppedError):
        graph_of(directory, {"other": "files"}, quantized=False, max_length=64, check=stopped)


def test_a_conversion_that_crashes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_CHILD", "import sys; print('what it was'); sys.exit(7)")
    with pytest.raises(ConversionError, match="exit status 7: what it was"):
        graph_of(tmp_path, {"crash": ""}, quantized=False, max_length=64, check=lambda: None)


# --- int8


def test_int8_is_the_same_each_time(tiny_model: Path, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-c", graphs._CHILD, graphs._PACKAGE_ROOT, str(tiny_model), str(folder)]
        options = f'{{"quantized": true, "max_length": 64, "parent": {os.getpid()}}}'
        subprocess.run([*command, options], check=True, capture_output=True)
        made.append([(folder / f"graph.{end}").read_bytes() for end in ("xml", "bin")])
    assert made[0] == made[1]


def test_int8_counts_its_calibration_texts(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_int8_dot_products", lambda: True)
    score(write_csv(tmp_path / "r.csv", reviews(30)), output=tmp_path / "out", precision="int8", backend="auto")
    found = identity_in(tmp_path / "out")
    assert (found.backend, found.calibration_texts) == ("openvino", sha256_of(str(conversion.CALIBRATION_TEXTS)))


def test_int8_keeps_labels(tiny_model: Path) -> None:
    model = load(tiny_model)
    batches = [random_batch(1, seed) for seed in range(100)]
    quantized = graph_of(tiny_model, files_of(tiny_model), quantized=True, max_length=64, check=lambda: None)
    compiled = openvino.compile_graph(with_floats(quantized), precision="fp32", threads=1)
    expected, found = (
        np.concatenate([logits_of(batch) for batch in batches])
        for logits_of in (lambda batch: model.start(batch)(), lambda batch: compiled(openvino.inputs_of(batch, 0))[0])
    )
    clear = np.exp(expected).max(1) / np.exp(expected).sum(1) > 0.9
    assert clear.sum() > 20
    assert (found.argmax(1) == expected.argmax(1))[clear].mean() > 0.95, "of random weights"


# --- the whole job


def test_the_same_bytes_on_any_number_of_threads(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(200))
    for name in ("one", "two"):
        score(path, output=tmp_path / name, backend="openvino", threads=2, batch_tokens=200)
    assert published(tmp_path / "one") == published(tmp_path / "two")
    score(path, output=tmp_path / "three", backend="openvino", threads=1, batch_tokens=200)
    one, three = (rows(tmp_path / name / "r.parquet") for name in ("one", "three"))
    assert one == three


def identity_in(out: Path) -> Identity:
    return Identity.from_json((out / checkpoint.CONFIG).read_bytes())
