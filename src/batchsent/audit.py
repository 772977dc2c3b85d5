"""``--audit N``: random rows, their texts read again from the input and scored again, each alone in fp32.

What comes out is held against what is published. So it shows what a precision, a batch or a backend did to the numbers,
and that each row's prediction is that of its text.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from batchsent.checkpoint import Audit, Manifest, ShardEntry, unit_of
from batchsent.directory import model_source
from batchsent.errors import BatchsentError, DeviceError, IncompleteError, ShardError
from batchsent.identity import Identity
from batchsent.machine import choose_device
from batchsent.models import loading
from batchsent.models.resolution import ModelSource, require_unchanged
from batchsent.records import Part, Position, ScoredPart, Shard, ShardDigest, TokenBatch
from batchsent.run import Run
from batchsent.schema import LABEL, PROBABILITIES, REASON, ROW_INDEX, TOKEN_COUNT, TRUNCATED
from batchsent.stages.reader import InspectRequest, ReaderProcess, ReadRequest, layout_of
from batchsent.stores import Store

log = logging.getLogger(__name__)

LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "fp16-weights": 2e-2, "bf16": 1e-1, "int8": 5e-1}
"""Precision → by how much a probability may differ from fp32; docs/benchmarks.md says what each rests on."""

LOG_INTERVAL_SECONDS = 10.0

Row = dict[str, Any]
"""A row of an output, or of a scored part, by the names of its columns."""


@dataclass(frozen=True)
class Auditor:
    """What an audit needs of a run whose shards are all finished."""

    run: Run
    reader: ReaderProcess
    record: Callable[[], None]
    """Called after each row."""

    def audit(self, manifest: Manifest, shards: Sequence[Shard]) -> Audit:
        """Score ``--audit`` rows of ``manifest`` again, or all if there are no more.

        Raises IncompleteError if a text cannot be read again, DeviceError if the device has no room for one in fp32.
        """
        by_name = {shard.name: shard for shard in shards}
        drawn = draw(manifest, self.run.config.audit)
        row_count = sum(len(positions) for _, positions in drawn)
        comparison = Comparison(LIMITS[self.run.identity.precision])
        if row_count:
            expected: deque[Row] = deque()
            parts = self._parts([(entry, by_name[entry.shard], positions) for entry, positions in drawn], expected)
            with contextlib.closing(self._scored_alone(parts, row_count)) as rows:
                said_at = time.monotonic()
                for found in rows:
                    comparison.add(expected.popleft(), found)
                    self.record()
                    if time.monotonic() - said_at > LOG_INTERVAL_SECONDS:
                        said_at = time.monotonic()
                        log.info("%s of %s rows audited", f"{comparison.row_count:,}", f"{row_count:,}")
        comparison.tell()
        return comparison.result()

    # --- what is read

    def _parts(self, drawn: Sequence[tuple[ShardEntry, Shard, Any]], expected: deque[Row]) -> Iterator[Part]:
        """A part for each drawn row that holds its record alone; what is published of it is put to ``expected``."""
        for entry, shard, positions in drawn:
            try:
                for part, row in self._records(entry, shard, positions):
                    expected.append(row)
                    yield part
            except ShardError as error:
                raise IncompleteError(
                    f"the audit cannot read {shard.name} again ({error})", "the input that was scored", "run again"
                ) from error

    def _records(self, entry: ShardEntry, shard: Shard, positions: Any) -> Iterator[tuple[Part, Row]]:
        try:
            digest = self.run.digests.of_shard(shard)
        except OSError as error:
            raise ShardError(f"{error.strerror or 'it is gone'}") from error
        if unit_of(self.run.identity, shard.name, digest) != entry.unit:
            raise ShardError(f"{shard.name} changed after it was scored", "input that holds still")
        rows = _published_rows(self.run.store, entry, positions)
        if shard.format == ".parquet":
            yield from self._parquet_records(shard, digest, rows)
        else:
            yield from _matched(self.reader.read(ReadRequest.of_texts(shard, digest, self.run.identity)), rows)

    def _parquet_records(self, shard: Shard, digest: ShardDigest, rows: Iterator[Row]) -> Iterator[tuple[Part, Row]]:
        """Only the parts that hold one of ``rows`` are read, and of their columns only the text."""
        identity = self.run.identity
        asked = InspectRequest(shard, identity.text_column, (), identity.encoding, identity.delimiter)
        [inspection] = self.reader.inspect([asked])
        layout = layout_of(inspection, identity.rows_per_part, identity.limit)
        if layout is None:
            raise ShardError(inspection.error or f"{shard.name} has no layout")
        request = ReadRequest.of_texts(shard, digest, identity)
        for index, of_part in groupby(rows, lambda row: row[ROW_INDEX] // layout.row_count):
            parts = self.reader.read(replace(request, layout=layout, parts=range(index, index + 1)))
            yield from _matched(parts, of_part)
            _read_to_the_end(parts)

    # --- what is computed

    def _scored_alone(self, parts: Iterator[Part], row_count: int) -> Generator[Row]:
        """The prediction of each part's one record, by the steps of every run, a window a pass."""
        from batchsent.engines.encoding import make_encode
        from batchsent.engines.local import tokenizing
        from batchsent.stages.classifier import classify
        from batchsent.stages.restorer import restore

        alone = replace(
            self.run.identity, precision="fp32", backend="torch", batching="padded", compiled=False, batch_tokens=1
        )
        # On a cluster, --device is that of its nodes.
        device = choose_device("auto" if self.run.config.engine == "ray" else self.run.config.device)
        log.info("auditing %s rows, each alone in fp32 by torch on %s", f"{row_count:,}", device)
        source = model_source(self.run.identity, self.run.config, self.run.digests.of_model)
        make = partial(make_encode, source.directory, alone)
        with tokenizing(parts, make, workers=1, pin_memory=False, stop=self.run.stop) as encoded_parts:
            model = self._model(alone, source, device)
            reference = _AsItIs(model)
            for part, encoded, predictions in classify(encoded_parts, reference, alone.labelling, self.run.stop.check):
                yield _row_of(restore(part, encoded, predictions, alone.labelling))

    def _model(self, alone: Identity, source: ModelSource, device: str) -> Any:
        model = loading.load_model(alone, source.directory, device, self.run.stop.check)
        self.run.stop.check()
        require_unchanged(source.directory, source.files, self.run.digests.of_model)
        return model


