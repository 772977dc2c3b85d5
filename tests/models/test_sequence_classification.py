"""What a classifier's configuration says it answers, and that a row's logits do not depend on its batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from batchsent.errors import ModelError
from batchsent.models import sequence_classification
from batchsent.models.pretrained import DEFAULT_MAX_LENGTH
from batchsent.models.sequence_classification import SequenceClassifier, describe
from batchsent.models.torch_classifier import TorchClassifier
from support import batch_of

SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
GPT2: dict[str, Any] = {"model_type": "gpt2", "vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2}


def write_config(directory: Path, model_type: str, **settings: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": model_type, **settings}), encoding="utf-8")
    return directory


def named(*labels: str) -> dict[str, Any]:
    return {"id2label": {str(i): label for i, label in enumerate(labels)}, "label2id": {}}


def save_model(directory: Path, config: dict[str, Any], *, seed: int = 0) -> Path:
    """A random classifier with ``config``, saved as the library saves it."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    settings = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model(config["model_type"], **settings)
    model: Any = AutoModelForSequenceClassification.from_config(made)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    model.save_pretrained(directory)
    return directory


def classifier(directory: Path, precision: str = "fp32") -> SequenceClassifier:
    return SequenceClassifier(directory, precision=precision, device="cpu", threads=torch.get_num_threads())


