"""Texts → token ids, one id array for each distinct text of a part.

Runs in the tokenizer processes. The tokenizer is made where it is used: one that was used before a fork
deadlocks in the child (huggingface/tokenizers warns of it).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchsent.errors import ModelError
from batchsent.records import EncodedTexts
from batchsent.stages.encoder.cuts import cuts_of
from batchsent.stages.encoder.probes import ODD_TEXTS, agrees
from batchsent.stages.encoder.words import Ids, WordEncoder

_CHUNK_BYTES = 1 << 20
"""Of text that is tokenized at once: a token takes hundreds of bytes before it is an id."""

_MARGIN_TOKENS = 1024
"""Behind the maximum length: what the place of a cut cannot reach across, in any tokenizer that goes word by word."""

_log = logging.getLogger(__name__)


class Encoder:
    """A tokenizer with the model's limit."""

    def __init__(self, directory: Path, max_length: int) -> None:
        """Load the tokenizer in ``directory``. Raises ModelError if there is none."""
        self._tokenizer = _load(directory)
        self._fast: Any = self._tokenizer.backend_tokenizer if self._tokenizer.is_fast else None
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()
        self._unknown_id: int | None = self._tokenizer.unk_token_id
        self._max_length = max_length
        self._cut_left = self._tokenizer.truncation_side == "left"
        self._prefix, self._suffix = self._special_tokens_around()
        if max_length <= self.special_token_count:
            raise ModelError(
                f"--max-length {max_length}",
                f"more than the {self.special_token_count} special tokens",
                "choose a larger one",
            )
        self._words = self._word_encoder()

    def encode(self, text: pa.ChunkedArray[Any]) -> EncodedTexts:
        """Token ids of the distinct values of ``text`` [records], nulls left out."""
        began = time.perf_counter()
        encoded = pc.dictionary_encode(text).combine_chunks()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        text_of_record = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        ids: list[Ids] = []
        truncated: list[bool] = []
        for chunk in _chunks(encoded.dictionary):
            for tokens, is_truncated in self._encode_chunk(chunk):
                ids.append(tokens)
                truncated.append(is_truncated)
        unknown = 0
        if self._unknown_id is not None and ids:
            unknown = int((np.concatenate(ids) == self._unknown_id).sum())
        return EncodedTexts(ids, np.array(truncated, bool), text_of_record, unknown, time.perf_counter() - began)

    def _encode_chunk(self, texts: pa.Array[Any]) -> Iterator[tuple[Ids, bool]]:
        """Ids of each text, cut to the limit, and whether something was cut off."""
        by_words = self._words.encode(texts) if self._words is not None else [None] * len(texts)
        left = np.array([found is None for found in by_words], bool)
        whole = iter(self._ids_of_whole(texts.filter(pa.array(left)).to_pylist()))
        room = self._max_length - self.special_token_count
        for found in by_words:
            if found is None:
                tokens = next(whole)
                yield self._cut(tokens), len(tokens) > self._max_length
            else:
                kept = found[-room:] if self._cut_left else found[:room]
                yield np.concatenate([self._prefix, kept, self._suffix]), len(found) > room

    def _ids_of_whole(self, texts: list[str]) -> list[Ids]:
        """Ids of each text; of one that is longer than a chunk, as far as they can matter."""
        if len(texts) == 1:
            [text] = texts
            length = _CHUNK_BYTES
            while length < len(text):
                ids = self.token_ids([text[-length:] if self._cut_left else text[:length]])
                if len(ids[0]) > self._max_length + _MARGIN_TOKENS:
                    return ids
                length *= 2
        return self.token_ids(texts)

    @property
    def special_token_count(self) -> int:
        """Tokens that the model's template puts around every text."""
        return len(self._prefix) + len(self._suffix)

    def token_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, special tokens included, not cut."""
        if self._fast is not None:
            return [np.array(ids, np.int32) for ids in self._library_ids(list(texts), special=True)]
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=True, truncation=False, padding=False)
        return [np.array(ids, np.int32) for ids in encoded["input_ids"]]

    def _library_ids(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """Ids of each text as the library's Rust part gives them; "fast" leaves out offsets, which nobody reads."""
        return [encoding.ids for encoding in self._fast.encode_batch_fast(texts, add_special_tokens=special)]

    def _word_encoder(self) -> WordEncoder | None:
        """A shorter way to the same ids, if there is one for this tokenizer."""
        if self._fast is None:
            return None
        components = json.loads(self._fast.to_str())
        find_cuts = cuts_of(components)
        if find_cuts is None:
            _log.debug("no words to cut this tokenizer's texts into: they are tokenized as a whole")
            return None
        added_tokens = [token["content"] for token in components["added_tokens"]]

        def make(room: int) -> WordEncoder:
            return WordEncoder(
                find_cuts, self._library_ids, added_tokens=added_tokens, room=room, from_end=self._cut_left
            )

        if not agrees(make, self._library_ids(list(ODD_TEXTS)), from_end=self._cut_left):
            _log.debug("this tokenizer's words alone give other ids than in a text: texts are tokenized as a whole")
            return None
        return make(self._max_length - self.special_token_count)

    def _special_tokens_around(self) -> tuple[Ids, Ids]:
        """The special tokens that the template puts before and after a text."""
        probe = "a"
        [with_special] = self.token_ids([probe])
        bare: list[int] = self._tokenizer(probe, add_special_tokens=False)["input_ids"]
        for prefix in range(len(with_special) - len(bare) + 1):
            if with_special[prefix : prefix + len(bare)].tolist() == bare:
                return with_special[:prefix], with_special[prefix + len(bare) :]
        raise ModelError(
            "the tokenizer changes a text's tokens when it adds special ones",
            "a template around the text",
            "choose another model",
        )

    def _cut(self, ids: Ids) -> Ids:
        """What truncation leaves: the template stays whole, the text loses its end (or its beginning)."""
        limit, prefix, suffix = self._max_length, len(self._prefix), len(self._suffix)
        if len(ids) <= limit:
            return ids
        if self._cut_left:
            return np.concatenate([ids[:prefix], ids[len(ids) - (limit - prefix) :]])
        return np.concatenate([ids[: limit - suffix], ids[len(ids) - suffix :]])


def _load(directory: Path) -> Any:
    from transformers import AutoTokenizer

    # It warns of every text over the model's length; cutting is what we are here for.
    logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises whatever its parsers raise
        raise ModelError(
            f"the tokenizer in {directory.name} cannot be loaded ({type(error).__name__})",
            "tokenizer files as save_pretrained writes them",
            "fetch or save the model again",
        ) from error


def _chunks(texts: pa.Array[Any]) -> Iterator[pa.Array[Any]]:
    """``texts`` in runs of about _CHUNK_BYTES each; a longer text is one of its own."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES, side="right")))
        yield texts.slice(start, stop - start)
        start = stop
