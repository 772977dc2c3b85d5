"""A last layer that computes first tokens alone gives the library's logits, from the model's own weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from batchsent.models import last_layer
from batchsent.models.last_layer import narrowed, sharing_weights
from batchsent.models.sequence_classification import SequenceClassifier
from models.test_packed import settings
from support import batch_of

NARROW = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra")
WHOLE = ("albert", "mpnet", "modernbert", "gpt2", "mobilebert")
OWN: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_head": 4, "n_layer": 2},
    "modernbert": dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"], 1),
}
ROWS = [[2, *range(10, 70), 3], [2, 9, 8, 7, 3], [2, 3], [2, *range(50, 80), 3]]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def make(model_type: str, **changes: Any) -> Any:
    """A random classifier whose logits differ from text to text."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**settings(model_type), **changes})
    model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.config.pad_token_id = model.config.pad_token_id or 0
    return model.eval()


def padded(rows: list[list[int]] = ROWS) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def elements_of_products(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    """Of what all linear layers of a pass give."""
    found = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output.numel()))
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return sum(found)


@pytest.mark.parametrize("model_type", NARROW)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_same_logits(model_type: str, layers: int) -> None:
    model = make(model_type, **{"n_layers" if model_type == "distilbert" else "num_hidden_layers": layers})
    view = narrowed(model)
    assert view is not model
    for rows in (ROWS, ROWS[:1], [[7] * 20] * 5, [[2]]):
        expected, found = model(**padded(rows)).logits, view(**padded(rows)).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert model(**padded()).logits.std(0).max() > 0.1, "the texts differ"


@pytest.mark.parametrize("model_type", NARROW)
def test_the_last_layer_computes_keys_and_values_of_all_tokens_and_nothing_else(model_type: str) -> None:
    model = make(model_type)
    texts, tokens = len(ROWS), max(map(len, ROWS))
    whole, narrow = (elements_of_products(each, padded()) for each in (model, narrowed(model)))
    # Queries, projection and the second product of the feed-forward are hidden wide, 64; its first product, 96.
    assert whole - narrow == (3 * 64 + 96) * texts * (tokens - 1)


@pytest.mark.parametrize("model_type", NARROW)
def test_the_weights_are_the_models_own_and_the_model_stays_as_it_is(model_type: str) -> None:
    model = make(model_type)
    before, names = model(**padded()).logits, [name for name, _ in model.named_modules()]
    view = narrowed(model)
    view(**padded())
    torch.testing.assert_close(model(**padded()).logits, before, atol=0, rtol=0)
    assert [name for name, _ in model.named_modules()] == names
    assert [p.data_ptr() for p in view.parameters()] == [p.data_ptr() for p in model.parameters()]
    assert view.config is not model.config


@pytest.mark.parametrize("model_type", WHOLE)
def test_another_model_is_computed_as_it_is(model_type: str) -> None:
    model = make(model_type, **OWN.get(model_type, {}))
    assert narrowed(model) is model


@pytest.mark.parametrize("changes", [{"is_decoder": True}, {"chunk_size_feed_forward": 1}])
def test_so_is_one_of_a_kind_but_of_another_shape(changes: dict[str, Any]) -> None:
    model = make("bert", **changes)
    assert narrowed(model) is model


def test_so_is_one_with_another_attention() -> None:
    model = make("bert")
    model.set_attn_implementation("eager")
    assert narrowed(model) is model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = make("distilbert").to(dtype)
    view = narrowed(model)
    assert view is not model
    found, expected = (each(**padded()).logits.float().softmax(-1) for each in (view, model))
    torch.testing.assert_close(found, expected, atol=3e-2, rtol=0)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_a_release_whose_layers_compute_something_else_is_taken_as_it_is(
    model_type: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = last_layer._attend
    monkeypatch.setattr(last_layer, "_attend", lambda *arguments: own(*arguments) * 1.5)
    model = make(model_type)
    with caplog.at_level(logging.WARNING):
        assert narrowed(model) is model
    assert "the last layer is computed as a whole" in caplog.text


def test_a_model_that_gives_no_numbers_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = make("bert")
    model.classifier.bias.fill_(torch.nan)
    assert narrowed(model) is model
    assert "differ by nan" in caplog.text


def test_a_vocabulary_of_a_few_words_will_do() -> None:
    model = make("bert", vocab_size=3)
    assert narrowed(model) is not model


def test_a_copy_that_shares_weights_can_be_changed() -> None:
    model = make("bert")
    copy = sharing_weights(model)
    copy.classifier = torch.nn.Identity()
    assert isinstance(model.classifier, torch.nn.Linear)
    assert copy.bert.embeddings.word_embeddings.weight is model.bert.embeddings.word_embeddings.weight
    assert copy.bert.embeddings.position_ids is model.bert.embeddings.position_ids


@pytest.mark.parametrize("packed_length", [None, 66])
def test_what_is_computed_again_is_computed_by_the_whole_model(tmp_path: Path, packed_length: int | None) -> None:
    made = make("bert")
    made.save_pretrained(tmp_path / "m")
    model = SequenceClassifier(tmp_path / "m", precision="fp32", device="cpu", threads=1, packed_length=packed_length)
    batch = batch_of([ROWS[0]])
    expected = made(**padded(ROWS[:1])).logits
    torch.testing.assert_close(torch.from_numpy(model.full_precision_logits(batch)), expected, atol=1e-6, rtol=1e-6)
    names = [type(module).__name__ for module in model.module.modules()]
    assert not any(name.startswith("_Narrow") for name in names)
