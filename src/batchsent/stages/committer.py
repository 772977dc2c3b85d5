"""Complete units → shard files, their rejects, the manifest and ``_SUCCESS``, in the order of the protocol.

config.json → parts → shard file and rejects → manifest → _SUCCESS → parts removed. Every step can be repeated
and gives the same bytes. ``_SUCCESS`` goes, durably, before anything that it vouches for changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchsent import checkpoint, success
from batchsent.checkpoint import FileEntry, Manifest, PartFile, ShardEntry, Work
from batchsent.distributions import CONFIDENCE_EDGES, LENGTH_EDGES, histogram
from batchsent.errors import BatchsentError, ShardError, VanishedError
from batchsent.identity import Identity
from batchsent.records import Shard
from batchsent.schema import (
    FOOTER_FINGERPRINT,
    FOOTER_UNIT,
    KEPT_PREFIX,
    LABEL,
    OUR_COLUMNS,
    PROBABILITY,
    REASON,
    REJECT_SCHEMA,
    TOKEN_COUNT,
    TRUNCATED,
    json_array,
    json_type,
    output_metadata,
    output_schema,
    value_counts,
)
from batchsent.storage import Published
from batchsent.stores import Store

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 64 << 20


def commit_shard(
    store: Store, identity: Identity, work: Work, check: Callable[[], None] = lambda: None
) -> tuple[ShardEntry, tuple[Published, Published]]:
    """Concatenate the parts into the shard's files and leave the manifest entry beside the parts.

    ``check`` is called between row groups and may raise.
    """
    success.require_ours(store, identity.fingerprint)
    shard, digest, unit, parts = work.shard, work.digest, work.unit, work.progress.in_order()
    kept = _kept_columns(store, identity, parts)
    metadata = output_metadata(
        model=identity.model,
        model_version=identity.model_version,
        fingerprint=identity.fingerprint,
        unit=unit,
        shard=shard.name,
        digest=digest,
    )
    fields = [pa.field(c.output_name, c.data_type) for c in kept]
    schema = output_schema(fields, identity.labels, metadata, windows=identity.window_aggregate is not None)
    counts = _Counts()
    tables = (_output_rows(_read_part(store, part), kept, schema, counts) for part in parts)
    output = _publish_table(store, identity, f"{shard.output_stem}.parquet", schema, tables, check)
    rejected = (_reject_rows(_read_part(store, part), shard, counts) for part in parts)
    rejects_name = f"{checkpoint.REJECTS}/{shard.output_stem}.parquet"
    rejects = _publish_table(store, identity, rejects_name, REJECT_SCHEMA, rejected, check)
    entry = ShardEntry(
        shard=shard.name,
        unit=unit,
        input_sha256=digest.sha256,
        input_size_bytes=digest.signature.size_bytes,
        record_count=sum(part.state.record_count for part in parts),
        row_count=counts.rows,
        reject_counts=dict(sorted(counts.rejects.items())),
        token_count=sum(part.state.token_count for part in parts),
        truncated_count=counts.truncated,
        label_counts={label: counts.labels.get(label, 0) for label in identity.labels},
        confidence_counts=tuple(counts.confidences.tolist()),
        length_counts=tuple(counts.lengths.tolist()),
        output=_file_entry(output),
        rejects=_file_entry(rejects),
        input_version=digest.signature.version,
    )
    _require_conserved(entry, parts)
    checkpoint.save_entry(store, entry)
    return entry, (output, rejects)


def _require_conserved(entry: ShardEntry, parts: list[PartFile]) -> None:
    """Rows are conserved: scored + rejected = records, and the records are those up to the end of the input."""
    accounted = entry.row_count + sum(entry.reject_counts.values())
    begin = 0
    for part in parts:  # of several ranks, perhaps: each begins where the one before it ends
        if part.state.end.row_index - part.state.record_count != begin:
            raise BatchsentError(
                f"part {part.index} of {entry.shard} begins at record "
                f"{part.state.end.row_index - part.state.record_count:,}",
                f"{begin:,}, where the part before it ends",
                "this is a bug, please report it",
            )
        begin = part.state.end.row_index
    if not accounted == entry.record_count == parts[-1].state.end.row_index:
        raise BatchsentError(
            f"{entry.shard}: {entry.row_count} scored and {sum(entry.reject_counts.values())} rejected rows",
            f"{parts[-1].state.end.row_index} records",
            "this is a bug, please report it",
        )


class _Counts:
    """What the manifest says of a shard, gathered while its rows pass."""

    def __init__(self) -> None:
        self.rows = 0
        self.truncated = 0
        self.rejects: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.confidences = histogram(np.empty(0), CONFIDENCE_EDGES)
        self.lengths = histogram(np.empty(0), LENGTH_EDGES)


@dataclass(frozen=True)
class _KeptColumn:
    input_name: str
    output_name: str
    data_type: pa.DataType
    json_kinds: set[str] | None
    """Kinds of the JSON values, where the column holds JSON text."""


def _kept_columns(store: Store, identity: Identity, parts: list[PartFile]) -> list[_KeptColumn]:
    """Kept columns of all parts, in order of appearance; JSON Lines parts may differ in theirs."""
    types: dict[str, pa.DataType] = {}
    kinds: dict[str, set[str]] = {}
    for part in parts:
        try:
            with store.open(part.name) as stream:
                schema = pq.read_schema(stream)
        except (OSError, pa.ArrowException):
            raise _damaged(part) from None
        for field in schema:
            if field.name.startswith(KEPT_PREFIX):
                types.setdefault(field.name.removeprefix(KEPT_PREFIX), field.type)
        for name, seen in part.state.kept_kinds.items():
            kinds.setdefault(name, set()).update(seen)
    renamed = dict(item.partition("=")[::2] for item in identity.keep)
    columns: list[_KeptColumn] = []
    for name, data_type in types.items():
        output_name = renamed.get(name) or name
        if output_name in OUR_COLUMNS or output_name in {column.output_name for column in columns}:
            raise ShardError(
                f"the kept column {name!r} has the name of another output column",
                "a free name",
                f"pass --keep {name}=NEW",
            )
        json_kinds = kinds.get(name)
        columns.append(
            _KeptColumn(name, output_name, data_type if json_kinds is None else json_type(json_kinds), json_kinds)
        )
    return columns


def _read_part(store: Store, part: PartFile) -> pa.Table:
    data = store.read_bytes(part.name)
    if data is None or hashlib.sha256(data).hexdigest() not in part.name:
        raise _damaged(part)
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(use_threads=False)


def _damaged(part: PartFile) -> VanishedError:
    return VanishedError(
        f"{part.name} was damaged or removed after it was written",
        "a disk that keeps what it took",
        "run again: it will be scored again",
    )


def _output_rows(part: pa.Table, kept: list[_KeptColumn], schema: pa.Schema, counts: _Counts) -> pa.Table:
    scored = _rows_where(part, pc.is_null(part.column(REASON)))
    columns: list[Any] = []
    for column in kept:
        name = KEPT_PREFIX + column.input_name
        if name not in scored.column_names:
            columns.append(pa.nulls(scored.num_rows, column.data_type))
        elif column.json_kinds is not None:
            columns.append(json_array(scored.column(name), column.json_kinds))
        else:
            columns.append(scored.column(name))
    columns += [scored.column(field.name) for field in list(schema)[len(kept) :]]
    counts.rows += scored.num_rows
    counts.truncated += pc.sum(scored.column(TRUNCATED)).as_py() or 0
    for label, count in value_counts(scored.column(LABEL).cast(pa.string())).items():
        counts.labels[label] = counts.labels.get(label, 0) + count
    counts.confidences += histogram(scored.column(PROBABILITY).to_numpy(), CONFIDENCE_EDGES)
    counts.lengths += histogram(scored.column(TOKEN_COUNT).to_numpy(), LENGTH_EDGES)
    return pa.table(columns, names=schema.names).cast(schema)


def _rows_where(table: pa.Table, mask: pa.ChunkedArray[Any]) -> pa.Table:
    """``table.filter(mask)`` for every type: Arrow's own has no kernel for string views, among others."""
    chosen = mask.to_numpy().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen, [0]])))
    runs = [table.slice(start, stop - start) for start, stop in edges.reshape(-1, 2).tolist()]
    return pa.concat_tables(runs) if runs else table.slice(0, 0)


