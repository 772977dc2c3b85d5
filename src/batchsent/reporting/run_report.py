"""What happened in one run: counted while it goes, written to ``runs/<id>.json``, returned by ``batchsent.score``."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from batchsent.checkpoint import RUNS, Manifest
from batchsent.identity import SCHEMA_VERSION, Identity
from batchsent.records import EncodedPart, Part, Predictions, ScoredPart
from batchsent.reporting.logs import new_run_id
from batchsent.schema import REASON, value_counts
from batchsent.stores import Store

State = Literal[
    "running", "published", "share done", "nothing to do", "not published", "held back", "stopped", "failed"
]

_LIBRARIES = ("batchsent", "torch", "transformers", "tokenizers", "safetensors", "pyarrow", "numpy", "huggingface-hub")


_COUNTS = (
    "record_count",
    "row_count",
    "token_count",
    "padding_count",
    "unknown_token_count",
    "distinct_text_count",
    "part_count",
    "split_count",
    "rerun_count",
    "committed_bytes",
)


TIMELINE_POINTS = 200


def library_versions(*more: str) -> dict[str, str]:
    """Versions of what decides the numbers and the bytes, and of ``more``, without importing any of it."""
    versions = {"python": platform.python_version()}
    for name in (*_LIBRARIES, *more):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@dataclass
class StageSeconds:
    """Time spent in each stage. Reading and tokenizing run beside the forward passes, in other processes."""

    reading: float = 0.0
    tokenizing: float = 0.0
    forward: float = 0.0
    writing: float = 0.0


@dataclass
class RunReport:
    """One run's own work, and what DIR holds at its end."""

    run_id: str = field(default_factory=new_run_id)
    state: State = "running"
    message: str = ""
    """The error that ended the run, if one did; of a share that is done, what is still missing."""
    rank: int = 0
    world_size: int = 1
    """Ranks that share the work; 1 for a run by itself."""
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seconds: float = 0.0
    """Wall time of the whole run."""
    scoring_seconds: float = 0.0
    """Wall time from the first part's tokens to the last commit: start-up excluded."""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    device: str = ""
    model: str = ""
    precision: str = ""
    """This and the model as ``config.json`` has them, once there is one."""
    versions: dict[str, str] = field(default_factory=library_versions)
    inputs: list[str] = field(default_factory=list)
    """INPUT..., as absolute paths and URIs."""

    record_count: int = 0
    """Records committed by this run."""
    row_count: int = 0
    reject_counts: dict[str, int] = field(default_factory=dict)
    token_count: int = 0
    """Tokens in the batches, padding not counted; identical texts count once."""
    padding_count: int = 0
    unknown_token_count: int = 0
    distinct_text_count: int = 0
    part_count: int = 0
    split_count: int = 0
    """Batches halved because the device ran out of memory."""
    rerun_count: int = 0
    """Texts run again in fp32."""
    stage_seconds: StageSeconds = field(default_factory=StageSeconds)
    timeline: list[tuple[float, int]] = field(default_factory=list)
    """(seconds of scoring, records committed by then), at most TIMELINE_POINTS of them."""

    shard_count: int = 0
    kept_shard_count: int = 0
    """Shards that earlier runs had finished."""
    finished_shard_count: int = 0
    """These and those that were finished since, as far as this process has seen."""
    failed_shards: dict[str, str] = field(default_factory=dict)
    input_bytes: int = 0
    share_bytes: int | None = None
    """Of the input: what is this rank's; None where there are no others."""
    committed_bytes: int = 0
    """Of the input: what the parts cover that this run committed."""
    kept_bytes: int = 0
    """Of the input: what earlier runs had committed."""
    totals: dict[str, Any] = field(default_factory=dict)
    """What the manifest counts in the whole of DIR, once it is written."""
    manifest_sha256: str = ""
    """Of that manifest."""
    drift: dict[str, Any] = field(default_factory=dict)
    """From which baseline, with which limit, and how far; empty without one."""
    audit: dict[str, Any] = field(default_factory=dict)
    """What the manifest holds of an audit; empty without one."""
    plan: dict[str, Any] = field(default_factory=dict)
    """What was planned for this run: seconds, low, high, planned_at; empty where nothing was."""
    _timeline_gap: float = 0.0
    _warned: bool = False

    @property
    def padding_share(self) -> float:
        """Of all token positions that went through the model."""
        positions = self.token_count + self.padding_count
        return self.padding_count / positions if positions else 0.0

    @property
    def own_bytes(self) -> int:
        """Of the input: what is this run's to do."""
        return self.input_bytes if self.share_bytes is None else self.share_bytes

    @property
    def rows_per_second(self) -> float:
        """Records committed per second of scoring."""
        return self.record_count / self.scoring_seconds if self.scoring_seconds > 0 else 0.0

    @property
    def reject_count(self) -> int:
        """Records of this run without a prediction."""
        return sum(self.reject_counts.values())

    @property
    def done_bytes(self) -> int:
        """Of the input: what is committed."""
        return self.kept_bytes + self.committed_bytes

    def settle(self, identity: Identity) -> None:
        """The settings of DIR are known."""
        self.model, self.precision = identity.model, identity.precision

    def end(self, state: State, message: str = "") -> None:
        """The run is over."""
        self.state, self.message = state, message

    def count_kept(self, size_bytes: int, *, finished: bool) -> None:
        """Input that earlier runs had committed."""
        self.kept_shard_count += finished
        self.kept_bytes += size_bytes

    def count_scored(self, part: Part, encoded: EncodedPart, predictions: Predictions) -> None:
        """A part is read, tokenized and through the model; what is still on its way counts for nothing."""
        self.token_count += len(encoded.token_ids)
        self.padding_count += encoded.padding_count
        self.unknown_token_count += encoded.unknown_token_count
        self.distinct_text_count += len(encoded.token_counts)
        self.split_count += predictions.split_count
        self.rerun_count += predictions.rerun_count
        self.stage_seconds.reading += part.read_seconds
        self.stage_seconds.tokenizing += encoded.encode_seconds
        self.stage_seconds.forward += predictions.forward_seconds

    def unknown_tokens_exceed(self, limit: float) -> bool:
        """True once: when the share of unknown tokens is first seen above ``limit``."""
        if self._warned or self.unknown_token_count <= limit * self.token_count:
            return False
        self._warned = True
        return True

    def count_committed(self, part: ScoredPart, size_bytes: int) -> None:
        """A part is durable; ``size_bytes`` of the input are done with it."""
        rejects = value_counts(part.table.column(REASON))
        self.part_count += 1
        self.record_count += part.table.num_rows
        self.row_count += part.table.num_rows - sum(rejects.values())
        for reason, count in rejects.items():
            self.reject_counts[reason] = self.reject_counts.get(reason, 0) + count
        self.committed_bytes += size_bytes

    def count_all(self, manifest: Manifest) -> None:
        """Everything in DIR is finished, or has failed."""
        self.finished_shard_count = len(manifest.shards)
        self.totals = manifest.totals()
        self.audit = asdict(manifest.audit) if manifest.audit else {}
        self.manifest_sha256 = hashlib.sha256(manifest.to_json()).hexdigest()

    def mark(self) -> None:
        """Note how far the run is by now."""
        if self.timeline and self.scoring_seconds - self.timeline[-1][0] < self._timeline_gap:
            return
        if len(self.timeline) == TIMELINE_POINTS:
            self.timeline = self.timeline[1::2]
            self._timeline_gap = self.timeline[-1][0] / len(self.timeline)
        self.timeline.append((round(self.scoring_seconds, 3), self.record_count))

    def copy(self) -> RunReport:
        """As it is now, while other threads count on."""
        return replace(
            self,
            reject_counts=self.reject_counts.copy(),
            failed_shards=self.failed_shards.copy(),
            timeline=self.timeline.copy(),
            stage_seconds=replace(self.stage_seconds),
        )

    def add_up(self, others: Sequence[RunReport]) -> None:
        """Take over what replicas have counted, which is all that was scored."""
        for name in _COUNTS:
            setattr(self, name, sum(getattr(other, name) for other in others))
        self.reject_counts = dict(sum((Counter(other.reject_counts) for other in others), Counter()))
        self.stage_seconds = StageSeconds(
            *(sum(getattr(other.stage_seconds, f.name) for other in others) for f in fields(StageSeconds))
        )
        self.scoring_seconds = max((other.scoring_seconds for other in others), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_")}

    def save(self, store: Store) -> None:
        """Write ``runs/<id>.json``."""
        content = {"schema_version": SCHEMA_VERSION, "updated_at": datetime.now(UTC).isoformat(timespec="seconds")}
        data = json.dumps(content | self.to_dict(), indent=1, ensure_ascii=False)
        store.publish_bytes(f"{RUNS}/{self.run_id}.json", data.encode() + b"\n")
