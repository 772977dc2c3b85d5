"""A run on many replicas as a discrete-event model: who waits for whom, and for how long.

A replica is a chain of processes with short queues between them, as in ``docs/architecture.md``: a reader, tokenizers,
a device, a commit thread. Replicas of one machine share its processors; those of one run share its parts, by the very
function that a run splits them with. What each step takes comes from :class:`Costs`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import simpy

from batchsent.shares import Parts, ShardCost, split

QUEUE_PARTS = 2
"""Between two steps of a replica."""
SLICE_SECONDS = 0.05
"""A processor goes round among those that want it."""

Steps = Generator[simpy.Event, Any, Any]


@dataclass(frozen=True)
class PerPart:
    """What a step takes of a part, in seconds."""

    part: float
    row: float
    """Of each row, beside that."""

    def of(self, rows: float) -> float:
        """A part of so many rows."""
        return self.part + self.row * rows


@dataclass(frozen=True)
class Costs:
    """What each step takes, in seconds; of processor time, unless it says that it only waits."""

    start: float
    """A process, until it looks at DIR: imports."""
    start_waiting: float
    load_model: float
    """Until the first forward pass, beside the first parts' tokenizing; only waits."""
    inspect_shard: float
    open_shard: float
    read: PerPart
    tokenize: PerPart
    device_row: float
    """Only waits: the device is nobody else's."""
    main: PerPart
    """In the main process beside the device: order restored, batches handed over."""
    commit: PerPart
    commit_part_waiting: float
    """For the disk, or the store."""
    merge: PerPart
    """Of each part of a shard, by whoever commits its last one."""
    publish_shard: float
    publish_shard_waiting: float
    look_shard: float
    """At the end, by the last replica, of each shard."""
    manifest: float
    clear_part: float
    end: float
    """A process, from the last look to its end."""
    dispatch: float = 0.0
    """Of a piece, by the process that hands them out."""
    spread: float = 0.0
    """Of the time that parts of one size take: standard deviation over mean."""


