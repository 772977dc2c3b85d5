"""What is done already, and whether it still counts.

A committed part file is the checkpoint: its name holds its SHA-256, its folder the unit (settings and shard
content), so a part that is damaged, of another model or of another input is never taken for one that counts.
A finished shard leaves its manifest entry beside its parts, under the same rule. There is no other record of
progress that could disagree with these.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from batchsent.identity import SCHEMA_VERSION, Identity, canonical_json, checksum_of
from batchsent.records import Layout, Position, Shard, ShardDigest
from batchsent.storage import INTERNAL, hash_stream
from batchsent.stores import Store

CONFIG = f"{INTERNAL}/config.json"
MANIFEST = f"{INTERNAL}/manifest.json"
SUCCESS = "_SUCCESS"
PARTS = f"{INTERNAL}/parts"
REJECTS = f"{INTERNAL}/rejects"
RUNS = f"{INTERNAL}/runs"

_PART_NAME = re.compile(r"(\d{8})-([0-9a-f]{64})\.parquet")
_ENTRY_NAME = re.compile(r"shard-([0-9a-f]{16})-([0-9a-f]{64})\.json")
_PART_STATE = b"batchsent.part"


@dataclass(frozen=True)
class PartState:
    """What a part file says of itself beside its rows."""

    end: Position
    is_last: bool
    kept_kinds: dict[str, list[str]]
    record_count: int
    token_count: int

    def to_metadata(self) -> dict[bytes, bytes]:
        """Key-value metadata for the part's footer."""
        return {_PART_STATE: canonical_json(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes]) -> PartState:
        """Inverse of :meth:`to_metadata`."""
        values = json.loads(metadata[_PART_STATE])
        return cls(**(values | {"end": Position(**values["end"])}))


@dataclass(frozen=True)
class PartFile:
    """A part that is committed."""

    name: str
    index: int
    state: PartState


@dataclass
class UnitProgress:
    """The committed parts of one shard under one configuration."""

    parts: dict[int, PartFile] = field(default_factory=dict)

    def add(self, part: PartFile) -> None:
        """Count ``part`` in."""
        self.parts[part.index] = part

    @property
    def is_complete(self) -> bool:
        """Whether every part from the first to one that says it is the last is there."""
        last = next((part.index for part in self.parts.values() if part.state.is_last), None)
        return last is not None and all(index in self.parts for index in range(last + 1))

    @property
    def done(self) -> dict[int, tuple[Position, bool]]:
        """Part index → where it ended, whether it was the last: what a reader may jump over."""
        # A copy: parts are committed on another thread meanwhile.
        return {index: (part.state.end, part.state.is_last) for index, part in self.parts.copy().items()}

    def in_order(self) -> list[PartFile]:
        """The parts by index."""
        return [self.parts[index] for index in sorted(self.parts)]


@dataclass(frozen=True, eq=False)
class Work:
    """A shard that is not finished, with what is committed of it."""

    shard: Shard
    digest: ShardDigest
    unit: str
    progress: UnitProgress
    record_count: int | None
    """If the file says so."""
    layout: Layout | None = None
    parts: range | None = None
    """Indices of the parts that are to be done here; None stands for all."""

    @property
    def done(self) -> dict[int, tuple[Position, bool]]:
        """Of what is to do here: what a reader may jump over."""
        done = self.progress.done
        return done if self.parts is None else {index: done[index] for index in self.parts if index in done}

    @property
    def is_share_done(self) -> bool:
        """Whether what is to be done here is committed."""
        if self.parts is None:
            return self.progress.is_complete
        return all(index in self.progress.parts for index in self.parts)


def unit_of(identity: Identity, shard_name: str, digest: ShardDigest) -> str:
    """The name under which parts of this shard's content with these settings live (32 hex digits)."""
    return hashlib.sha256(canonical_json([identity.fingerprint, shard_name, digest.content])).hexdigest()[:32]


def part_name(unit: str, index: int, sha256: str) -> str:
    """Name of a part file."""
    return f"{PARTS}/{unit}/{index:08d}-{sha256}.parquet"


