"""Padded or packed: the rule, the check of random texts, and what is refused. No CUDA: what it would say is put in."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from batchsent import batching
from batchsent.batching import TOLERANCES, choose_batching, choose_compiled, largest_difference, require_batching
from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.identity import Identity
from batchsent.models import packed, sequence_classification
from batchsent.models.resolution import EMBEDDED_DIRECTORY, ModelSource
from batchsent.resolve import resolve
from models.test_packed import attend

CUDA = "cuda:0"
LIMIT = 128


def choose(asked: str, directory: Path, *, precision: str = "fp16", device: str = CUDA) -> str:
    return choose_batching(asked, directory, precision=precision, device=device, max_length=LIMIT)


@pytest.fixture
def modern(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "modernbert"}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def device_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device without anything in the way of packing."""
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


@pytest.fixture
def cuda(device_can: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that passes for it: the check runs, in fp32."""

    def on_cpu(directory: Path, *, precision: str, device: str, **others: Any) -> Any:
        return real(directory, precision="fp32", device="cpu", **others)

    real = sequence_classification.SequenceClassifier
    monkeypatch.setattr(sequence_classification, "SequenceClassifier", on_cpu)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-5)


# --- the rule


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_padded_can_always_be_had(modern: Path, device: str) -> None:
    assert choose("padded", modern, precision="fp32", device=device) == "padded"
    require_batching("padded", modern, precision="fp32", device=device)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_auto_is_padded_on_a_cpu(tiny_model: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert choose("auto", tiny_model, precision=precision, device="cpu") == "padded"
    assert not caplog.records


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_asked_for_by_name_a_cpu_packs(tiny_model: Path, precision: str) -> None:
    assert choose("packed", tiny_model, precision=precision, device="cpu") == "packed"
    require_batching("packed", tiny_model, precision=precision, device="cpu")


@pytest.mark.usefixtures("cuda")
def test_auto_packs_on_cuda_where_both_agree(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="batchsent")
    assert choose("auto", tiny_model) == "packed"
    assert not caplog.records


# --- the check


def test_both_ways_agree(tiny_model: Path) -> None:
    difference = largest_difference(tiny_model, precision="fp32", device="cpu", max_length=LIMIT)
    assert difference < 1e-5


def test_the_random_texts_are_always_the_same_and_of_every_length(tiny_model: Path) -> None:
    texts, again = (batching._random_texts(tiny_model, LIMIT) for _ in range(2))
    assert texts.token_ids.tolist() == again.token_ids.tolist()
    assert (len(texts.lengths), texts.lengths.max(), texts.lengths.min()) == (32, LIMIT, 3)
    assert len(set(texts.lengths.tolist())) == 32
    assert texts.capacity > len(texts.token_ids)
    assert 0 <= texts.token_ids.min() <= texts.token_ids.max() < 128


def shifted(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return query.roll(1, 0)


def across_texts(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    *max_lengths: int,
) -> torch.Tensor:
    return right(query, key, value, cu_seq_lens_q[[0, -1]], cu_seq_lens_k[[0, -1]], *max_lengths)


def not_finite(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return query * float("nan")


right = packed._attend_text_by_text


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("wrong", [shifted, across_texts, not_finite])
def test_wrong_attention_is_found(
    tiny_model: Path, wrong: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed, "_attend_text_by_text", wrong)
    assert choose("auto", tiny_model) == "padded"
    (record,) = (record for record in caplog.records if record.name.startswith("batchsent"))
    assert record.getMessage().startswith("batches are padded: packed, probabilities differ by up to ")
    assert "\n" not in record.getMessage()


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no kernel\nstack"),
        torch.OutOfMemoryError("out of memory"),
        RuntimeError(),
        TypeError("unexpected argument"),
    ],
)
def test_a_kernel_that_fails_is_no_end(
    tiny_model: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(packed, "_attend_text_by_text", fail)
    assert choose("auto", tiny_model) == "padded"
    (record,) = (record for record in caplog.records if record.name.startswith("batchsent"))
    assert record.getMessage().startswith("batches are padded: packed, they fail in a check with random texts (")
    assert "\n" not in record.getMessage()


# --- compiled

MUCH = batching.COMPILED_FROM_BYTES


@pytest.fixture
def packed_identity(cuda: None, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """Of a run with packed batches; compilers are quick, and look into an attention as little as into CUDA's."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(packed, "_attend_text_by_text", attend)
    config = ScoreConfig(inputs=("-",), output="-", device="cpu", backend="torch", batching="packed", max_length=LIMIT)
    source = ModelSource("tiny", EMBEDDED_DIRECTORY, None, {})
    return replace(resolve(config, source, "cpu"), precision="fp16")


@pytest.mark.compiled
def test_much_work_on_cuda_is_compiled(
    packed_identity: Identity, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for budget in (4_096, 300):  # the random texts need more than the second
        identity = replace(packed_identity, batch_tokens=budget)
        assert choose_compiled(identity, tiny_model, CUDA, MUCH)
    assert not [record for record in caplog.records if record.name.startswith("batchsent")]


@pytest.mark.parametrize(
    ("changes", "device", "input_bytes"),
    [({}, CUDA, MUCH - 1), ({}, "cpu", MUCH), ({"batching": "padded"}, CUDA, MUCH)],
)
def test_what_is_not_compiled(
    packed_identity: Identity, changes: dict[str, Any], device: str, input_bytes: int, tmp_path: Path
) -> None:
    assert not choose_compiled(replace(packed_identity, **changes), tmp_path / "never looked at", device, input_bytes)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (right, "they fail in a check with random texts (torch.compile fails"),
        (shifted, "probabilities differ by up to"),
    ],
)
def test_what_cannot_be_compiled_or_computes_something_else_is_not(
    packed_identity: Identity,
    tiny_model: Path,
    attention: Any,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(packed, "_attend_text_by_text", attention)
    assert not choose_compiled(packed_identity, tiny_model, CUDA, MUCH)
    (record,) = (record for record in caplog.records if record.name.startswith("batchsent"))
    assert record.getMessage().startswith(f"passes are not compiled: compiled, {reason}")
    assert "\n" not in record.getMessage()


# --- what is in the way

OBSTACLES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "model": ("modern", {}, "fp16", "a model of type modernbert; expected an encoder as it is usual (bert, "),
    "precision": ("tiny", {}, "fp32", "precision fp32 on CUDA; expected fp16 or fp16-weights or bf16; "),
    "torch": (
        "tiny",
        {"backends.cuda.is_flash_attention_available": lambda: False},
        "fp16",
        f"torch {torch.__version__}; expected a build for CUDA with variable-length attention; ",
    ),
    "rocm": ("tiny", {"version.hip": "7.0"}, "fp16", f"torch {torch.__version__}; expected a build for CUDA"),
    "gpu": (
        "tiny",
        {"cuda.get_device_capability": lambda _: (7, 5), "cuda.get_device_name": lambda _: "Tesla T4"},
        "bf16",
        "Tesla T4; expected a GPU of compute capability 8.0 or later; ",
    ),
}


