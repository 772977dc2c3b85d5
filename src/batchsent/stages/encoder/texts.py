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
from batchsent.models.pretrained import load_tokenizer
from batchsent.models.prompts import Prompt, prompt_ids
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

    def __init__(
        self, directory: Path, max_length: int, *, prompt: Prompt | None = None, window_overlap: int | None = None
    ) -> None:
        """Load the tokenizer in ``directory``. Raises ModelError if there is none.

        ``prompt`` stands around every text, in place of the tokenizer's own template. A text that is longer than
        ``max_length`` tokens is cut; or, if ``window_overlap`` says how many tokens they share, into windows.
        """
        self._tokenizer = load_tokenizer(directory)
        self._fast: Any = self._tokenizer.backend_tokenizer if self._tokenizer.is_fast else None
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()
        self._unknown_id: int | None = self._tokenizer.unk_token_id
        self._max_length, self._overlap = max_length, window_overlap
        self._cut_left = self._tokenizer.truncation_side == "left"
        self._blanks, self._slow_settings = "", dict[str, Any]()
        if prompt is None:
            self._prefix, self._suffix = self._special_tokens_around()
        else:
            ids = prompt_ids(self._tokenizer, prompt)
            self._prefix, self._suffix = np.array(ids.before, np.int32), np.array(ids.after, np.int32)
            self._blanks = ids.blanks
            self._read_special_tokens_as_text()
        self._require_room()
        self._words = self._word_encoder()

    def encode(self, text: pa.ChunkedArray[Any]) -> EncodedTexts:
        """Token ids of the distinct values of ``text`` [records], nulls left out."""
        began = time.perf_counter()
        encoded = pc.dictionary_encode(text).combine_chunks()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        text_of_record = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        ids: list[Ids] = []
        window_counts: list[int] = []
        truncated: list[bool] = []
        for chunk in _chunks(encoded.dictionary):
            for own in self._encode_chunk(chunk):
                windows = self._windows(own)
                ids += (np.concatenate([self._prefix, window, self._suffix]) for window in windows)
                window_counts.append(len(windows))
                truncated.append(self._overlap is None and len(own) > self._room)
        unknown = 0
        if self._unknown_id is not None and ids:
            unknown = int((np.concatenate(ids) == self._unknown_id).sum())
        return EncodedTexts(
            ids,
            np.array(window_counts, np.int32),
            np.array(truncated, bool),
            text_of_record,
            unknown,
            time.perf_counter() - began,
        )

    def _encode_chunk(self, texts: pa.Array[Any]) -> Iterator[Ids]:
        """Ids of each text, as many as count or more, nothing around them."""
        if self._blanks:
            texts = pc.binary_join_element_wise(pa.scalar(self._blanks, texts.type), texts, pa.scalar("", texts.type))
        by_words = self._words.encode(texts) if self._words is not None else [None] * len(texts)
        left = np.array([found is None for found in by_words], bool)
        whole = iter(self._ids_of_whole(texts.filter(pa.array(left)).to_pylist()))
        return (next(whole) if found is None else found for found in by_words)

    def _ids_of_whole(self, texts: list[str]) -> list[Ids]:
        """Ids of each text; of one that is longer than a chunk, as far as they can matter."""
        if len(texts) == 1 and self._overlap is None:
            [text] = texts
            length = _CHUNK_BYTES
            while length < len(text):
                ids = self._own_ids([text[-length:] if self._cut_left else text[:length]])
                if len(ids[0]) > self._max_length + _MARGIN_TOKENS:
                    return ids
                length *= 2
        return self._own_ids(texts)

    def _windows(self, own: Ids) -> list[Ids]:
        """What the model reads of a text's own ids: what truncation leaves of them, or windows of equal length.

        The last window ends with the text, so it may share more with the one before it than the others do.
        """
        room = self._room
        if len(own) <= room:
            return [own]
        if self._overlap is None:
            return [own[-room:] if self._cut_left else own[:room]]
        starts = [*range(0, len(own) - room, room - self._overlap), len(own) - room]
        return [own[start : start + room] for start in starts]

    @property
    def special_token_count(self) -> int:
        """Tokens around every text: the model's template, or the prompt."""
        return len(self._prefix) + len(self._suffix)

    @property
    def _room(self) -> int:
        """Tokens of a text's own in a window."""
        return self._max_length - self.special_token_count

    def token_count(self, text: str) -> int:
        """Tokens of ``text`` with what stands around it, nothing cut."""
        return self.special_token_count + len(self._own_ids([self._blanks + text])[0])

    def _own_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, nothing around them, not cut."""
        if self._fast is not None:
            return [np.array(ids, np.int32) for ids in self._library_ids(list(texts))]
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=False, padding=False, **self._slow_settings
        )
        return [np.array(ids, np.int32) for ids in encoded["input_ids"]]

    def _library_ids(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text as the library's Rust part gives them; "fast" leaves out offsets, which nobody reads."""
        return [encoding.ids for encoding in self._fast.encode_batch_fast(texts, add_special_tokens=False)]

    def _read_special_tokens_as_text(self) -> None:
        """Of a review that spells one: it must not end the prompt."""
        if self._fast is not None:
            self._fast.encode_special_tokens = True
        self._slow_settings = {"split_special_tokens": True}

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

        def make(room: int | None) -> WordEncoder:
            return WordEncoder(
                find_cuts, self._library_ids, added_tokens=added_tokens, room=room, from_end=self._cut_left
            )

        if not agrees(make, self._library_ids(list(ODD_TEXTS)), from_end=self._cut_left):
            _log.debug("this tokenizer's words alone give other ids than in a text: texts are tokenized as a whole")
            return None
        return make(self._room if self._overlap is None else None)

    def _special_tokens_around(self) -> tuple[Ids, Ids]:
        """The special tokens that the template puts before and after a text."""
        probe = "a"
        whole: list[int] = self._tokenizer(probe)["input_ids"]
        bare: list[int] = self._tokenizer(probe, add_special_tokens=False)["input_ids"]
        for prefix in range(len(whole) - len(bare) + 1):
            if whole[prefix : prefix + len(bare)] == bare:
                return np.array(whole[:prefix], np.int32), np.array(whole[prefix + len(bare) :], np.int32)
        raise ModelError(
            "the tokenizer changes a text's tokens when it adds special ones",
            "a template around the text",
            "choose another model",
        )

    def _require_room(self) -> None:
        if self._max_length <= self.special_token_count:
            raise ModelError(
                f"--max-length {self._max_length}",
                f"more than the {self.special_token_count} tokens around a text",
                "choose a larger one",
            )
        if self._overlap is not None and self._overlap >= self._room:
            raise ModelError(
                f"--window-overlap {self._overlap}",
                f"fewer than the {self._room} tokens of a text in a window",
                "choose a smaller one",
            )


def _chunks(texts: pa.Array[Any]) -> Iterator[pa.Array[Any]]:
    """``texts`` in runs of about _CHUNK_BYTES each; a longer text is one of its own."""
    ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES, side="right")))
        yield texts.slice(start, stop - start)
        start = stop