def logits(model: SequenceClassifier, rows: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(model.start(batch_of(rows))())


def exact_logits(model: SequenceClassifier, rows: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(model.full_precision_logits(batch_of(rows)))


# --- describe


def test_names_limit_and_kind(tmp_path: Path) -> None:
    described = describe(write_config(tmp_path / "m", "bert", **named("NEGATIVE", "POSITIVE")))
    assert described.labels == ("NEGATIVE", "POSITIVE")
    assert described.has_label_names
    assert not described.multi_label
    assert described.max_length == 512


@pytest.mark.parametrize(
    ("model_type", "settings", "max_length"),
    [
        ("bert", {}, 512),
        ("bert", {"max_position_embeddings": 128}, 128),
        ("distilbert", {"max_position_embeddings": 512}, 512),
        ("roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("xlm-roberta", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("camembert", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("mpnet", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("longformer", {"max_position_embeddings": 4098, "pad_token_id": 1}, 4096),
        ("gpt2", {}, 1024),
        ("gpt2", {"n_positions": 256}, 256),
        ("modernbert", {"max_position_embeddings": 8192}, 8192),
        ("xlnet", {}, DEFAULT_MAX_LENGTH),
    ],
)
def test_limit_of_each_family(tmp_path: Path, model_type: str, settings: dict[str, Any], max_length: int) -> None:
    directory = write_config(tmp_path / "m", model_type, **settings, **named("a", "b"))
    assert describe(directory).max_length == max_length


FAMILIES = [
    "bert", "distilbert", "electra", "albert", "deberta-v2", "modernbert", "gpt2", "mpnet", "roberta", "xlm-roberta",
    "camembert", "roberta-prelayernorm", "xlm-roberta-xl", "ibert", "data2vec-text", "xmod", "luke", "esm",
]  # fmt: skip


SPECIAL: dict[str, dict[str, Any]] = {
    "esm": {"mask_token_id": 4, "pad_token_id": 1},
    "luke": {"entity_vocab_size": 10},
    "modernbert": dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"], 1),
    "xmod": {"default_language": "en_XX"},
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_so_many_tokens_do_fit(tmp_path: Path, model_type: str) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings: dict[str, Any] = {**SMALL, "max_position_embeddings": 40, **SPECIAL.get(model_type, {})}
    config = AutoConfig.for_model(model_type, **settings)
    config.save_pretrained(tmp_path / "m")
    limit = describe(tmp_path / "m").max_length
    assert 30 < limit <= 40
    model: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.eval()
    with torch.inference_mode():
        logits = model(
            input_ids=torch.full((1, limit), 7), attention_mask=torch.ones(1, limit, dtype=torch.long)
        ).logits
    assert logits.shape == (1, 2)


def test_roberta_takes_not_one_token_more(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "m", {"model_type": "roberta", **SMALL, "max_position_embeddings": 40})
    limit = describe(directory).max_length
    model = classifier(directory)
    logits(model, [[7] * limit])
    with pytest.raises((IndexError, RuntimeError)):
        logits(model, [[7] * (limit + 1)])


@pytest.mark.parametrize(
    ("tokenizer", "max_length"),
    [
        ({"model_max_length": 64}, 64),
        ({"model_max_length": 4096}, 512),
        ({"model_max_length": 10**30}, 512),
        ({"model_max_length": 1e30}, 512),
        ({"model_max_length": None}, 512),
        ({"model_max_length": "64"}, 512),
        ({}, 512),
        ([], 512),
        (None, 512),
    ],
)
def test_the_tokenizer_may_limit_too(tmp_path: Path, tokenizer: object, max_length: int) -> None:
    directory = write_config(tmp_path / "m", "bert")
    if tokenizer is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert describe(directory).max_length == max_length


def test_labels_stand_in_the_order_of_the_logits(tmp_path: Path) -> None:
    labels = [f"l{index}" for index in range(12)]
    shuffled = {str(index): labels[index] for index in (10, 2, 0, 11, 1, 9, 3, 8, 4, 7, 5, 6)}
    assert describe(write_config(tmp_path / "m", "bert", id2label=shuffled)).labels == tuple(labels)


def test_labels_without_names(tmp_path: Path) -> None:
    default = describe(write_config(tmp_path / "default", "bert"))
    assert (default.labels, default.has_label_names) == (("LABEL_0", "LABEL_1"), False)
    three = describe(write_config(tmp_path / "three", "bert", **named("LABEL_0", "LABEL_1", "LABEL_2")))
    assert not three.has_label_names
    some = describe(write_config(tmp_path / "some", "bert", **named("LABEL_0", "good")))
    assert some.has_label_names


def test_multi_label(tmp_path: Path) -> None:
    for problem, expected in (("multi_label_classification", True), ("single_label_classification", False)):
        directory = write_config(tmp_path / problem, "bert", problem_type=problem, **named("a", "b", "c"))
        assert describe(directory).multi_label is expected


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"id2label": {"0": "SCORE"}}, "one logit"),
        ({"num_labels": 1}, "one logit"),
        ({"problem_type": "regression", "id2label": {"0": "a", "1": "b"}}, "one logit"),
        ({"id2label": {"0": "good", "1": "bad", "2": "good"}}, "have one name: good, bad, good"),
    ],
)
def test_what_gives_no_label_is_refused(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        describe(write_config(tmp_path / "mine", "bert", **settings))
    assert "mine" in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("t5", "is a t5 model.*pass --task text-to-text"),
        ("bart", "is a bart model"),
        ("vit", "is a vit model"),
        ("whisper", "is a whisper model"),
        ("no-such-model", "config.json is not understood"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, model_type: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        describe(write_config(tmp_path / "mine", model_type))


@pytest.mark.parametrize("content", ["{}", "[]", "", "{", '{"model_type": 5}', '{"model_type": "bert", "id2label": 5}'])
def test_a_config_that_is_not_understood_is_a_model_error(tmp_path: Path, content: str) -> None:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="mine"):
        describe(directory)


# --- loading


def test_a_model_without_its_head_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match=r"no weights for classifier\.bias, classifier\.weight.*fine-tune it first"):
        classifier(tmp_path / "base")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "mine", {"model_type": "bert", **SMALL})
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | named("a", "b", "c")), encoding="utf-8")
    with pytest.raises(ModelError, match="mine cannot be loaded"):
        classifier(directory)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_cut_weights_are_refused(tmp_path: Path, kept: int) -> None:
    directory = save_model(tmp_path / "mine", {"model_type": "bert", **SMALL})
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(ModelError, match="mine cannot be loaded"):
        classifier(directory)


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "mine", {"model_type": "bert", **SMALL})
    (directory / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"x": Bomb()}, directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match="mine has neither"):
        classifier(directory)
    assert not (tmp_path / "exploded").exists()


