"""Scored parts → part files. A committed part file is the checkpoint."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.checkpoint import PartFile, PartState, part_name
from batchsent.records import ScoredPart
from batchsent.stores import Store


def write_part(store: Store, part: ScoredPart) -> PartFile:
    """Publish ``part`` under a name that holds its SHA-256."""
    state = PartState(part.end, part.is_last, part.kept_kinds, part.table.num_rows, part.token_count)
    sink = pa.BufferOutputStream()
    pq.write_table(
        part.table.replace_schema_metadata(state.to_metadata()),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    data = sink.getvalue().to_pybytes()
    name = part_name(part.unit, part.index, hashlib.sha256(data).hexdigest())
    store.publish_bytes(name, data)
    return PartFile(name, part.index, state)