class _AsItIs:
    """A model that computes all that its library does, also where a run leaves some out."""

    in_flight = 0

    def __init__(self, model: Any) -> None:
        self.full_precision_logits = model.full_precision_logits

    def start(self, batch: TokenBatch) -> Callable[[], Any]:
        """A whole pass in fp32, at once."""
        logits = self.full_precision_logits(batch)
        return lambda: logits


def draw(manifest: Manifest, count: int) -> list[tuple[ShardEntry, Any]]:
    """``count`` rows of all shards, each as likely as any other, or all; shard → positions in its output, ascending.

    The same for the same settings and the same numbers of rows.
    """
    entries = [entry for entry in manifest.shards if entry.row_count]
    ends = np.cumsum([0, *(entry.row_count for entry in entries)])
    total = int(ends[-1])
    if count >= total:
        return [(entry, np.arange(entry.row_count)) for entry in entries]
    chooser = np.random.default_rng(int(manifest.fingerprint, 16))
    rows = np.sort(chooser.choice(total, count, replace=False, shuffle=False))
    cuts = pairwise(np.searchsorted(rows, ends).tolist())
    return [
        (entry, rows[first:last] - start)
        for entry, start, (first, last) in zip(entries, ends, cuts, strict=False)
        if first < last
    ]


def _published_rows(store: Store, entry: ShardEntry, positions: Any) -> Iterator[Row]:
    """The rows at ``positions`` of a shard's output; one of its row groups is in memory at a time."""
    columns = [ROW_INDEX, LABEL, PROBABILITIES, TOKEN_COUNT, TRUNCATED]
    with store.open(entry.output.path) as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            wanted = positions[np.searchsorted(positions, begin) : np.searchsorted(positions, end)] - begin
            if len(wanted):
                table = file.read_row_group(group, columns=columns, use_threads=False)
                for position in wanted.tolist():
                    [row] = table.slice(position, 1).to_pylist()
                    yield row
            begin = end


