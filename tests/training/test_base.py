"""Any encoder or decoder gets a head; only the head may be missing; what is not trained stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchsent.errors import BatchsentError, ModelError
from batchsent.training.base import Trainable, load_base, require_base, take_weights
from support import make_bert
from trainings import make_base
from writers import make_gpt2, make_llama, make_t5

LABELS = ("NEGATIVE", "POSITIVE")


def load(directory: Path, labels: tuple[str, ...] = LABELS, **options: Any) -> Trainable:
    torch.manual_seed(0)
    return load_base(directory, labels, **({"multi_label": False} | options))


def trained(trainable: Trainable) -> set[str]:
    return {name for name, parameter in trainable.model.named_parameters() if parameter.requires_grad}


def test_a_model_without_a_head_gets_one(base: Path) -> None:
    found = load(base, ("a", "b", "c"))
    assert found.has_new_head
    assert found.model.classifier.weight.shape == (3, 32)
    assert (found.model.config.id2label, found.model.config.num_labels) == ({0: "a", 1: "b", 2: "c"}, 3)
    whole = load_file(base / "model.safetensors")
    assert torch.equal(found.model.bert.embeddings.word_embeddings.weight, whole["embeddings.word_embeddings.weight"])
    assert torch.equal(found.model.bert.pooler.dense.weight, whole["pooler.dense.weight"])
    assert found.model.dtype == torch.float32


def test_a_head_of_these_labels_is_kept_and_any_other_replaced(tiny_model: Path) -> None:
    own = load_file(tiny_model / "model.safetensors")["classifier.weight"]
    kept, renamed, turned = load(tiny_model), load(tiny_model, ("A", "B")), load(tiny_model, LABELS[::-1])
    assert torch.equal(kept.model.classifier.weight, own)
    assert not kept.has_new_head
    for other in (renamed, turned, load(tiny_model, multi_label=True), load(tiny_model, ("a", "b", "c"))):
        assert other.has_new_head
        assert other.model.classifier.weight.shape != own.shape or not torch.equal(other.model.classifier.weight, own)


def test_an_encoder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    directory = make_base(tmp_path / "torn")
    tensors = load_file(directory / "model.safetensors")
    tensors.pop("encoder.layer.1.output.dense.weight")
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for bert\.encoder\.layer\.1"):
        load(directory)


def test_a_pooler_may_be_missing_as_in_models_that_were_only_pretrained(tmp_path: Path) -> None:
    directory = make_base(tmp_path / "pretrained")
    tensors = {n: t for n, t in load_file(directory / "model.safetensors").items() if "pooler" not in n}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    assert load(directory).has_new_head


@pytest.mark.parametrize("make", [make_gpt2, make_llama])
def test_a_decoder_gets_a_padding_token_that_no_text_contains(tmp_path: Path, make: Any) -> None:
    directory = make(tmp_path / "decoder")
    found = load(directory)
    vocabulary = found.model.get_input_embeddings().num_embeddings
    assert found.pad_token_id == vocabulary - 1
    ids = torch.tensor([[5, 6, 7]])
    alone = found.model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    padded = torch.cat([ids, torch.full((1, 4), found.pad_token_id)], dim=1)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0]])
    assert torch.allclose(found.model(input_ids=padded, attention_mask=mask).logits, alone, atol=1e-5)


def test_an_encoder_and_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="t5 model"):
        require_base("t5", make_t5(tmp_path / "t5"))


def test_a_frozen_encoder_leaves_the_head_and_the_pooler(base: Path) -> None:
    found = load(base, method="head")
    assert {name.split(".")[-2] if "pooler" not in name else "pooler" for name in trained(found)} == {
        "classifier",
        "pooler",
    }
    assert found.parameter_counts() == (2 * 32 + 2 + 32 * 32 + 32, sum(p.numel() for p in found.model.parameters()))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_adapters_change_nothing_before_they_are_trained_and_merge_without_a_trace(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("peft")
    directory = make_bert(tmp_path / "m") if kind == "bert" else make_gpt2(tmp_path / "m")
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = load(directory).model.eval()
    found = load(directory, method="lora", lora_rank=4)
    names = trained(found)
    assert any("lora_A" in name for name in names)
    assert not any("base_layer" in name or "embeddings" in name for name in names)
    assert any(name.startswith(("classifier", "score")) for name in names)
    assert torch.allclose(found.model.eval()(ids).logits, plain(ids).logits, atol=1e-6)
    for name, parameter in found.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted = found.model(ids).logits
    assert not torch.allclose(adapted, plain(ids).logits, atol=1e-3)
    merged = found.merge()
    assert torch.allclose(merged(ids).logits, adapted, atol=1e-5)
    assert merged.state_dict().keys() == plain.state_dict().keys()


def test_weights_of_another_model_are_not_taken(base: Path, tiny_model: Path, tmp_path: Path) -> None:
    found = load(base)
    before = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    found.model.save_pretrained(tmp_path / "checkpoint-1")
    torch.nn.init.zeros_(found.model.classifier.weight)
    take_weights(found.model, tmp_path / "checkpoint-1")
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.model.state_dict().items())
    with pytest.raises(BatchsentError, match="differ in"):
        take_weights(found.model, base)
