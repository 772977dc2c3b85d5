"""Packed passes give what padded ones give, whatever stands beside a text; and only models that can are packed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from batchsent.errors import CompilationError
from batchsent.models import packed
from batchsent.models.packed import PACKABLE_TYPES, PackedModel, can_pack
from batchsent.models.sequence_classification import SequenceClassifier, describe
from batchsent.records import TokenBatch
from models.test_sequence_classification import named
from support import batch_of

Array = np.ndarray[Any, Any]

SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 66,
}
OWN: dict[str, dict[str, Any]] = {"albert": {"embedding_size": 24}, "electra": {"embedding_size": 24}}
DISTILBERT: dict[str, Any] = {
    "vocab_size": 100,
    "dim": 64,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 96,
    "max_position_embeddings": 66,
}


def settings(model_type: str) -> dict[str, Any]:
    shape = DISTILBERT if model_type == "distilbert" else SHAPE | OWN.get(model_type, {})
    return {**shape, "initializer_range": 0.25, **named("a", "b", "c")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A random classifier of each family, made once."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    root = tmp_path_factory.mktemp("families")

    def model(model_type: str) -> Path:
        directory = root / model_type
        if not directory.exists():
            torch.manual_seed(0)
            config = AutoConfig.for_model(model_type, **settings(model_type))
            made: Any = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
            made.save_pretrained(directory)
        return directory

    return model


def classifier(directory: Path, *, packed: bool, precision: str = "fp32") -> SequenceClassifier:
    length = describe(directory).max_length if packed else None
    return SequenceClassifier(directory, precision=precision, device="cpu", threads=1, packed_length=length)


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Random ids, padding and other special ones among them."""
    chooser = np.random.default_rng(seed)
    return [chooser.integers(0, 100, length).tolist() for length in lengths]


def logits(model: SequenceClassifier, batch: TokenBatch) -> Array:
    return np.array(model.start(batch)())


def probabilities(values: Array) -> Array:
    return torch.from_numpy(values).softmax(-1).numpy()


def assert_same(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)  # of several units
    np.testing.assert_allclose(probabilities(found), probabilities(expected), atol=1e-5)


# --- packed is padded


@pytest.mark.parametrize("model_type", PACKABLE_TYPES)
@pytest.mark.parametrize("capacity", [0, 300, 512, 4096])
def test_packed_is_padded(models: Callable[[str], Path], model_type: str, capacity: int) -> None:
    directory = models(model_type)
    limit = describe(directory).max_length
    rows = texts([limit, limit - 1, 50, 33, 17, 9, 4, 3, 3, 1])
    expected = logits(classifier(directory, packed=False), batch_of(rows))
    assert np.ptp(expected, axis=0).min() > 0.5, "the texts differ"
    assert_same(logits(classifier(directory, packed=True), batch_of(rows, capacity)), expected)


@pytest.mark.parametrize("model_type", PACKABLE_TYPES)
def test_so_many_texts_as_there_may_be(models: Callable[[str], Path], model_type: str) -> None:
    directory = models(model_type)
    rows = texts([11, *[8] * 30, 5])  # 256 tokens in 32 texts: full in both
    expected = logits(classifier(directory, packed=False), batch_of(rows))
    assert_same(logits(classifier(directory, packed=True), batch_of(rows, 256)), expected)


@pytest.mark.parametrize("rows", [texts([64]), texts([1]), texts([64, 64]), texts([3] * 50)])
@pytest.mark.parametrize("capacity", [1, 7, 40])
def test_a_batch_over_its_capacity_works_too(
    models: Callable[[str], Path], rows: list[list[int]], capacity: int
) -> None:
    directory = models("roberta")
    expected = logits(classifier(directory, packed=False), batch_of(rows))
    assert_same(logits(classifier(directory, packed=True), batch_of(rows, capacity)), expected)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
