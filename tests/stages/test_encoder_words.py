"""Word by word, the ids and flags are those of the transformers library: for every family, side, length and text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.stages.encoder import Encoder, words
from batchsent.stages.encoder import texts as encoder_texts
from batchsent.stages.encoder.cuts import cuts_of
from batchsent.stages.encoder.probes import ODD_TEXTS
from families import FAMILIES

LIMITS = (3, 4, 9, 40, 512)

WORDS = [word for text in ODD_TEXTS for word in text.split(" ")]
ADDED_TOKENS = ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "<s>", "</s>", "<mask>", "<unk>", "<pad>"]
ODD_CHARACTERS = "".join(sorted(set("".join(ODD_TEXTS))))
PIECES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(WORDS),
    st.text(st.sampled_from(ODD_CHARACTERS), max_size=8),
    st.text(max_size=8),
    st.sampled_from(ADDED_TOKENS),
    st.integers(90, 300).map(lambda length: "x" * length),
)
BETWEEN = st.sampled_from([" ", " ", " ", " ", "", "  ", "\n", "\t", "\u00a0", "\u3000", " \u0301"])
TEXTS = st.lists(st.tuples(PIECES, BETWEEN), max_size=60).map(lambda pairs: "".join(map("".join, pairs)))


class Pair:
    """The library's tokenizer and encoders with its files, made when first asked for."""

    def __init__(self, directory: Path, side: str) -> None:
        from transformers import AutoTokenizer

        self.library: Any = AutoTokenizer.from_pretrained(directory, truncation_side=side)
        self._directory = directory.with_name(f"{directory.name}-{side}")
        self.library.save_pretrained(self._directory)
        self._encoders: dict[int, Encoder] = {}

    def encoder(self, limit: int) -> Encoder:
        if limit not in self._encoders:
            self._encoders[limit] = Encoder(self._directory, limit)
            assert self._encoders[limit]._words is not None, "tokenized as a whole"
        return self._encoders[limit]

    def check(self, texts: list[str], limit: int) -> None:
        """Ids and flags of ``texts`` are the library's."""
        texts = list(dict.fromkeys(texts))
        encoded = self.encoder(limit).encode(pa.chunked_array([texts], pa.string()))
        assert [ids.tolist() for ids in encoded.ids] == [
            self.library(text, truncation=True, max_length=limit)["input_ids"] for text in texts
        ]
        whole = [len(self.library(text, verbose=False)["input_ids"]) for text in texts]
        assert encoded.truncated.tolist() == [length > limit for length in whole]


@pytest.fixture(scope="module", params=["right", "left"])
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, side: str, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(FAMILIES[request.param](tmp_path_factory.mktemp("families") / request.param), side)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), limit=st.sampled_from(LIMITS))
def test_ids_and_flags_are_those_of_the_library(pair: Pair, texts: list[str], limit: int) -> None:
    pair.check(texts, limit)


def test_of_thousands_of_reviews_with_odd_words_too(pair: Pair, reviews: Callable[[int], list[str]]) -> None:
    generator = np.random.default_rng(0)
    texts = []
    for index, review in enumerate(reviews(2000)):
        taken = review.split(" ")
        for word in generator.choice(WORDS, index % 4).tolist():
            taken.insert(int(generator.integers(len(taken) + 1)), word)
        texts.append(" ".join(taken))
    pair.check(texts, 40)


@pytest.mark.parametrize("limit", LIMITS)
def test_odd_texts_one_by_one_and_in_long_ones(pair: Pair, limit: int) -> None:
    pair.check([*ODD_TEXTS, "".join(ODD_TEXTS), " ".join(ODD_TEXTS[::-1]) * 20], limit)


def test_windows_may_end_anywhere(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in range(1, 24):
        monkeypatch.setattr(words, "_WINDOW_BYTES_PER_TOKEN", size)
        pair.check([*ODD_TEXTS[2:], "".join(ODD_TEXTS)], 9)


def test_what_is_remembered_is_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_REMEMBERED_WORDS", 50)
    by_words = pair.encoder(40)._words
    assert by_words is not None
    by_words._remembered.clear()
    for text in ODD_TEXTS * 2:
        pair.check([text], 40)
        assert len(by_words._remembered) <= 50 + len(text)
    assert max(map(len, by_words._remembered)) <= words._REMEMBERED_CHARACTERS


def test_where_words_do_not_repeat_texts_are_tokenized_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MANY_NEW_WORDS", 3)
    by_words = Encoder(EMBEDDED_DIRECTORY, 64)._words
    assert by_words is not None
    assert by_words.encode(pa.array(["all these words are new", "these too, seven"])) == [None, None]
    assert by_words.encode(pa.array(["all new, new, new, new, new words"]))[0] is not None


def components() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EMBEDDED_DIRECTORY / "tokenizer.json").read_bytes())
    return loaded


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("normalizer", None),
        ("normalizer", {"type": "Lowercase"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", None),
        ("model", {"type": "WordLevel"}),
        ("post_processor", {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}] * 2}),
    ],
)
def test_a_component_that_is_not_known_has_no_rule(name: str, value: Any) -> None:
    assert cuts_of(components()) is not None
    assert cuts_of({**components(), name: value}) is None


@pytest.mark.parametrize("change", [{"normalized": True}, {"rstrip": True}, {"content": "[two words]"}])
def test_an_added_token_that_could_reach_across_a_cut_has_no_rule(change: dict[str, Any]) -> None:
    changed = components()
    changed["added_tokens"][1] |= change
    assert cuts_of(changed) is None


@pytest.mark.parametrize(
    ("family", "path", "value"),
    [
        ("roberta", ("pre_tokenizer", "use_regex"), False),
        ("roberta", ("model", "dropout"), 0.1),
        ("roberta", ("normalizer",), {"type": "NFC"}),
        ("xlm_roberta", ("pre_tokenizer",), {"type": "WhitespaceSplit"}),
        ("xlm_roberta", ("pre_tokenizer", "pretokenizers", 1, "prepend_scheme"), "never"),
        ("xlm_roberta", ("normalizer",), {"type": "Strip", "strip_left": True, "strip_right": True}),
        ("xlm_roberta", ("normalizer",), {"type": "Replace", "pattern": {"Regex": "a.b"}, "content": ""}),
        ("xlm_roberta", ("normalizer",), {"type": "Replace", "pattern": {"String": "a b"}, "content": ""}),
        ("albert", ("normalizer", "normalizers", 0, "content"), " "),
    ],
)
def test_a_setting_that_is_not_known_has_no_rule(
    tmp_path: Path, family: str, path: tuple[Any, ...], value: Any
) -> None:
    known = json.loads((FAMILIES[family](tmp_path) / "tokenizer.json").read_bytes())
    assert cuts_of(known) is not None
    changed = copy.deepcopy(known)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert cuts_of(changed) is None


def test_a_rule_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside_words(data: Any, ends: Any) -> Any:
        return (data & 0xC0) != 0x80

    monkeypatch.setattr(encoder_texts, "cuts_of", lambda components: inside_words)
    encoder = Encoder(EMBEDDED_DIRECTORY, 64)
    assert encoder._words is None
    assert encoder.encode(pa.chunked_array([["good films"]])).ids[0].tolist() == [101, 2204, 3152, 102]