def _reject_rows(part: pa.Table, shard: Shard, counts: _Counts) -> pa.Table:
    rejected = _rows_where(part, pc.is_valid(part.column(REASON)))
    for reason, count in value_counts(rejected.column(REASON)).items():
        counts.rejects[reason] = counts.rejects.get(reason, 0) + count
    names = [name for name in REJECT_SCHEMA.names if name != "shard"]
    own = pa.array([shard.name] * rejected.num_rows, pa.string())
    return pa.table([own, *(rejected.column(name) for name in names)], schema=REJECT_SCHEMA)


def _publish_table(
    store: Store,
    identity: Identity,
    name: str,
    schema: pa.Schema,
    tables: Iterator[pa.Table],
    check: Callable[[], None],
) -> Published:
    def write(handle: Any) -> None:
        with pq.ParquetWriter(handle, schema, compression="zstd", write_page_checksum=True) as writer:
            for group in _row_groups(tables):
                check()
                writer.write_table(group, row_group_size=max(1, group.num_rows))

    return success.put(store, identity.fingerprint, name, write)


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Parts joined to row groups that are worth reading, by a rule of their sizes alone."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        if sum(t.num_rows for t in pending) >= ROW_GROUP_ROWS or sum(t.nbytes for t in pending) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)


def _file_entry(published: Published) -> FileEntry:
    return FileEntry(published.name, published.sha256, published.size_bytes)


