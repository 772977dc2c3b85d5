"""Where a text can be cut so that its pieces, tokenized one by one, give the tokens of the text.

A tokenizer of the ``tokenizers`` library takes out added tokens, normalizes what is between them, splits that into
pre-tokens, and tokenizes each pre-token without looking at another. So a cut is exact if no added token reaches across
it, if the normalizer treats both sides as it treats the whole, and if a pre-token ends there. Two rules are known to
find such places, each for a list of components; docs/decisions/0007-words-encoded-once.md has the argument.
Whatever is not on a list has no rule, and is tokenized as a whole.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FindCuts = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
"""UTF-8 of some texts in a row [bytes] and where each ends [texts] → whether it may be cut before each byte [bytes].

Texts hold whole characters only; what is said of their first bytes is of no meaning.
"""

Json = dict[str, Any]


def _bytes(which: bytes | range) -> npt.NDArray[np.bool_]:
    """A table: is a byte one of ``which``?"""
    table = np.zeros(256, bool)
    table[list(which)] = True
    return table


_BLANK = _bytes(b" \t\n\r")
_PUNCTUATION = _bytes(string.punctuation.encode())
_PRINTABLE = _bytes(range(0x21, 0x7F))
_IDEOGRAPH_LEAD = _bytes(range(0xE5, 0xEA))
"""First bytes of U+5000 to U+9FFF; 0xE4 begins U+4000 to U+4FFF."""


def _around_words_and_punctuation(data: npt.NDArray[np.uint8], _ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Before a blank, and on both sides of ASCII punctuation.

    BertPreTokenizer drops blanks and makes every such mark a pre-token. All of them are starters that nothing
    composes with (NFD reorders no mark across them), and lower-casing goes character by character.
    """
    blank, mark = _BLANK[data], _PUNCTUATION[data]
    cuts = blank.copy()
    cuts[1:] |= mark[:-1] | (mark[1:] & ~blank[:-1])  # a blank stays with what follows it
    return cuts


def _around_ideographs_too(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Also on both sides of U+4E00 to U+9FFF, around which BertNormalizer puts blanks before anything else."""
    cuts = _around_words_and_punctuation(data, ends)
    lead = _IDEOGRAPH_LEAD[data]
    lead[:-1] |= (data[:-1] == 0xE4) & (data[1:] >= 0xB8)
    cuts |= lead
    cuts[3:] |= lead[:-3]
    return cuts


def _before_single_spaces(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Before a space that stands between two printable ASCII characters.

    GPT-2's expression matches nothing that has a space behind its first character and something else before that
    space; Metaspace begins a pre-token at every space. Normalizers change nothing across it: a grapheme ends there.
    """
    cuts = np.zeros(len(data), bool)
    printable = _PRINTABLE[data]
    cuts[1:-1] = (data[1:-1] == 0x20) & printable[:-2] & printable[2:]
    cuts[ends - 1] = False  # what follows it there is another text
    return cuts


def cuts_of(tokenizer: Json) -> FindCuts | None:
    """The rule for a tokenizer, given as the library's JSON has it; None if there is none."""
    parts = [tokenizer[name] or {} for name in ("normalizer", "pre_tokenizer", "model")]
    if not (_is_template(tokenizer["post_processor"]) and all(map(_is_within_a_word, tokenizer["added_tokens"]))):
        return None
    names = tuple(part.get("type", "") for part in parts)
    normalizer, pre_tokenizer, model = parts
    if names == ("BertNormalizer", "BertPreTokenizer", "WordPiece"):
        # A token that is looked for after normalization may be found where the text reads differently.
        if any(token["normalized"] for token in tokenizer["added_tokens"]):
            return None
        return _around_ideographs_too if normalizer["handle_chinese_chars"] else _around_words_and_punctuation
    if names == ("", "ByteLevel", "BPE"):
        return _before_single_spaces if pre_tokenizer["use_regex"] and not model["dropout"] else None
    if model.get("type") == "Unigram" and _is_metaspace(pre_tokenizer) and _is_local(normalizer):
        return _before_single_spaces
    return None


def _is_within_a_word(added: Json) -> bool:
    """Can this added token, found in a word, neither reach beyond it nor take the space behind it along?"""
    content: str = added["content"]
    return content.isascii() and content.isprintable() and " " not in content and not added["rstrip"]


def _is_template(post_processor: Json | None) -> bool:
    """Does it put the same tokens around every text, and do no more?"""
    if post_processor is None or post_processor["type"] in ("BertProcessing", "RobertaProcessing", "ByteLevel"):
        return True
    if post_processor["type"] == "Sequence":
        return all(map(_is_template, post_processor["processors"]))
    return post_processor["type"] == "TemplateProcessing" and (
        sum("Sequence" in piece for piece in post_processor["single"]) == 1
    )


def _is_metaspace(pre_tokenizer: Json) -> bool:
    """Is every word a pre-token that begins with a mark, the first one as well?"""
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    *before, last = steps
    return (
        last.get("type") == "Metaspace"
        and last["prepend_scheme"] == "always"
        and bool(last["split"])
        and all(step["type"] == "WhitespaceSplit" for step in before)
    )


def _is_local(normalizer: Json) -> bool:
    """Does it look at no more than a grapheme, and leave a single space between ASCII characters alone?"""
    kind = normalizer.get("type")
    if kind == "Sequence":
        return all(map(_is_local, normalizer["normalizers"]))
    if kind == "Replace":
        # Several spaces become one; there is no cut in them.
        pattern = normalizer["pattern"]
        if pattern == {"Regex": " {2,}"}:
            return bool(normalizer["content"] == " ")
        return " " not in pattern.get("String", " ") and " " not in normalizer["content"]
    return kind in (None, "Precompiled", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")
