"""Texts → token ids, one id array for each distinct text of a part.

Runs in the tokenizer processes. The tokenizer is made where it is used: one that was used before a fork
deadlocks in the child (huggingface/tokenizers warns of it).
"""

from __future__ import annotations

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

_CHUNK_BYTES = 1 << 20
"""Of text that is tokenized at once: a token takes hundreds of bytes before it is an id."""

_MARGIN_TOKENS = 1024
"""Behind the maximum length: what the place of a cut cannot reach across, in any tokenizer that goes word by word."""


class Encoder:
    """A tokenizer with the model's limit."""

    def __init__(self, directory: Path, max_length: int) -> None:
        """Load the tokenizer in ``directory``. Raises ModelError if there is none."""
        from transformers import AutoTokenizer

        # It warns of every text over the model's length; cutting is what we are here for.
        logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises whatever its parsers raise
            raise ModelError(
                f"the tokenizer in {directory.name} cannot be loaded ({type(error).__name__})",
                "tokenizer files as save_pretrained writes them",
                "fetch or save the model again",
            ) from error
        self._tokenizer = tokenizer
        self._fast: Any = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._max_length = max_length
        self._cut_left = tokenizer.truncation_side == "left"
        self._prefix, self._suffix = self._special_tokens_around()
        if max_length <= self._prefix + self._suffix:
            raise ModelError(
                f"--max-length {max_length}",
                f"more than the {self._prefix + self._suffix} special tokens",
                "choose a larger one",
            )

    def encode(self, text: pa.ChunkedArray[Any]) -> EncodedTexts:
        """Token ids of the distinct values of ``text`` [records], nulls left out."""
        began = time.perf_counter()
        encoded = pc.dictionary_encode(text).combine_chunks()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        text_of_record = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        ids: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        truncated: list[bool] = []
        for chunk in _chunks(encoded.dictionary):
            for tokens in self._ids_of_chunk(chunk.to_pylist()):
                ids.append(self._cut(tokens))
                truncated.append(len(tokens) > self._max_length)
        unknown = 0
        if self._unknown_id is not None and ids:
            unknown = int((np.concatenate(ids) == self._unknown_id).sum())
        return EncodedTexts(ids, np.array(truncated, bool), text_of_record, unknown, time.perf_counter() - began)

    def _ids_of_chunk(self, texts: list[str]) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
        """Ids of each text; of one that is a chunk of its own, as far as they can matter."""
        if len(texts) == 1:
            [text] = texts
            for length in range(_CHUNK_BYTES, len(text), _CHUNK_BYTES):
                ids = self.token_ids([text[-length:] if self._cut_left else text[:length]])
                if len(ids[0]) > self._max_length + _MARGIN_TOKENS:
                    return ids
        return self.token_ids(texts)

    @property
    def special_token_count(self) -> int:
        """Tokens that the model's template puts around every text."""
        return self._prefix + self._suffix

    def token_ids(self, texts: Sequence[str]) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
        """Ids of each text, special tokens included, not cut."""
        if not texts:
            return []
        if self._fast is not None:
            return [
                np.array(e.ids, np.int32) for e in self._fast.encode_batch_fast(list(texts), add_special_tokens=True)
            ]
        encoded = self._tokenizer(list(texts), add_special_tokens=True, truncation=False, padding=False)
        return [np.array(ids, np.int32) for ids in encoded["input_ids"]]

    def _special_tokens_around(self) -> tuple[int, int]:
        """How many special tokens the template puts before and after a text."""
        probe = "a"
        with_special = self.token_ids([probe])[0].tolist()
        bare: list[int] = self._tokenizer(probe, add_special_tokens=False)["input_ids"]
        for prefix in range(len(with_special) - len(bare) + 1):
            if with_special[prefix : prefix + len(bare)] == bare:
                return prefix, len(with_special) - prefix - len(bare)
        raise ModelError(
            "the tokenizer changes a text's tokens when it adds special ones",
            "a template around the text",
            "choose another model",
        )

    def _cut(self, ids: np.ndarray[Any, np.dtype[np.int32]]) -> np.ndarray[Any, np.dtype[np.int32]]:
        """What truncation leaves: the template stays whole, the text loses its end (or its beginning)."""
        limit = self._max_length
        if len(ids) <= limit:
            return ids
        if self._cut_left:
            return np.concatenate([ids[: self._prefix], ids[len(ids) - (limit - self._prefix) :]])
        return np.concatenate([ids[: limit - self._suffix], ids[len(ids) - self._suffix :]])


def _chunks(texts: pa.Array[Any]) -> Iterator[pa.Array[Any]]:
    """``texts`` in runs of about _CHUNK_BYTES each; a longer text is one of its own."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES, side="right")))
        yield texts.slice(start, stop - start)
        start = stop
