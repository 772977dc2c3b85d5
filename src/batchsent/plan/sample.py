"""Reads the chosen runs of records as a run would, and tokenizes some of their texts: what all others are taken to be.

A run of records is as long as a part, because texts that stand twice in a part are scored once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchsent.config import ScoreConfig
from batchsent.errors import ShardError
from batchsent.identity import Identity
from batchsent.plan.kept import Remainder
from batchsent.plan.places import SAMPLED_TEXTS, SEED, Place, rows_in, skipped_rows
from batchsent.records import EncodedTexts, Part, Position, Shard, ShardDigest
from batchsent.schema import TEXT
from batchsent.stages.reader import InspectRequest, ReaderProcess, ReadRequest, is_stored_as_parsed
from batchsent.stores import open_file, signature

if TYPE_CHECKING:
    from batchsent.stages.encoder import Encoder

_LINE_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Stretch:
    """A run of records that was read, with some of its texts tokenized."""

    part: Part
    """Of it, the records whose texts were tokenized."""
    encoded: EncodedTexts
    """Those texts."""
    weight: float
    """How many such runs the input has."""
    is_counted: bool
    """How many records its shard has is known."""
    is_beginning: bool
    """Its shard goes on, and nobody can begin to read elsewhere in it."""
    shard: str
    size: float
    """Records, as many as one would take its bytes for where nobody has counted them."""
    record_count: int
    text_count: int
    """Of the records, those that can be scored."""
    distinct_count: int
    """Different texts among them."""
    read_seconds: float

    @property
    def share_encoded(self) -> float:
        """Of its distinct texts."""
        return len(self.encoded.window_counts) / self.distinct_count if self.distinct_count else 1.0


def read_stretches(
    places: list[Place],
    reader: ReaderProcess,
    encoder: Encoder,
    config: ScoreConfig,
    identity: Identity,
    failures: dict[str, str],
) -> Iterator[Stretch]:
    """What stands at each of ``places``; one that cannot be read is left out, and ``failures`` gets its shard."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in the processes of a run, so that the time is one core's
    wanted = -(-SAMPLED_TEXTS // max(1, sum(place.run_count for place in places)))
    for number, place in enumerate(places):
        random = np.random.default_rng([SEED, number])
        try:
            for part, weight, size in _read(place, reader, config, identity):
                yield _stretch(part, place, weight, size, encoder, wanted, random)
        except (ShardError, OSError) as error:
            failures[place.remainder.shard.name] = str(error)


def _read(
    place: Place, reader: ReaderProcess, config: ScoreConfig, identity: Identity
) -> Iterator[tuple[Part, float, float]]:
    """Parts, what each stands for, and its size."""
    remainder = place.remainder
    request = read_request(remainder.shard, config, identity)
    if place.part is not None:
        request = replace(request, layout=remainder.layout, parts=range(place.part, place.part + 1))
        for part in reader.read(request):
            share = part.records.num_rows / (part.records.num_rows + skipped_rows(remainder, place.part))
            part = replace(part, read_seconds=part.read_seconds * share)
            yield part, place.weight, float(part.records.num_rows)
        return
    start = remainder.end if place.start is None else _line_start(remainder.shard, place.start)
    request = replace(request, done=remainder.done if place.start is None else {0: (start, False)})
    parts = list(itertools.islice(reader.read(request), place.run_count))
    yield from _weighed(parts, start, place, reader, identity)


def _weighed(
    parts: list[Part], start: Position, place: Place, reader: ReaderProcess, identity: Identity
) -> Iterator[tuple[Part, float, float]]:
    """Parts of a text format: each stands for what its bytes are of all that its shard has left."""
    remainder, shard = place.remainder, place.remainder.shard
    if not parts:
        return
    records = sum(part.records.num_rows for part in parts)
    expansion = _expansion(remainder, reader, identity)
    left_bytes = max(1.0, shard.size_bytes - remainder.end.byte_offset / expansion) / place.piece_count
    if place.piece_count == 1 and parts[-1].is_last:
        repeats, read_bytes = 1.0, left_bytes
    else:
        read_bytes = max(1.0, (parts[-1].end.byte_offset - start.byte_offset) / expansion)
        repeats = left_bytes / read_bytes
        if identity.limit is not None:
            repeats = min(repeats, (identity.limit - remainder.end.row_index) / max(1, records))
    for part in parts:
        share = part.records.num_rows / max(1, records)
        yield part, place.weight * repeats, rows_in(read_bytes, shard) * share


def _expansion(remainder: Remainder, reader: ReaderProcess, identity: Identity) -> float:
    if is_stored_as_parsed(remainder.shard, identity.encoding):
        return 1.0
    request = InspectRequest(
        remainder.shard, identity.text_column, (), identity.encoding, identity.delimiter, measures_expansion=True
    )
    (found,) = reader.inspect([request])
    return found.expansion


def _line_start(shard: Shard, position: Position) -> Position:
    """Where the first line begins behind ``position``."""
    with open_file(shard.path) as file:
        file.seek(position.byte_offset)
        line = file.readline(_LINE_LIMIT_BYTES)
    return replace(position, byte_offset=position.byte_offset + len(line))


def read_request(shard: Shard, config: ScoreConfig, identity: Identity) -> ReadRequest:
    """All of a shard, as a run with these settings reads it."""
    found = signature(shard.path)
    if found is None:
        raise FileNotFoundError(shard.path)
    kept = None if identity.keep_all else tuple(config.kept_columns())
    return replace(ReadRequest.of_texts(shard, ShardDigest("", found), identity), kept=kept)


def _stretch(
    part: Part, place: Place, weight: float, size: float, encoder: Encoder, wanted: int, random: np.random.Generator
) -> Stretch:
    records = part.records
    text = records.column(TEXT)
    values: Any = pc.dictionary_encode(text).combine_chunks()
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    distinct_count = len(values.dictionary)
    if distinct_count > wanted:
        chosen = pa.array(random.choice(distinct_count, wanted, replace=False), values.indices.type)
        records = records.filter(pc.is_in(values.indices, chosen))
    return Stretch(
        part=replace(part, records=records),
        encoded=encoder.encode(records.column(TEXT)),
        weight=weight,
        is_counted=place.part is not None,
        is_beginning=place.part is None and place.piece_count == 1 and not part.is_last,
        shard=part.shard.name,
        size=size,
        record_count=part.records.num_rows,
        text_count=len(text) - text.null_count,
        distinct_count=distinct_count,
        read_seconds=part.read_seconds,
    )
