"""The values that flow between the stages, in the order of the data path.

Arrays are numpy or Arrow; a position that was permuted travels with its inverse.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

RejectReason = Literal[
    "empty_text",
    "field_count",
    "malformed_quotes",
    "invalid_json",
    "not_a_string",
    "undecodable",
    "non_finite",
    "out_of_memory",
]
"""Why a record has no prediction. A closed list: people group by it."""


@dataclass(frozen=True)
class Shard:
    """One input file."""

    name: str
    """Path relative to its INPUT, with '/' and the extension: what the manifest calls it."""
    path: str
    """Where it is on this machine."""
    format: str
    """Extension without the compression: '.parquet', '.csv', '.tsv', '.jsonl' or '.ndjson'."""
    compression: str
    """'' or '.gz', '.zst', '.bz2', '.xz'."""
    size_bytes: int
    version: str = ""
    """Of an object: what its store called its content when it was listed."""

    @property
    def is_json_lines(self) -> bool:
        """Whether its records may each have other keys, and its values are JSON."""
        return self.format in (".jsonl", ".ndjson")

    def from_root(self) -> Shard:
        """With a path that means the same to processes elsewhere."""
        return self if self.version else replace(self, path=os.path.abspath(self.path))  # noqa: PTH100 - keeps links

    @property
    def output_stem(self) -> str:
        """``name`` without its extensions: where its output goes, and what must be unique."""
        return self.name[: len(self.name) - len(self.compression) - len(self.format)]


@dataclass(frozen=True)
class Signature:
    """What tells that a file was not touched since it was hashed, as git's index does."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    version: str = ""
    """Of an object, which has none of the three before: its ETag or generation."""


@dataclass(frozen=True)
class ShardDigest:
    """A shard's content, and the signature that the file had while it was hashed."""

    sha256: str
    """In hex; '' for an object, which nobody reads from end to end just to hash it."""
    signature: Signature

    @property
    def content(self) -> str:
        """What the content is known by."""
        return self.sha256 or f"{self.signature.version}, {self.signature.size_bytes} bytes"


@dataclass(frozen=True)
class Inspection:
    """What can be known of a shard without reading its records."""

    shard: Shard
    columns: tuple[str, ...]
    """Column names; of JSON Lines, the keys of its first records."""
    record_count: int | None
    """None for text formats."""
    error: str | None = None
    """Why the shard cannot be scored; None if it can."""
    is_setting_wrong: bool = False
    """The error is one of the options (a column, the encoding, the delimiter): fatal if every shard has it."""
    row_bytes: float = 0.0
    """Parquet: of the columns that are read, as the footer has them: the largest mean of a row in a row group."""
    text_bytes: int = 0
    """Parquet: of the text's column, not compressed."""
    group_rows: int = 0
    """Parquet: rows of the largest row group; a row is decoded with all that come before it in its group."""
    expansion: float = 1.0
    """Text formats, where it was asked for: bytes that are parsed for one that is stored."""


@dataclass(frozen=True)
class Layout:
    """How a shard falls into parts, where that is known before it is read."""

    row_count: int
    """Of each part but the last."""
    part_count: int


@dataclass(frozen=True)
class Task:
    """A shard, and what of it is to be done here: all of it, unless ranks or replicas share it."""

    inspection: Inspection
    layout: Layout | None = None
    parts: range | None = None
    """Indices of the parts that are; None stands for all."""

    @property
    def shard(self) -> Shard:
        """The shard itself."""
        return self.inspection.shard

    @property
    def size_bytes(self) -> int:
        """Of the shard's size: what these parts are, about."""
        if self.parts is None or self.layout is None:
            return self.shard.size_bytes
        return self.shard.size_bytes * len(self.parts) // self.layout.part_count


@dataclass(frozen=True)
class Position:
    """A place between two records of a shard."""

    row_index: int = 0
    """Index of the next record."""
    byte_offset: int = 0
    """Its offset in the decompressed file (text formats)."""


@dataclass(frozen=True)
class Part:
    """A run of consecutive records of a shard: the unit of sorting, checkpointing and retry."""

    shard: Shard
    unit: str
    index: int
    records: pa.Table
    """schema.READ_FIELDS, then the kept columns, one row a record, in input order."""
    end: Position
    is_last: bool
    kept_kinds: dict[str, list[str]] = field(default_factory=dict)
    """JSON Lines: the kinds of value seen in each kept column (see schema.json_type)."""
    read_seconds: float = 0.0


@dataclass(frozen=True)
class EncodedTexts:
    """The distinct texts of a part as token ids.

    A window is what the model reads at once of a text: all of it, its beginning if it is too long, or one of several
    that overlap.
    """

    ids: list[npt.NDArray[np.int32]]
    """One array a window, at most the maximum length, special tokens included; those of a text stand together."""
    window_counts: npt.NDArray[np.int32]
    """[distinct texts]: windows of each; they make up ``ids``."""
    truncated: npt.NDArray[np.bool_]
    """[distinct texts]"""
    text_of_record: npt.NDArray[np.int32]
    """[records]: index into ``ids``, -1 where the record has no text to score."""
    unknown_token_count: int
    encode_seconds: float