def test_a_text_that_spells_the_padding_token(models: Callable[[str], Path], model_type: str) -> None:
    directory = models(model_type)
    rows = [[0, 1, 1, 7, 1, 8, 2], [1, 1, 1], [0, 7, 8, 2], [0, 1]]
    expected = logits(classifier(directory, packed=False), batch_of(rows))
    assert_same(logits(classifier(directory, packed=True), batch_of(rows, 64)), expected)


def test_bf16(models: Callable[[str], Path]) -> None:
    directory = models("distilbert")
    rows = texts([60, 30, 20, 5])
    both = [logits(classifier(directory, packed=way, precision="bf16"), batch_of(rows, 256)) for way in (True, False)]
    np.testing.assert_allclose(probabilities(both[0]), probabilities(both[1]), atol=3e-2)
    assert both[0].dtype == np.float32


def test_what_is_computed_again_in_full_precision_is_padded(models: Callable[[str], Path]) -> None:
    directory = models("bert")
    batch = batch_of(texts([60, 30, 5]), 256)
    expected = classifier(directory, packed=False).full_precision_logits(batch)
    model = classifier(directory, packed=True)
    np.testing.assert_array_equal(model.full_precision_logits(batch), expected)
    assert_same(logits(model, batch), expected)


# --- a text's logits are its own


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "albert"])
def test_neighbours_and_order_do_not_change_a_bit(models: Callable[[str], Path], model_type: str) -> None:
    model = classifier(models(model_type), packed=True)
    rows = texts([64, 40, 33, 20, 9, 3])
    together = logits(model, batch_of(rows, 512))
    for index, row in enumerate(rows):
        for seed in range(3):
            beside = texts([60, 44, 31, 7, 3], seed + 1)
            place = (index + seed) % 6
            found = logits(model, batch_of([*beside[:place], row, *beside[place:]], 512))
            np.testing.assert_array_equal(found[place], together[index])
        np.testing.assert_array_equal(logits(model, batch_of([row], 512))[0], together[index])
    np.testing.assert_array_equal(logits(model, batch_of(rows[::-1], 512))[::-1], together)


# --- nothing else changes


def test_another_instance_stays_as_it_is(models: Callable[[str], Path]) -> None:
    directory = models("bert")
    before = classifier(directory, packed=False)
    batch = batch_of(texts([60, 30, 5]), 256)
    expected = logits(before, batch)
    one = classifier(directory, packed=True)
    logits(one, batch)
    after = classifier(directory, packed=False)
    for other in (before, after):
        np.testing.assert_array_equal(logits(other, batch), expected)
    for model in (before, one, after):
        np.testing.assert_array_equal(model.full_precision_logits(batch), before.full_precision_logits(batch))
        assert model._model.config._attn_implementation == "sdpa"


def test_a_pass_that_fails_leaves_nothing_behind(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(models("bert"), packed=True)
    batch = batch_of(texts([60, 30, 5]), 256)
    expected = logits(model, batch)

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(packed, "scaled_dot_product_attention", fail)
        with pytest.raises(torch.OutOfMemoryError):
            model.start(batch)
    np.testing.assert_array_equal(logits(model, batch), expected)


def test_a_head_that_gets_something_else_is_noticed(
    models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackedModel, "_give_head_its_rows", lambda *_: None)
    model = classifier(models("distilbert"), packed=True)
    with pytest.raises(RuntimeError, match="1 rows of logits for 32 texts"):
        model.start(batch_of(texts([60, 5]), 256))


# --- compiled


@torch.library.custom_op("batchsent_tests::attend", mutates_args=())
def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    max_length_q: int,
    max_length_k: int,
) -> torch.Tensor:
    """Takes the place of CUDA's kernel, into which the compiler does not look either."""
    return on_cpu(q, k, v, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)


on_cpu = packed._attend_text_by_text


@attend.register_fake
def _(q: torch.Tensor, *_others: Any) -> torch.Tensor:
    return torch.empty_like(q)


