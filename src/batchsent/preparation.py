"""What can be known to be wrong before the work starts: columns, names, space."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

from batchsent.checkpoint import PARTS
from batchsent.config import ScoreConfig
from batchsent.errors import InputError, StorageError
from batchsent.identity import Identity
from batchsent.records import Inspection, Shard, Task
from batchsent.reporting.progress import spoken_bytes
from batchsent.schema import OUR_COLUMNS
from batchsent.shares import ShardCost, Share, split
from batchsent.stages.reader import InspectRequest, ReaderProcess, layout_of
from batchsent.stores import Store

log = logging.getLogger(__name__)


def inspect_shards(reader: ReaderProcess, shards: list[Shard], config: ScoreConfig) -> list[Inspection]:
    """Look into every shard. Raises InputError if not one is what the options say of it."""
    kept = config.kept_columns()
    requests = [
        InspectRequest(
            shard,
            config.text_column,
            tuple(kept),
            config.encoding,
            config.delimiter,
            label_column=config.label_column,
            keep_all=config.keep_all,
        )
        for shard in shards
    ]
    inspections = [_with_free_names(inspection, kept, config.keep_all) for inspection in reader.inspect(requests)]
    empty = [shard.name for shard in shards if not shard.size_bytes]
    if empty:
        more = f" and {len(empty) - 1:,} more" if len(empty) > 1 else ""
        log.warning("there is nothing in %s%s (0 bytes); look at whoever writes it", empty[0], more)
    misread = [inspection for inspection in inspections if inspection.is_setting_wrong]
    if misread and all(inspection.error for inspection in inspections):
        others = len(misread) - 1
        raise InputError(f"{misread[0].error}{f' (so it is in {others} other shards)' if others else ''}")
    return inspections


def _with_free_names(inspection: Inspection, kept: dict[str, str], keep_all: bool) -> Inspection:
    """A kept column must not bear the name of one of ours, nor of another one."""
    given = inspection.columns if keep_all else ()
    names = [*given, *(name for name in kept if name not in given)]
    outputs = [kept.get(name, name) for name in names]
    counts = Counter(outputs)
    taken = [n for n, output in zip(names, outputs, strict=True) if output in OUR_COLUMNS or counts[output] > 1]
    if not taken or inspection.error is not None:
        return inspection
    error = (
        f"the kept column {taken[0]!r} of {inspection.shard.name} has the name of another output column; "
        f"expected a free name; pass --keep {taken[0]}=NEW"
    )
    return replace(inspection, error=error, is_setting_wrong=True)


def tasks_of(inspections: list[Inspection], share: Share, *, rows_per_part: int, limit: int | None) -> list[Task]:
    """What is ``share``'s to do, in the order of the input."""
    if share.is_whole:
        return [Task(inspection) for inspection in inspections]
    layouts = [layout_of(i, rows_per_part, limit) if i.error is None else None for i in inspections]
    costs = [
        ShardCost(_cost(inspection, limit), layout.part_count if layout else None)
        for inspection, layout in zip(inspections, layouts, strict=True)
    ]
    own = split(costs, share.world_size)[share.rank]
    return [Task(inspections[index], layouts[index], own[index]) for index in sorted(own)]


PIECES_PER_REPLICA = 16
"""At least: the last pieces end at different times, and so long some replicas are idle."""
PARTS_PER_PIECE = 16
"""At most: the beginning and the end of a piece cost a moment, and a piece is lost with its replica's process."""


def pieces_of(
    inspections: list[Inspection], replica_count: int, *, rows_per_part: int, limit: int | None
) -> list[list[Task]]:
    """What can be handed to one replica at a time: a run of a shard's parts, or some small shards."""
    layouts = [layout_of(inspection, rows_per_part, limit) for inspection in inspections]
    costs = [_cost(inspection, limit) for inspection in inspections]
    wanted = sum(costs) / (PIECES_PER_REPLICA * max(1, replica_count))
    pieces: list[list[Task]] = []
    gathered, gathered_cost, gathered_parts = list[Task](), 0, 0
    for inspection, layout, cost in zip(inspections, layouts, costs, strict=True):
        part_count = layout.part_count if layout else 1
        count = max(1, min(PARTS_PER_PIECE, int(wanted * part_count / max(1, cost))))
        if layout is not None and count < part_count:
            starts = range(0, part_count, count)
            pieces += [[Task(inspection, layout, range(s, min(s + count, part_count)))] for s in starts]
            continue
        gathered.append(Task(inspection))
        gathered_cost, gathered_parts = gathered_cost + cost, gathered_parts + part_count
        if gathered_cost >= wanted or gathered_parts >= PARTS_PER_PIECE:
            pieces.append(gathered)
            gathered, gathered_cost, gathered_parts = [], 0, 0
    return [*pieces, gathered] if gathered else pieces


def _cost(inspection: Inspection, limit: int | None) -> int:
    """Bytes of text, about: tokens are what takes the time. A shard that cannot be read costs next to nothing."""
    if inspection.error is not None:
        return 1
    if inspection.record_count is None:
        return 1 + inspection.shard.size_bytes * (3 if inspection.shard.compression else 1)
    records = inspection.record_count if limit is None else min(limit, inspection.record_count)
    return 1 + records + inspection.text_bytes * records // max(1, inspection.record_count)


def require_space(store: Store, identity: Identity, inspections: list[Inspection]) -> None:
    """Parts and shard files lie side by side for a while. Raises StorageError if both will hardly fit.

    An estimate on the low side: a disk that fills up later costs nothing but time, a refusal that is wrong
    would be repeated for ever.
    """
    needed = needed_bytes(identity, inspections) - store.size_bytes(PARTS)
    free = store.free_bytes()
    if needed > free:
        raise StorageError(
            f"{spoken_bytes(free)} free in {store.root}",
            f"about {spoken_bytes(needed)}",
            "free space or choose another --output, and run again",
        )


def needed_bytes(identity: Identity, inspections: list[Inspection]) -> int:
    """Of DIR, about, while the parts and files of these shards lie side by side."""
    return sum(2 * _estimated_output_bytes(inspection, identity) for inspection in inspections)


def _estimated_output_bytes(inspection: Inspection, identity: Identity) -> int:
    """About what a shard's file will take, from its size and what is kept of it; zstd halves text."""
    size, records = inspection.shard.size_bytes, inspection.record_count
    if records is None:
        records = size * (3 if inspection.shard.compression else 1) // 300
    if identity.limit is not None:
        records = min(records, identity.limit)
    own = records * (8 + 4 * len(identity.labels) + 8 * len(identity.keep))
    keeps_text = identity.keep_all or any(item.partition("=")[0] == identity.text_column for item in identity.keep)
    return own + (size // 2 if keeps_text else 0)