def load_progress(store: Store, unit: str, check: Callable[[], None] = lambda: None) -> UnitProgress:
    """Every part of ``unit`` whose bytes are what its name says; a damaged one is removed.

    ``check`` is called while parts are hashed and may raise.
    """
    progress = UnitProgress()
    for file_name in store.list(f"{PARTS}/{unit}"):
        match = _PART_NAME.fullmatch(file_name)
        if not match:
            continue
        name = f"{PARTS}/{unit}/{file_name}"
        try:
            with store.open(name) as stream:
                intact = hash_stream(stream, check) == match[2]
                # Two files of one index: an out-of-memory split changed last digits. The first by name counts.
                if intact and int(match[1]) not in progress.parts:
                    stream.seek(0)
                    state = PartState.from_metadata(pq.read_schema(stream).metadata)
                    progress.add(PartFile(name, int(match[1]), state))
        except FileNotFoundError:
            continue  # another run has published and cleared it
        if not intact:
            store.remove(name)
    return progress


def seen_progress(store: Store, unit: str) -> UnitProgress:
    """The same by names and footers alone: no part is hashed, and a damaged one may be among them. Removes nothing."""
    progress = UnitProgress()
    for file_name in store.list(f"{PARTS}/{unit}"):
        match = _PART_NAME.fullmatch(file_name)
        if match:
            name = f"{PARTS}/{unit}/{file_name}"
            with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid, KeyError, TypeError), store.open(name) as file:
                state = PartState.from_metadata(pq.read_schema(file).metadata)
                progress.add(PartFile(name, int(match[1]), state))
    return progress


def part_indices(store: Store, unit: str) -> set[int]:
    """Which parts of ``unit`` are there, by their names alone."""
    matches = map(_PART_NAME.fullmatch, store.list(f"{PARTS}/{unit}"))
    return {int(match[1]) for match in matches if match}


def units(store: Store) -> set[str]:
    """The units of which something is there."""
    return set(store.folders(PARTS))


# --- finished shards


@dataclass(frozen=True)
class FileEntry:
    """A published file as the manifest vouches for it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ShardEntry:
    """A finished shard as the manifest lists it: a function of settings, input and output alone."""

    shard: str
    unit: str
    input_sha256: str
    """'' for an object."""
    input_size_bytes: int
    record_count: int
    row_count: int
    reject_counts: dict[str, int]
    token_count: int
    truncated_count: int
    label_counts: dict[str, int]
    confidence_counts: tuple[int, ...]
    """Scored rows by ``probability``, in the bins of ``distributions.CONFIDENCE_EDGES``."""
    length_counts: tuple[int, ...]
    """Scored rows by ``token_count``, in the bins of ``distributions.LENGTH_EDGES``."""
    output: FileEntry
    rejects: FileEntry
    input_version: str = ""
    """Of an object: its ETag or generation."""

    @property
    def files(self) -> tuple[FileEntry, FileEntry]:
        """Everything it published."""
        return self.output, self.rejects

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From the JSON of a manifest or of an entry of its own."""
        files = {name: FileEntry(**values[name]) for name in ("output", "rejects")}
        counts = {name: tuple(values[name]) for name in ("confidence_counts", "length_counts")}
        return cls(**(values | files | counts))


def save_entry(store: Store, entry: ShardEntry) -> None:
    """Leave ``entry`` beside the shard's parts, its hash in its name, and which shard it is of."""
    data = canonical_json(asdict(entry))
    name = f"shard-{_name_key(entry.shard)}-{hashlib.sha256(data).hexdigest()}.json"
    store.publish_bytes(f"{PARTS}/{entry.unit}/{name}", data)


def _name_key(shard_name: str) -> str:
    return hashlib.sha256(shard_name.encode()).hexdigest()[:16]


def load_entry(store: Store, unit: str) -> ShardEntry | None:
    """The entry that :func:`save_entry` left for ``unit``, if it is undamaged."""
    for file_name in store.list(f"{PARTS}/{unit}"):
        match = _ENTRY_NAME.fullmatch(file_name)
        data = store.read_bytes(f"{PARTS}/{unit}/{file_name}") if match else None
        if match and data is not None and hashlib.sha256(data).hexdigest() == match[2]:
            return ShardEntry.from_dict(json.loads(data))
    return None


def finished_among(store: Store, shard_names: Iterable[str]) -> set[str]:
    """Those of ``shard_names`` of which such an entry is there, whatever content they had. Opens nothing."""
    matches = (_ENTRY_NAME.fullmatch(name.rpartition("/")[2]) for name in store.below(PARTS))
    keys = {match[1] for match in matches if match}
    return {name for name in shard_names if _name_key(name) in keys}


# --- manifest