@pytest.fixture
def compiled(models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SequenceClassifier]:
    """A classifier whose passes are traced as a whole, and run without a compiler's minute."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))

    def make(model_type: str) -> SequenceClassifier:
        directory = models(model_type)
        return SequenceClassifier(
            directory, precision="fp32", device="cpu", threads=1, packed_length=64, is_compiled=True
        )

    return make


@pytest.mark.compiled
@pytest.mark.parametrize("model_type", PACKABLE_TYPES)
def test_a_compiled_pass_is_compiled_once_and_computes_the_same(
    models: Callable[[str], Path],
    compiled: Callable[[str], SequenceClassifier],
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
) -> None:
    expected = classifier(models(model_type), packed=True)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_attend_text_by_text", attend)
        model = compiled(model_type)
    torch._dynamo.utils.counters.clear()
    for lengths in ([60, 30, 5], [64, 64, 64], [9] * 28, [3] * 5):
        batch = batch_of(texts(lengths), 256)
        np.testing.assert_allclose(logits(model, batch), logits(expected, batch), atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.compiled
def test_a_pass_of_another_size_is_not_compiled(
    compiled: Callable[[str], SequenceClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_attend_text_by_text", attend)
        model = compiled("distilbert")
    torch._dynamo.utils.counters.clear()
    for capacity in (256, 128, 256):  # as where memory ran out once
        model.start(batch_of(texts([60, 5]), capacity))()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.compiled
def test_what_cannot_be_compiled_says_so(compiled: Callable[[str], SequenceClassifier]) -> None:
    # The CPU's own attention asks for values, so it is no part of a graph.
    with pytest.raises(CompilationError, match=r"^torch\.compile fails "):
        compiled("distilbert").start(batch_of(texts([60, 5]), 256))


# --- on the way to the device


def half(directory: Path, device: str) -> PackedModel:
    from transformers import AutoModelForSequenceClassification

    inner: Any = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float16)
    return PackedModel(inner.eval().to(device), max_length=64)


@pytest.mark.parametrize("model_type", PACKABLE_TYPES)
def test_the_host_reads_nothing_from_the_device(models: Callable[[str], Path], model_type: str) -> None:
    # The meta device has shapes and no values, so whatever asked for one would fail; torch's kernel runs there too.
    with torch.inference_mode():
        found = half(models(model_type), "meta")(batch_of(texts([60, 30, 5]), 256))
    assert (found.shape, found.dtype) == ((3, 3), torch.float32)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of torch's kernel, which this records and does not run."""
    calls: list[tuple[Any, ...]] = []

    def record(query: torch.Tensor, *others: Any) -> torch.Tensor:
        calls.append((query, *others))
        return query

    monkeypatch.setattr(packed, "_kernel", lambda: record)
    return calls


def test_every_pass_has_one_shape(models: Callable[[str], Path], kernel_calls: list[tuple[Any, ...]]) -> None:
    model = half(models("bert"), "meta")
    for lengths in ([60, 30, 5], [64], [3] * 4, [9] * 28):
        kernel_calls.clear()
        model(batch_of(texts(lengths), 256))
        for query, key, value, cu_q, cu_k, longest_q, longest_k in kernel_calls:
            is_last = cu_q is not cu_k
            assert query.shape == ((32 if is_last else 256), 4, 16)
            assert key.shape == value.shape == (256, 4, 16)
            assert query.stride(-1) == 1
            for cu_seq_lens in (cu_q, cu_k):
                assert (cu_seq_lens.dtype, cu_seq_lens.is_contiguous()) == (torch.int32, True)
                assert len(cu_seq_lens) - 1 == min(32, 1 << (len(lengths) - 1).bit_length())
            assert (longest_q, longest_k) == (1 if is_last else 64, 64)
        assert [call[3] is not call[4] for call in kernel_calls] == [False, False, True]


