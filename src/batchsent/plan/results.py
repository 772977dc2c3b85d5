"""What a plan says, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Between:
    """A number that is estimated: 19 times of 20 it should lie between ``low`` and ``high``."""

    expected: float
    low: float
    high: float

    @property
    def is_exact(self) -> bool:
        """Whether it was counted."""
        return self.low == self.high


@dataclass(frozen=True)
class Kept:
    """What a resume would skip."""

    shard_count: int = 0
    """Finished."""
    record_count: int = 0
    size_bytes: int = 0
    """Of the input, counted as a run counts what it keeps."""
    assumed_shard_count: int = 0
    """Finished, if their content is what it was: only their size was looked at."""
    unknown_bytes: int = 0
    """Of shards whose hash is not remembered: a run hashes them before it knows what of them it may keep."""


@dataclass(frozen=True)
class Texts:
    """What is left to be scored, its texts as the sample has them."""

    record_count: Between
    token_count: float
    """Of the distinct texts: what the model reads, padding left out."""
    mean_tokens: float
    """Of a record that can be scored."""
    length_counts: tuple[int, ...]
    """Records by tokens, in the bins of ``distributions.LENGTH_EDGES``, as the manifest will have them."""
    rejected_share: float
    """Of the records."""
    truncated_share: float
    """Of the records that can be scored."""
    duplicate_share: float
    """Of them: those whose text is scored already, because it stands before in the same part."""
    unknown_token_share: float
    padding_share: float
    """Of all positions that are computed."""
    part_count: int
    pass_count: int


@dataclass(frozen=True)
class Sample:
    """What the estimates rest on."""

    text_count: int = 0
    stretch_count: int = 0
    shard_count: int = 0
    pass_count: int = 0
    pass_seconds: float = 0.0
    is_whole: bool = False
    """Every record that is left was read."""
    is_beginning: bool = False
    """Some shards could be read only from where a run would begin."""
    length_error: float = 0.0
    """Standard error of the work in a record, as a share of it."""
    timing_error: float = 0.0
    """The same, of the time that a pass takes."""


@dataclass(frozen=True)
class Memory:
    """Peak bytes of the processes of a run: what this one took at the same work."""

    job_bytes: int
    reader_bytes: int
    tokenizer_bytes: int
    """Of each."""
    tokenizer_count: int
    device_bytes: int = 0
    """On a GPU."""

    @property
    def total_bytes(self) -> int:
        """Of all processes; they share some of it, so all together take less."""
        return self.job_bytes + self.reader_bytes + self.tokenizer_count * self.tokenizer_bytes


@dataclass(frozen=True)
class Plan:
    """What ``batchsent score`` would do with these options, here and now."""

    key: str
    """Of settings, device and input: by which a run finds what was planned for it."""
    model: str
    backend: str
    precision: str
    batching: str
    device: str
    threads: int
    batch_tokens: int
    rows_per_part: int
    max_length: int
    shard_count: int
    input_bytes: int
    kept: Kept
    seconds: Between
    """Of the whole run, from its start to ``_SUCCESS``."""
    startup_seconds: float
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Each stage's own, were it alone; they run side by side."""
    failed_shards: dict[str, str] = field(default_factory=dict)
    """Shards that cannot be read, and why."""
    texts: Texts | None = None
    """None if nothing is left to be scored."""
    memory: Memory | None = None
    output_bytes: int = 0
    """That DIR will take while parts and shard files lie side by side, roughly."""
    free_bytes: int | None = None
    """There; None where it is not known."""
    sample: Sample = Sample()
    is_published: bool = False
    """``_SUCCESS`` is there, for shards of just these names, and as many rows as asked for were audited."""
    is_held: bool = False
    """A run is at DIR now."""
    load: float = 0.0
    """Processes that wanted a processor in the minute before, others' among them."""
    cores: int = 1
    """Processors that a run may use."""
    replicas: tuple[int, ...] = ()
    """How many devices were asked for: one number, or the fewest and the most."""

    audit: int = 0
    """Rows that will be scored again, which is not in ``seconds``."""

    @property
    def is_done(self) -> bool:
        """Whether a run would find nothing to do."""
        return self.is_published and self.kept.shard_count == self.shard_count

    @property
    def device_hours(self) -> float:
        """Of one device: the GPU-hours, or those of the machine."""
        return self.seconds.expected / 3600

    def seconds_on(self, devices: int) -> Between:
        """On several, each with a start-up of its own and its share of the rest."""

        def shared(seconds: float) -> float:
            return self.startup_seconds + max(0.0, seconds - self.startup_seconds) / devices

        return Between(shared(self.seconds.expected), shared(self.seconds.low), shared(self.seconds.high))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"device_hours": self.device_hours, "is_done": self.is_done}