@pytest.mark.usefixtures("device_can")
@pytest.mark.parametrize("name", OBSTACLES)
def test_what_is_in_the_way_is_said_in_one_line(
    name: str,
    tiny_model: Path,
    modern: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="batchsent")
    model, patches, precision, reason = OBSTACLES[name]
    directory = modern if model == "modern" else tiny_model
    for target, value in patches.items():
        monkeypatch.setattr(f"torch.{target}", value)
    with pytest.raises(UsageError) as asked:
        choose("packed", directory, precision=precision)
    assert str(asked.value).startswith(f"--batching packed with {reason}")
    assert str(asked.value).endswith("; leave it out, or pass --batching padded")
    with pytest.raises(UsageError) as resumed:
        require_batching("packed", directory, precision=precision, device=CUDA)
    assert str(resumed.value).startswith(f"DIR was begun with packed batches, which cannot be had with {reason}")
    assert resumed.value.exit_code == 2
    assert not caplog.records
    assert choose("auto", directory, precision=precision) == "padded"
    (record,) = caplog.records
    assert record.getMessage() == f"batches are padded: they cannot be packed with {reason.partition(';')[0]}"


def test_a_model_that_cannot_is_refused_on_a_cpu_too(modern: Path) -> None:
    with pytest.raises(UsageError, match="--batching packed with a model of type modernbert"):
        choose("packed", modern, precision="fp32", device="cpu")


def test_many_labels_at_once_are_compared_as_such(tiny_model: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_model, tmp_path / "multi"))
    settings = json.loads((directory / "config.json").read_bytes())
    settings["problem_type"] = "multi_label_classification"
    (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    difference = partial(largest_difference, precision="fp32", device="cpu", max_length=LIMIT)
    assert 0 < difference(directory) < 1e-5
