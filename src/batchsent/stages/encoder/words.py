"""Texts → token ids by way of their words, each of which is tokenized once and remembered.

Reviews repeat their words: of a mebibyte of English one in twelve is a new one, and looking a word up takes a fraction
of the time that tokenizing does. A word here is what stands between two cuts (see ``cuts``), the blank before it
included.
"""

from __future__ import annotations

import array
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchsent.stages.encoder.cuts import FindCuts

Ids = npt.NDArray[np.int32]
Tokenize = Callable[[list[str]], list[list[int]]]

_WINDOW_BYTES_PER_TOKEN = 6
"""English has four to five: few texts over the limit need a second window, and none is read much beyond it."""

_LARGEST_WINDOW_BYTES = 1 << 20

_REMEMBERED_WORDS = 1 << 17
_REMEMBERED_CHARACTERS = 32
"""Longer words are rarely met again. The two bound the memory, to about 30 MB."""

_MANY_NEW_WORDS = 4096
"""From here on it counts that a word alone takes twice the time that it takes within its text."""


@dataclass(slots=True)
class _Reading:
    """A text, and how far it was read."""

    start: int
    stop: int
    """Bytes that are still to be read."""
    ids: list[Ids] = field(default_factory=list)
    """Of what was read, window by window."""
    id_count: int = 0
    is_refused: bool = False
    """It has to be tokenized as a whole."""

    def take(self, ids: Ids) -> None:
        """Add the ids of a window."""
        self.ids.append(ids)
        self.id_count += len(ids)

    def window(self, raw: bytes, size: int, *, from_end: bool) -> tuple[int, int]:
        """The next ``size`` bytes, or up to three more or less: no character is split."""
        if self.stop - self.start <= size:
            return self.start, self.stop
        border = self.stop - size if from_end else self.start + size
        while raw[border] & 0xC0 == 0x80:  # inside a character
            border -= 1
        return (border, self.stop) if from_end else (self.start, border)