@dataclass(frozen=True)
class Audit:
    """What scoring random rows again, each alone in fp32, has shown of what is published."""

    row_count: int
    largest_difference: float
    """Of a probability; 1 where a row is not of its text, or its text has no prediction in fp32."""
    changed_label_count: int
    clearly_changed_label_count: int
    """Of these: where in fp32 the two most probable labels are further apart than twice the limit."""
    limit: float

    @property
    def is_passed(self) -> bool:
        """Whether no probability differs by more than the limit."""
        return self.largest_difference <= self.limit

    def __str__(self) -> str:
        count, clearly = self.changed_label_count, self.clearly_changed_label_count
        changed = f"{count:,} label{'s' * (count != 1)} changed" + (f", {clearly:,} clearly" if clearly else "")
        difference = f"{self.largest_difference:.2g} (limit {self.limit:g})"
        return f"{self.row_count:,} rows, largest difference {difference}, {changed}"


@dataclass(frozen=True)
class Manifest:
    """Everything that is in DIR, in the order of the shards' names."""

    fingerprint: str
    shards: tuple[ShardEntry, ...]
    failed: dict[str, str] = field(default_factory=dict)
    """Shard → why it could not be scored."""
    audit: Audit | None = None
    """Of just these shards; None if there was none."""

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``, with a checksum over the rest: it is trusted without ``_SUCCESS``."""
        return self._json

    @cached_property
    def _json(self) -> bytes:
        # Once: of 10,000 shards it takes a second.
        content = {
            "schema_version": SCHEMA_VERSION,
            "fingerprint": self.fingerprint,
            "totals": self.totals(),
            **({"audit": asdict(self.audit)} if self.audit else {}),
            "failed": self.failed,
            "shards": [asdict(entry) for entry in self.shards],
        }
        return json.dumps({"checksum": checksum_of(content), **content}, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Inverse of :meth:`to_json`. Raises ValueError if one byte of the content differs."""
        try:
            content = json.loads(data)
            checksum = content.pop("checksum")
            if checksum_of(content) != checksum:
                raise ValueError("the checksum does not fit the content")
            shards = tuple(ShardEntry.from_dict(values) for values in content["shards"])
            audit = Audit(**content["audit"]) if "audit" in content else None
            return cls(content["fingerprint"], shards, content["failed"], audit)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error

    def totals(self) -> dict[str, Any]:
        """Sums over the shards."""
        return self._totals.copy()

    @cached_property
    def _totals(self) -> dict[str, Any]:
        return {
            "record_count": sum(entry.record_count for entry in self.shards),
            "row_count": sum(entry.row_count for entry in self.shards),
            "token_count": sum(entry.token_count for entry in self.shards),
            "truncated_count": sum(entry.truncated_count for entry in self.shards),
            "reject_counts": _summed(entry.reject_counts for entry in self.shards),
            "label_counts": _summed(entry.label_counts for entry in self.shards),
            "confidence_counts": _added_up(entry.confidence_counts for entry in self.shards),
            "length_counts": _added_up(entry.length_counts for entry in self.shards),
        }

    def has_audit_of(self, count: int) -> bool:
        """Whether so many rows were audited and passed, or all that there are."""
        if self.audit is None:
            return count == 0
        wanted = min(count, sum(entry.row_count for entry in self.shards))
        return self.audit.is_passed and self.audit.row_count >= wanted

    def bad_row_count(self) -> int:
        """Rejected rows that count against ``--max-reject-rate``: all but empty texts."""
        counts: dict[str, int] = self.totals()["reject_counts"]
        return sum(count for reason, count in counts.items() if reason != "empty_text")


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for mapping in counts:
        for key, count in mapping.items():
            sums[key] = sums.get(key, 0) + count
    return dict(sorted(sums.items()))


def _added_up(counts: Iterable[tuple[int, ...]]) -> list[int]:
    return [sum(bins) for bins in zip(*counts, strict=True)]


def load_manifest(store: Store) -> Manifest | None:
    """The manifest in DIR; None if there is none or it is damaged."""
    data = store.read_bytes(MANIFEST)
    try:
        return None if data is None else Manifest.from_json(data)
    except ValueError:
        return None


def listed_shards(store: Store) -> dict[str, ShardEntry]:
    """Name → entry of the shards that the manifest in DIR lists; it may be older than the input."""
    manifest = load_manifest(store)
    return {entry.shard: entry for entry in manifest.shards} if manifest else {}


def is_published(store: Store) -> bool:
    """Whether ``_SUCCESS`` vouches for the manifest that is there."""
    success, data = store.read_bytes(SUCCESS), store.read_bytes(MANIFEST)
    return success is not None and data is not None and success.decode("ascii", "replace") == success_line(data)


def success_line(manifest: bytes) -> str:
    """The content of ``_SUCCESS``."""
    return hashlib.sha256(manifest).hexdigest() + "\n"