@dataclass(frozen=True)
class TokenBatch:
    """One forward pass: its windows one behind the other, the longest first."""

    token_ids: npt.NDArray[np.int32]
    """[tokens]"""
    lengths: npt.NDArray[np.int64]
    """[windows]: tokens of each."""
    window_indices: npt.NDArray[np.int64]
    """[windows]: which window of the part each is: the inverse of the sort."""
    capacity: int = 0
    """Tokens that a packed pass is filled up to, if it has fewer; 0 where nothing is filled."""

    def padded(self, fill: int) -> npt.NDArray[np.int64]:
        """[windows, longest]: a row a window, filled up on its right."""
        import numpy as np

        rows = np.full((len(self.lengths), int(self.lengths.max())), fill, np.int64)
        rows[np.arange(rows.shape[1]) < self.lengths[:, None]] = self.token_ids
        return rows

    def between(self, start: int, stop: int) -> TokenBatch:
        """The windows ``start`` to ``stop`` of this batch, as one of their own."""
        first, last = int(self.lengths[:start].sum()), int(self.lengths[:stop].sum())
        return replace(
            self,
            token_ids=self.token_ids[first:last],
            lengths=self.lengths[start:stop],
            window_indices=self.window_indices[start:stop],
        )

    def smaller(self) -> list[TokenBatch]:
        """What to try where the device has not enough memory for this batch; empty if nothing smaller is left."""
        count = len(self.lengths)
        if count > 1:
            halved = replace(self, capacity=self.capacity // 2)
            return [halved.between(0, count // 2), halved.between(count // 2, count)]
        return [replace(self, capacity=0)] if self.capacity > len(self.token_ids) else []


def packed_window_limit(capacity: int) -> int:
    """Windows of a packed pass of ``capacity`` tokens at most: fixed, so that all such passes have one shape.

    Only windows of fewer than eight tokens on average, special ones included, meet it before the other limit.
    """
    return max(1, capacity // 8)


@dataclass(frozen=True)
class EncodedPart:
    """A part on its way to the device: one run of token ids, and where to cut it."""

    token_ids: npt.NDArray[np.int32]
    """[tokens]: of all windows that can be scored, in the order of their batches."""
    lengths: npt.NDArray[np.int64]
    """[windows that can be scored]: tokens of each, in that order."""
    window_indices: npt.NDArray[np.int64]
    """[windows that can be scored]: which window each is."""
    batch_ends: npt.NDArray[np.int64]
    """[batches]: how many of these windows come before the end of each batch."""
    capacity: int
    """Tokens that every packed pass is filled up to; 0 where batches are padded."""
    padding_count: int
    """Tokens that the device computes besides those."""
    window_counts: npt.NDArray[np.int32]
    """[distinct texts]: windows of each."""
    token_counts: npt.NDArray[np.int32]
    """[distinct texts]: tokens of its windows, special ones included: what the model reads."""
    truncated: npt.NDArray[np.bool_]
    """[distinct texts]"""
    text_of_record: npt.NDArray[np.int32]
    """[records]: index of its distinct text, -1 where the record has no text to score."""
    unknown_token_count: int
    encode_seconds: float

    @property
    def batches(self) -> list[TokenBatch]:
        """In the order in which they are to be computed."""
        whole = TokenBatch(self.token_ids, self.lengths, self.window_indices, self.capacity)
        ends = self.batch_ends.tolist()
        return [whole.between(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]

    def pin_memory(self) -> EncodedPart:
        """The same with its ids in page-locked memory, which a GPU copies from by itself; a DataLoader asks for it."""
        import torch

        return replace(self, token_ids=torch.from_numpy(self.token_ids).pin_memory().numpy())


@dataclass(frozen=True)
class Predictions:
    """What the model says of the windows of a part."""

    probabilities: npt.NDArray[np.float32]
    """[windows, labels]; rows with a ``failure`` hold nothing of meaning."""
    failures: dict[int, RejectReason]
    """Window → why it has no probabilities."""
    forward_seconds: float
    split_count: int
    """Batches that were halved because the device ran out of memory."""
    rerun_count: int
    """Windows that were run again in fp32 because their logits were not finite."""


@dataclass(frozen=True)
class ScoredPart:
    """A part with its predictions, in input order, ready to be committed."""

    shard: Shard
    unit: str
    index: int
    table: pa.Table
    """schema.part_schema: every record once, scored or rejected."""
    end: Position
    is_last: bool
    kept_kinds: dict[str, list[str]]
    token_count: int
    """Tokens of the scored records."""
