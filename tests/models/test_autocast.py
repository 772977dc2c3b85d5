"""What is cast ahead gives the bits of autocast, with fewer casts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from batchsent.models import autocast, packed, torch_classifier
from batchsent.models.autocast import cast_ahead
from batchsent.models.last_layer import narrowed
from batchsent.models.packed import PackedModel
from batchsent.models.sequence_classification import SequenceClassifier
from models.test_last_layer import NARROW, ROWS, make, padded
from models.test_packed import attend
from support import batch_of

DTYPE = torch.float16
Pass = Callable[[], torch.Tensor]


@pytest.fixture
def _autocast() -> Iterator[None]:
    """The CPU's. Other than CUDA's it leaves normalizations in the precision of what they are given."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=DTYPE):
        yield


def padded_pass(model: Any) -> Pass:
    return lambda: model(**padded()).logits


def packed_pass(model: Any) -> Pass:
    view = PackedModel(model, max_length=512)
    return lambda: view(batch_of(ROWS, 512))


WAYS: dict[str, Callable[[Any], Pass]] = {
    "padded": padded_pass,
    "narrow": lambda model: padded_pass(narrowed(model)),
    "packed": packed_pass,
}


@pytest.mark.usefixtures("_autocast")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model_type", NARROW)
def test_the_bits_are_those_of_autocast(model_type: str, way: str) -> None:
    model = make(model_type)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    view = cast_ahead(model, DTYPE)
    assert {module.weight.dtype for module in view.modules() if isinstance(module, torch.nn.Linear)} == {DTYPE}
    assert torch.equal(WAYS[way](view)(), WAYS[way](model)())
    # The model is the reference in fp32, and stays what it was.
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def casts(compute: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        compute()
    counts = Counter({event.key: event.count for event in profiler.key_averages()})
    return counts["aten::_to_copy"]


# A CPU gives the first layer of ELECTRA states that are half already, and so all others too.
@pytest.mark.usefixtures("_autocast")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model_type", [name for name in NARROW if name != "electra"])
def test_weights_and_hidden_states_are_cast_less_often(model_type: str, way: str) -> None:
    model = make(model_type)
    saved = casts(WAYS[way](model)) - casts(WAYS[way](cast_ahead(model, DTYPE)))
    linear_layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    # The weight and the bias of each, and two of three times what each attention is given. A narrow one has its
    # queries from other states than its keys and values.
    last = 2 if way == "padded" else 1
    assert saved == 2 * len(linear_layers) + 2 * (model.config.num_hidden_layers - 1) + last


@pytest.mark.parametrize("model_type", ["albert", "gpt2", "mobilebert"])
def test_others_are_left_to_autocast(model_type: str) -> None:
    model = make(model_type)
    assert cast_ahead(model, DTYPE) is model


def test_states_of_another_name_are_left_to_autocast() -> None:
    states = torch.ones(2)
    arguments, named = autocast._cast_states(DTYPE, None, (), {"states": states, "attention_mask": None})
    assert (arguments, named) == ((), {"states": states, "attention_mask": None})


def test_a_decoder_is_left_to_autocast() -> None:
    model = make("bert", is_decoder=True)
    assert cast_ahead(model, DTYPE) is model


def classifier(directory: Path, **options: Any) -> SequenceClassifier:
    return SequenceClassifier(directory, precision="fp16", device="cpu", threads=1, **options)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make("distilbert").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("packed_length", [None, 512])
def test_a_classifier_in_fp16_casts_ahead_and_its_reference_does_not(
    directory: Path, packed_length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(ROWS, 512)
    found = classifier(directory, packed_length=packed_length)
    reference = found.full_precision_logits(batch)
    asked: list[Any] = []

    def nothing_ahead(model: Any, dtype: torch.dtype) -> Any:
        asked.append(dtype)
        return model

    monkeypatch.setattr(torch_classifier, "cast_ahead", nothing_ahead)
    plain = classifier(directory, packed_length=packed_length)
    np.testing.assert_array_equal(found.start(batch)(), plain.start(batch)())
    full = SequenceClassifier(directory, precision="fp32", device="cpu", threads=1)
    np.testing.assert_array_equal(reference, full.full_precision_logits(batch))
    plain.full_precision_logits(batch)
    assert asked == [DTYPE]  # for the passes, not for the reference


@pytest.mark.compiled
@pytest.mark.parametrize("model_type", NARROW)
def test_it_is_compiled_as_a_whole(model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(model_type).save_pretrained(tmp_path)
    expected = classifier(tmp_path, packed_length=64)
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_attend_text_by_text", attend)
        model = classifier(tmp_path, packed_length=64, is_compiled=True)
    torch._dynamo.utils.counters.clear()
    for rows in (ROWS, ROWS[:2]):
        batch = batch_of(rows, 256)
        np.testing.assert_array_equal(model.start(batch)(), expected.start(batch)())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