def _matched(parts: Iterator[Part], rows: Iterator[Row]) -> Iterator[tuple[Part, Row]]:
    """Each of ``rows``, which ascend, with its record; no further part is read than these need."""
    part: Part | None = None
    for row in rows:
        while part is None or row[ROW_INDEX] >= part.end.row_index:
            part = next(parts, None)
            if part is None:
                raise ShardError(f"there is no record {row[ROW_INDEX]}, of which there is a prediction")
        offset = row[ROW_INDEX] - (part.end.row_index - part.records.num_rows)
        # Taken, not sliced: a slice would bring the whole part to the tokenizer.
        yield replace(part, records=part.records.take([offset]), end=Position(row[ROW_INDEX] + 1), kept_kinds={}), row
    if part is not None and part.is_last:
        _read_to_the_end(parts)


def _read_to_the_end(parts: Iterator[Part]) -> None:
    """Nothing comes any more, but a reader that nobody has heard to the end is started anew."""
    for _ in parts:
        raise BatchsentError("a part after the last one", "its end", "this is a bug, please report it")


def _row_of(part: ScoredPart) -> Row:
    [row] = part.table.to_pylist()
    return {**row, "shard": part.shard.name}


class Comparison:
    """Rows as they are published beside the same rows as fp32 has them."""

    def __init__(self, limit: float) -> None:
        self.row_count = 0
        self._limit = limit
        self._largest, self._worst = 0.0, ""
        self._changed = self._clearly_changed = 0

    def add(self, published: Row, found: Row) -> None:
        """One more row. Raises DeviceError if there was no room to compute it."""
        self.row_count += 1
        if found[REASON] == "out_of_memory":
            raise DeviceError(
                f"record {found[ROW_INDEX]} of {found['shard']} does not fit into the device's memory in fp32",
                "room for one text",
                "run again with --device cpu, or without --audit",
            )
        difference = _difference(published, found)
        if difference > self._largest or not self._worst:
            self._largest, self._worst = difference, f"row_index {found[ROW_INDEX]} of {found['shard']}"
        if published[LABEL] != found[LABEL]:
            self._changed += 1
            self._clearly_changed += _margin(found) > 2 * self._limit

    def result(self) -> Audit:
        """Of all rows so far."""
        return Audit(self.row_count, self._largest, self._changed, self._clearly_changed, self._limit)

    def tell(self) -> None:
        """Say it in the log; where it is too much, also which row differs most."""
        result = self.result()
        if result.is_passed:
            log.info("audit: %s", result)
        else:
            log.warning("audit: %s; it is largest in %s", result, self._worst)


def _difference(published: Row, found: Row) -> float:
    """The largest of a probability; 1 where the prediction cannot be that of the text."""
    if found[REASON] is not None or any(published[name] != found[name] for name in (TOKEN_COUNT, TRUNCATED)):
        return 1.0
    pairs = zip(published[PROBABILITIES].values(), found[PROBABILITIES].values(), strict=True)
    return float(max(abs(before - after) for before, after in pairs))


def _margin(row: Row) -> float:
    """Between the two most probable labels; 1 where there is no prediction."""
    if row[REASON] is not None:
        return 1.0
    *_, second, first = sorted(row[PROBABILITIES].values())
    return float(first - second)