class WordEncoder:
    """Tokenizes texts word by word, as far as they count."""

    def __init__(
        self, find_cuts: FindCuts, tokenize: Tokenize, *, added_tokens: Sequence[str], room: int | None, from_end: bool
    ) -> None:
        """``tokenize`` gives the ids of each word, no special ones; of a text the first ``room`` ids count.

        The last ones if ``from_end``; all if ``room`` is None. A text that has one of ``added_tokens`` in it is left
        to the caller.
        """
        self._find_cuts = find_cuts
        self._tokenize = tokenize
        self._added_tokens = added_tokens
        self._room = room
        self._from_end = from_end
        self._remembered: dict[str, bytes] = {}

    def encode(self, texts: pa.Array[Any]) -> list[Ids | None]:
        """Ids of each of ``texts`` [strings, no nulls]: all, or more than ``room`` of them from the side that counts.

        None where a text has to be tokenized as a whole. Long texts are read window by window: what is needed besides
        the texts is some fifty times the larger of _LARGEST_WINDOW_BYTES and the first windows of all of them.
        """
        raw, bounds = _utf8(texts)
        readings = [_Reading(start, stop) for start, stop in itertools.pairwise(bounds)]
        for token in self._added_tokens:
            if token.encode() in raw:  # hardly ever: asked of all texts at once
                for index in np.flatnonzero(pc.match_substring(texts, token)):
                    readings[index].is_refused = True
        room = math.inf if self._room is None else self._room
        size = int(min(room * _WINDOW_BYTES_PER_TOKEN, _LARGEST_WINDOW_BYTES))
        pending = readings
        while pending := [r for r in pending if not r.is_refused and r.start < r.stop and r.id_count <= room]:
            self._read(raw, pending, size)
            size = min(size * 8, _LARGEST_WINDOW_BYTES)
        order = -1 if self._from_end else 1
        return [None if reading.is_refused else _joined(reading.ids[::order]) for reading in readings]

    def _read(self, raw: bytes, pending: list[_Reading], size: int) -> None:
        """Read on in every text, as far as the last cut in its next window."""
        windows = [reading.window(raw, size, from_end=self._from_end) for reading in pending]
        data = b"".join([raw[start:stop] for start, stop in windows])
        borders = np.cumsum([0, *(stop - start for start, stop in windows)])
        starts = self._word_starts(data, borders)
        of_text = np.searchsorted(starts, borders)
        # Where a window cuts its text off, the word at that end is not whole: it is left to the next window.
        is_part = [window != (reading.start, reading.stop) for reading, window in zip(pending, windows, strict=True)]
        is_whole = np.ones(len(starts) - 1, bool)
        is_whole[(of_text[:-1] if self._from_end else of_text[1:] - 1)[is_part]] = False
        encoded = self._encode_words(data, starts, is_whole)
        if encoded is None:
            for reading in pending:
                reading.is_refused = True
            return
        ids, id_starts = encoded[0], encoded[1].tolist()
        for reading, (start, stop), first, end in zip(
            pending, windows, of_text[:-1].tolist(), of_text[1:].tolist(), strict=True
        ):
            reading.take(ids[id_starts[first] : id_starts[end]])
            if (start, stop) == (reading.start, reading.stop):
                reading.start = stop
            elif end - first == 1:
                reading.is_refused = size == _LARGEST_WINDOW_BYTES
            elif self._from_end:
                reading.stop = start + int(starts[first + 1] - starts[first])
            else:
                reading.start = start + int(starts[end - 1] - starts[first])

    def _word_starts(self, data: bytes, borders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where each word of ``data`` begins, and the end [words + 1]; at ``borders`` [texts + 1] texts meet."""
        cuts = self._find_cuts(np.frombuffer(data, np.uint8), borders[1:])
        cuts[borders[:-1]] = True
        return np.append(np.flatnonzero(cuts), len(data))

    def _encode_words(
        self, data: bytes, starts: npt.NDArray[np.int64], is_whole: npt.NDArray[np.bool_]
    ) -> tuple[Ids, npt.NDArray[np.int64]] | None:
        """Ids of those words of ``data`` that are whole [tokens], and where those of each word begin [words + 1].

        None as in _ids_of.
        """
        offsets, valid = pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(np.packbits(is_whole, bitorder="little"))
        words = pa.StringArray.from_buffers(len(is_whole), offsets, pa.py_buffer(data), valid).dictionary_encode()
        distinct = self._ids_of(words.dictionary.to_pylist(), len(words))
        if distinct is None:
            return None
        distinct.append(b"")  # of a word that is not whole
        lengths = np.fromiter(map(len, distinct), np.int64, len(distinct)) // 4
        ids = np.frombuffer(b"".join(distinct), np.int32)
        which = words.indices.fill_null(len(distinct) - 1).to_numpy()
        counts = lengths[which]
        ends = np.cumsum(counts)
        # Where the ids of each word are among those of the distinct ones, one after the other.
        places = np.repeat((np.cumsum(lengths) - lengths)[which] - (ends - counts), counts) + np.arange(counts.sum())
        return ids[places], np.append(0, ends)

    def _ids_of(self, words: list[str], word_count: int) -> list[bytes] | None:
        """Ids of each of ``words``, as int32; None if half of the ``word_count`` in the texts are new: slow."""
        remembered = self._remembered
        new = [word for word in words if word not in remembered]
        if len(new) > _MANY_NEW_WORDS and len(new) > word_count // 2:
            return None
        if len(remembered) + len(new) > _REMEMBERED_WORDS:
            remembered.clear()
            new = words
        # Bytes take a third of the memory of a list, and join at once.
        remembered.update(zip(new, (array.array("i", ids).tobytes() for ids in self._tokenize(new)), strict=True))
        found = [remembered[word] for word in words]
        for word in new:
            if len(word) > _REMEMBERED_CHARACTERS:
                del remembered[word]
        return found


def _joined(ids: list[Ids]) -> Ids:
    return ids[0] if len(ids) == 1 else np.concatenate([np.empty(0, np.int32), *ids])


def _utf8(texts: pa.Array[Any]) -> tuple[bytes, list[int]]:
    """The bytes of all texts, and where each begins, and the end [texts + 1]."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8)
    raw = memoryview(data)[bounds[0] : bounds[-1]].tobytes() if bounds[-1] > bounds[0] else b""
    return raw, (bounds - bounds[0]).tolist()