def test_loading_says_nothing(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classifier(tiny_model)
    assert capfd.readouterr() == ("", "")


# --- logits


def test_logits_are_the_models(tiny_model: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    rows = [[2, 9, 14, 3], [2, 30, 3], [2, 11, 12, 13, 14, 15, 3]]
    found = logits(classifier(tiny_model), rows)
    assert (found.dtype, found.shape) == (torch.float32, (3, 2))
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    with torch.inference_mode():
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits for row in rows])
    assert torch.allclose(found, alone, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16-weights"])
def test_other_precisions_give_float32(tiny_model: Path, precision: str) -> None:
    model = classifier(tiny_model, precision)
    rows = [[2, 9, 14, 3], [2, 30, 3]]
    found, exact = logits(model, rows), exact_logits(model, rows)
    assert found.dtype == exact.dtype == torch.float32
    assert torch.equal(exact, exact_logits(classifier(tiny_model), rows))
    assert not torch.equal(found, exact)
    assert torch.allclose(found, exact, atol=0.3)


def test_whoever_is_no_cpu_has_cudnn_plan_no_attention() -> None:
    found = []
    try:
        for device in ("cpu", "meta"):
            torch.backends.cuda.enable_cudnn_sdp(True)
            TorchClassifier(
                lambda dtype: torch.nn.Linear(1, 1, dtype=dtype),
                lambda model: model,
                precision="fp32",
                device=device,
                threads=torch.get_num_threads(),
            )
            found.append(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)
    assert found == [True, False]


def test_full_precision_of_fp32_is_computed_from_the_same_weights(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(tiny_model)
    monkeypatch.delattr(sequence_classification, "load_pretrained")
    rows = [[2, 9, 14, 3], [2, 30, 3]]
    assert torch.allclose(logits(model, rows), exact_logits(model, rows), atol=1e-5)


EOS = 49
DECODER_ROWS = [
    [5, 6, 7],
    [EOS],
    [5, EOS],
    [EOS, 5, 6],
    [5, EOS, 6, EOS, EOS],
    [0, 0, 0],
    list(range(1, 20)),
    [8],
]


@pytest.mark.parametrize("pad_token_id", [None, 0, EOS])
def test_a_decoder_classifies_a_batch_as_one_text_at_a_time(tmp_path: Path, pad_token_id: int | None) -> None:
    config = {**GPT2, "n_positions": 64, "eos_token_id": EOS, "bos_token_id": EOS, "pad_token_id": pad_token_id}
    model = classifier(save_model(tmp_path / "gpt", config | named("a", "b", "c")))
    together = logits(model, DECODER_ROWS)
    alone = torch.cat([logits(model, [row]) for row in DECODER_ROWS])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_decoder_classifies_at_the_last_token_of_the_text(tmp_path: Path) -> None:
    # Whatever that token is: the end-of-text token is one of the text.
    from transformers import GPT2ForSequenceClassification

    config = {**GPT2, "n_positions": 64, "eos_token_id": EOS, "bos_token_id": EOS, "pad_token_id": None}
    directory = save_model(tmp_path / "gpt", config | named("a", "b"))
    found = logits(classifier(directory), DECODER_ROWS)
    inner: Any = GPT2ForSequenceClassification.from_pretrained(directory)
    inner.eval()
    with torch.inference_mode():
        expected = torch.cat(
            [inner.score(inner.transformer(torch.tensor([row])).last_hidden_state)[:, -1] for row in DECODER_ROWS]
        )
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_added_token_is_in_no_text(tmp_path: Path) -> None:
    config = {**GPT2, "n_positions": 64, "eos_token_id": EOS, "pad_token_id": None}
    model = classifier(save_model(tmp_path / "gpt", config))
    inner: Any = model._model
    assert inner.config.pad_token_id == GPT2["vocab_size"]
    assert inner.get_input_embeddings().num_embeddings == GPT2["vocab_size"] + 1


def test_a_llama_without_padding_token(tmp_path: Path) -> None:
    config = {"model_type": "llama", **SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = classifier(save_model(tmp_path / "llama", config | {"pad_token_id": None}))
    together = logits(model, DECODER_ROWS)
    alone = torch.cat([logits(model, [row]) for row in DECODER_ROWS])
    assert torch.allclose(together, alone, atol=1e-5)


def test_weights_are_ours_once_loaded(tmp_path: Path) -> None:
    directory = save_model(tmp_path, {"model_type": "bert", **SMALL, **named("A", "B")})
    model = SequenceClassifier(directory, precision="fp32", device="cpu", threads=1)
    rows = [[1, 2, 3]]
    before = logits(SequenceClassifier(directory, precision="fp32", device="cpu", threads=1), rows)
    weights = directory / "model.safetensors"
    with weights.open("r+b") as file:  # in place: a new file would leave the mapped one alone
        file.seek(weights.stat().st_size // 2)
        file.write(bytes(weights.stat().st_size // 2))
    assert torch.equal(logits(model, rows), before)


def test_weights_that_are_loaded_late_are_checked(tmp_path: Path) -> None:
    def changed() -> None:
        raise ModelError("changed")

    directory = save_model(tmp_path, {"model_type": "bert", **SMALL, **named("A", "B")})
    model = SequenceClassifier(directory, precision="bf16", device="cpu", threads=1, check=changed)
    with pytest.raises(ModelError, match="changed"):
        exact_logits(model, [[1, 2, 3]])