# --- DIR as a whole


def begin_changes(store: Store, fingerprint: str) -> None:
    """Take back the promise before anything that it vouches for changes."""
    success.require_settings(store, fingerprint)
    success.take_back(store)


def publish_manifest(store: Store, manifest: Manifest) -> None:
    """Write the manifest, and remove outputs of ours that it does not list (their shards are gone)."""
    if success.is_vouched_for(store, manifest):
        return
    listed = {file.path for entry in manifest.shards for file in entry.files}
    for name in [*store.outputs(), *store.outputs(checkpoint.REJECTS)]:
        if name not in listed and is_ours(store, name):
            success.drop(store, manifest.fingerprint, name)
    data = manifest.to_json()
    success.put(store, manifest.fingerprint, checkpoint.MANIFEST, lambda handle: handle.write(data))


def publish_success(store: Store, manifest: Manifest, is_intact: Callable[[FileEntry], bool]) -> None:
    """Write ``_SUCCESS``, when all that it vouches for is durable, then see it through."""
    listed = (file.path for entry in manifest.shards for file in entry.files)
    # Also folders that hold nothing any more: what was in them must not come back beside what is listed.
    store.make_durable([checkpoint.MANIFEST, *listed], trees=["", checkpoint.REJECTS])
    success.vouch(store, manifest, is_intact)
    store.remove_tree(checkpoint.PARTS)


def confirm_success(store: Store) -> None:
    """See a ``_SUCCESS`` through that an earlier run wrote: it may have been killed before it was durable."""
    store.make_durable([checkpoint.SUCCESS])
    store.remove_tree(checkpoint.PARTS)


def discard_everything(store: Store) -> None:
    """Remove what an earlier run left; ``config.json`` last, so that an interrupted discard is continued."""
    success.take_back(store)
    store.remove_tree(checkpoint.PARTS)
    for name in [checkpoint.MANIFEST, *store.outputs()]:
        if name == checkpoint.MANIFEST or is_ours(store, name):
            store.remove(name)
            success.keep_back(store)
    store.remove_tree(checkpoint.REJECTS)
    success.keep_back(store)
    store.remove(checkpoint.CONFIG)
    success.keep_back(store)


def is_ours(store: Store, name: str) -> bool:
    """Whether a Parquet file was written by this program; what somebody else put into DIR is not touched."""
    if name.startswith(checkpoint.REJECTS):
        return True
    try:
        with store.open(name) as stream:
            metadata = pq.read_schema(stream).metadata or {}
    except (pa.ArrowException, OSError):
        return _was_ours(store, name)
    return FOOTER_FINGERPRINT.encode() in metadata


def _was_ours(store: Store, name: str) -> bool:
    """:func:`is_ours` of a file that is damaged: what is left of its footer says it, or the manifest."""
    if any(name == entry.output.path for entry in checkpoint.listed_shards(store).values()):
        return True
    try:
        data = store.read_bytes(name) or b""
    except OSError:
        return False
    return FOOTER_FINGERPRINT.encode() in data or FOOTER_UNIT.encode() in data