@dataclass(frozen=True)
class Input:
    """Shards of one size."""

    shards: int
    rows_per_shard: int
    rows_per_part: int

    @property
    def parts_per_shard(self) -> int:
        """The last one may be short; it counts as a whole one."""
        return -(-self.rows_per_shard // self.rows_per_part)

    @property
    def rows(self) -> int:
        """In all."""
        return self.shards * self.rows_per_shard


@dataclass(frozen=True)
class Cluster:
    """Who works."""

    replicas: int
    tokenizers: int
    cores: int | None = None
    """That all replicas share; None where each has as many as it has processes."""
    is_device_ahead: bool = False
    """It computes the next batches while the main process sees to the last, as a GPU does; else they take turns."""
    looks_at_once: int = 1
    """At shards, by the last replica: an object store answers many requests at a time."""
    pieces: int | None = None
    """None: each replica has its share from the beginning (ranks). Otherwise pieces of so many parts are handed out."""


@dataclass
class Outcome:
    """What became of it."""

    seconds: float = 0.0
    device_seconds: float = 0.0
    """Of all replicas together."""
    first_part_seconds: float = 0.0
    """Until every replica has had something on its device."""
    last_part_seconds: float = 0.0
    """When the last part was committed: what comes then is one process's work."""
    idle_seconds: float = 0.0
    """Of all devices between their first and their last part."""
    efficiency: float = field(init=False, default=0.0)


def simulate(costs: Costs, source: Input, cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Run it once."""
    run = _Run(costs, source, cluster, random.Random(seed))
    run.environment.run()
    run.outcome.efficiency = run.outcome.device_seconds / (cluster.replicas * run.outcome.seconds)
    return run.outcome


class _Run:
    def __init__(self, costs: Costs, source: Input, cluster: Cluster, chooser: random.Random) -> None:
        self.environment = simpy.Environment()
        self.costs, self.source, self.cluster, self.chooser = costs, source, cluster, chooser
        cores = cluster.cores
        self.cores = None if cores is None else simpy.Resource(self.environment, cores)
        self.driver = simpy.Resource(self.environment, 1)
        self.outcome = Outcome()
        self.parts_left = [source.parts_per_shard] * source.shards
        self.replicas_left = cluster.replicas
        self.firsts: list[float] = []
        shares = _shares(source, 1 if cluster.pieces else cluster.replicas)
        if cluster.pieces:
            everything = list(shares[0])
            size = cluster.pieces
            self.queue = deque(everything[first : first + size] for first in range(0, len(everything), size))
        for rank in range(cluster.replicas):
            self.environment.process(self._replica(shares[rank] if not cluster.pieces else iter(())))

    # --- a replica

    def _replica(self, share: Iterator[int]) -> Steps:
        costs, environment = self.costs, self.environment
        yield from self._busy(costs.start)
        yield environment.timeout(costs.start_waiting)
        if not self.cluster.pieces:
            yield from self._busy(costs.inspect_shard * self.source.shards)
        read, encoded, scored = (simpy.Store(environment, QUEUE_PARTS) for _ in range(3))
        work = [
            environment.process(self._read(share, read)),
            *(environment.process(self._tokenize(read, encoded)) for _ in range(self.cluster.tokenizers)),
            environment.process(self._compute(encoded, scored)),
            environment.process(self._commit(scored)),
        ]
        yield simpy.AllOf(environment, work)
        self.outcome.last_part_seconds = environment.now
        self.replicas_left -= 1
        if not self.replicas_left:
            yield from self._publish()
        yield from self._busy(costs.end)
        self.outcome.seconds = max(self.outcome.seconds, environment.now)

    def _read(self, share: Iterator[int], to: simpy.Store) -> Steps:
        last = -1
        for shard in share if not self.cluster.pieces else ():
            last = yield from self._read_part(shard, last, to)
        while self.cluster.pieces and self.queue:
            piece = self.queue.popleft()
            with self.driver.request() as turn:
                yield turn
                yield self.environment.timeout(self.costs.dispatch)
            for shard in piece:
                last = yield from self._read_part(shard, last, to)
        for _ in range(self.cluster.tokenizers):
            yield to.put(None)

    def _read_part(self, shard: int, last: int, to: simpy.Store) -> Steps:
        rows = self.source.rows_per_part
        if shard != last:
            yield from self._busy(self.costs.open_shard)
        yield from self._busy(self.costs.read.of(rows))
        factor = max(0.2, self.chooser.gauss(1.0, self.costs.spread)) if self.costs.spread else 1.0
        yield to.put((shard, rows * factor))
        return shard

    def _tokenize(self, source: simpy.Store, to: simpy.Store) -> Steps:
        while (part := (yield source.get())) is not None:
            yield from self._busy(self.costs.tokenize.of(part[1]))
            yield to.put(part)
        yield to.put(None)

    def _compute(self, source: simpy.Store, to: simpy.Store) -> Steps:
        environment, costs = self.environment, self.costs
        loaded, open_tokenizers, before = environment.timeout(costs.load_model), self.cluster.tokenizers, None
        seeing_to: simpy.Process | None = None
        while open_tokenizers:
            part = yield source.get()
            if part is None:
                open_tokenizers -= 1
                continue
            if before is None:
                yield loaded
                self.firsts.append(environment.now)
                self.outcome.first_part_seconds = environment.now
            else:
                self.outcome.idle_seconds += environment.now - before
            yield environment.timeout(costs.device_row * part[1])
            self.outcome.device_seconds += costs.device_row * part[1]
            before = environment.now
            if seeing_to is not None:
                yield seeing_to
            seeing_to = environment.process(self._busy(costs.main.of(part[1])))
            if not self.cluster.is_device_ahead:
                yield seeing_to
                before = environment.now
            yield to.put(part)
        yield to.put(None)

    def _commit(self, source: simpy.Store) -> Steps:
        costs = self.costs
        while (part := (yield source.get())) is not None:
            yield from self._busy(costs.commit.of(part[1]))
            yield self.environment.timeout(costs.commit_part_waiting)
            self.parts_left[part[0]] -= 1
            if not self.parts_left[part[0]]:
                merged = self.source.parts_per_shard * costs.merge.of(self.source.rows_per_part)
                yield from self._busy(costs.publish_shard + merged)
                yield self.environment.timeout(costs.publish_shard_waiting)

    # --- the end

    def _publish(self) -> Steps:
        costs, source = self.costs, self.source
        yield from self._busy(costs.look_shard * source.shards / self.cluster.looks_at_once)
        yield from self._busy(costs.manifest)
        yield from self._busy(costs.clear_part * source.shards * source.parts_per_shard)

    def _busy(self, seconds: float) -> Steps:
        """Have a processor for so long in all."""
        if self.cores is None:
            yield self.environment.timeout(seconds)
            return
        while seconds > 0:
            with self.cores.request() as turn:
                yield turn
                slice_seconds = min(seconds, SLICE_SECONDS)
                yield self.environment.timeout(slice_seconds)
            seconds -= slice_seconds


def _shares(source: Input, count: int) -> list[Iterator[int]]:
    """For each of ``count`` ranks the shard of each of its parts, in the order in which it does them."""
    cost = ShardCost(source.rows_per_shard, source.parts_per_shard)
    return [_in_order(share, range(source.parts_per_shard)) for share in split([cost] * source.shards, count)]


def _in_order(share: dict[int, Parts], whole: range) -> Iterator[int]:
    for shard, parts in sorted(share.items()):
        for _ in whole if parts is None else parts:
            yield shard