def test_the_row_of_a_pass(models: Callable[[str], Path]) -> None:
    model = half(models("bert"), "cpu")
    row = model._row(batch_of([[7, 8, 9], [5, 6]]), 8, 4)
    assert row.dtype == torch.int32
    assert row[:8].tolist() == [7, 8, 9, 5, 6, 0, 0, 0]
    assert row[8:16].tolist() == [0, 1, 2, 0, 1, 0, 0, 0]
    assert row[16:].tolist() == [0, 3, 5, 5, 5]


def test_under_autocast_the_kernel_gets_half_precision(
    models: Callable[[str], Path], kernel_calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # CUDA's autocast cannot run here; a CPU's casts the same operations.
    monkeypatch.setattr(packed, "_attend_text_by_text", partial(packed._attend, packed._kernel()))
    model = classifier(models("distilbert"), packed=True)
    batch = batch_of(texts([60, 5]), 128)
    with torch.autocast("cpu", dtype=torch.float16):
        model.start(batch)
    assert [call[0].dtype for call in kernel_calls] == [torch.float16] * 3
    with pytest.raises(TypeError, match=r"float16 or bfloat16, not torch\.float32"):
        model.start(batch)


def test_the_kernel_of_every_release_is_called_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_2_10(q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, is_causal: Any = False) -> Any:
        return q, is_causal

    def of_2_11(
        q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, window_size: Any = (-1, -1)
    ) -> Any:
        return q, window_size

    def of_2_12(
        q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, num_splits: int | None = None
    ) -> Any:
        return q, num_splits

    for function, expected in ((of_2_10, False), (of_2_11, (-1, -1)), (of_2_12, 1)):
        module = ModuleType("torch.nn.attention.varlen")
        module.varlen_attn = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
        query, extent = torch.zeros(1, 1, 8, dtype=torch.float16), torch.zeros(2, dtype=torch.int32)
        attended: Any = packed._attend(packed._kernel(), query, query, query, extent, extent, 64, 64)
        assert attended == (query, expected)


# --- what can be packed


@pytest.mark.parametrize("model_type", PACKABLE_TYPES)
def test_the_scale_of_the_attention_is_the_kernels_own(models: Callable[[str], Path], model_type: str) -> None:
    model = classifier(models(model_type), packed=True)
    scales = [module.scaling for module in model._model.modules() if hasattr(module, "scaling")]
    assert scales
    assert set(scales) == {16**-0.5}


@pytest.mark.parametrize(
    ("model_type", "changes", "reason"),
    [
        ("bert", {}, None),
        ("distilbert", {}, None),
        ("bert", {"position_embedding_type": "absolute"}, None),
        ("bert", {"hidden_size": 1024, "num_attention_heads": 4}, None),
        ("modernbert", {}, "a model of type modernbert"),
        ("mobilebert", {}, "a model of type mobilebert"),
        ("t5", {}, "a model of type t5"),
        ("gpt2", {}, "a model of type gpt2"),
        ("deberta-v2", {}, "a model of type deberta-v2"),
        ("bert", {"is_decoder": True}, "a decoder"),
        ("roberta", {"add_cross_attention": True}, "a decoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "positions of type relative_key"),
        ("bert", {"hidden_size": 60, "num_attention_heads": 3}, "attention heads of size 20"),
        ("distilbert", {"dim": 60, "n_heads": 3}, "attention heads of size 20"),
        ("bert", {"hidden_size": 1056, "num_attention_heads": 4}, "attention heads of size 264"),
    ],
)
def test_what_can_be_packed(model_type: str, changes: dict[str, Any], reason: str | None) -> None:
    from transformers import AutoConfig

    assert can_pack(AutoConfig.for_model(model_type, **changes)) == reason


def test_the_batch_itself_is_left_as_it_is(models: Callable[[str], Path]) -> None:
    batch = batch_of(texts([60, 5]), 128)
    copy = replace(batch, token_ids=batch.token_ids.copy(), lengths=batch.lengths.copy())
    classifier(models("roberta"), packed=True).start(batch)
    np.testing.assert_array_equal(batch.token_ids, copy.token_ids)
    np.testing.assert_array_equal(batch.lengths, copy.lengths)
