"""Several ranks on one DIR: which rank this process is, and which parts of which shards are its own.

The split is a function of the input and of the number of ranks alone. Every rank computes all of it and takes its
own, so nobody has to tell anybody anything. It does not look at what is done already: ranks that begin at different
moments would see different things, and parts would be left to nobody.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchsent.errors import UsageError

WORLD_SIZE = "BATCHSENT_WORLD_SIZE"
"""How many ranks there are, where JOB_COMPLETION_INDEX (Kubernetes) says only which one this is."""


@dataclass(frozen=True)
class Share:
    """Which of how many ranks; a run by itself is the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = None
    """Which of the ranks of this machine, and so which of its GPUs; None where nobody says so."""
    local_world_size: int = 1
    """Ranks on this machine, as far as is known: they share its processors."""

    @property
    def is_whole(self) -> bool:
        """Whether there are no other ranks."""
        return self.world_size == 1

    def __str__(self) -> str:
        return f"rank {self.rank}/{self.world_size}"


ALONE = Share()


def share_from(environment: Mapping[str, str]) -> Share:
    """Which rank this process is, as torchrun or a Kubernetes Indexed Job says it; ALONE if neither does.

    Raises UsageError if what they say cannot be.
    """
    launched = [name for name in ("RANK", "WORLD_SIZE") if name in environment]
    if launched and WORLD_SIZE in environment:
        raise UsageError(
            f"{' and '.join([*launched, WORLD_SIZE])} are set",
            "one of them to say how many ranks there are",
            f"unset {WORLD_SIZE} under torchrun (its --nnodes counts the machines)",
        )
    if launched:
        return _launched(environment)
    if "JOB_COMPLETION_INDEX" in environment or WORLD_SIZE in environment:
        return _indexed(environment)
    return ALONE


def _launched(environment: Mapping[str, str]) -> Share:
    """What torchrun sets for each process, on one machine or several."""
    world_size = _count(environment, "WORLD_SIZE")
    rank = _index(environment, "RANK", "WORLD_SIZE", world_size)
    if "LOCAL_RANK" not in environment:  # another launcher, which need not say what is on this machine
        return Share(rank, world_size)
    local_world_size = _count(environment, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else world_size
    local_rank = _index(environment, "LOCAL_RANK", "LOCAL_WORLD_SIZE", local_world_size)
    return Share(rank, world_size, local_rank, local_world_size)


def _indexed(environment: Mapping[str, str]) -> Share:
    """A pod of an Indexed Job: Kubernetes says which one, the job's author how many there are."""
    if WORLD_SIZE not in environment:
        raise UsageError(
            f"JOB_COMPLETION_INDEX is set and {WORLD_SIZE} is not",
            "both, for a pod of an Indexed Job",
            f"set {WORLD_SIZE} to the Job's completions, or to 1 if each of its pods is a run by itself",
        )
    world_size = _count(environment, WORLD_SIZE)
    if world_size == 1:
        return ALONE
    return Share(_index(environment, "JOB_COMPLETION_INDEX", WORLD_SIZE, world_size), world_size)


def _count(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name)
    if value is None:
        raise UsageError(f"RANK is set and {name} is not", "both, as torchrun sets them", "set it, or unset RANK")
    if not _is_number(value) or int(value) < 1:
        raise UsageError(f"{name} is {value!r}", "how many ranks there are, 1 or more", "set it so, or unset it")
    return int(value)


def _index(environment: Mapping[str, str], name: str, count_name: str, count: int) -> int:
    value = environment.get(name)
    if value is None:
        raise UsageError(
            f"{count_name} is set and {name} is not", "both: how many ranks, and which one", "set it, or unset both"
        )
    if not _is_number(value) or int(value) >= count:
        raise UsageError(
            f"{name} is {value!r} where {count_name} is {count}",
            f"a number from 0 to {count - 1}",
            "set them alike in all ranks",
        )
    return int(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


# --- who does what


@dataclass(frozen=True)
class ShardCost:
    """What a shard costs, and in how many pieces that can be had."""

    cost: int
    """In bytes of text, about; only how it compares with that of other shards counts."""
    part_count: int | None
    """Parts that any rank finds by itself; None where a shard has to be read from its beginning."""


Parts = range | None
"""Indices of a shard's parts; None stands for all of them, however many there are."""


def split(shards: Sequence[ShardCost], world_size: int) -> list[dict[int, Parts]]:
    """For each rank: index of a shard → which of its parts are that rank's. Every part is in exactly one share.

    Shards stay whole as far as that leaves the shares even, the largest dealt first: whoever scores a part has to read
    and hash the whole file before. The parts of the others, in runs as long as possible, level out the rest. So no
    share is further from an even one than a part costs; a file that cannot be cut may of course be more than that.
    """
    shares: list[dict[int, Parts]] = [{} for _ in range(world_size)]
    even = -(-sum(shard.cost for shard in shards) // world_size)
    loads = [(0, rank) for rank in range(world_size)]  # a heap: the least loaded first, of equal ones the lowest rank
    cut: list[int] = []
    # What cannot be cut comes first: it is what the others level out.
    for index in sorted(range(len(shards)), key=lambda i: (shards[i].part_count is not None, -shards[i].cost, i)):
        shard, (load, rank) = shards[index], loads[0]
        if shard.part_count is not None and load + shard.cost > even:
            cut.append(index)
            continue
        shares[rank][index] = None
        heapq.heapreplace(loads, (load + shard.cost, rank))
    _level_out(shards, sorted(cut), shares, {rank: load for load, rank in loads})
    return shares


def _level_out(
    shards: Sequence[ShardCost], cut: list[int], shares: list[dict[int, Parts]], loads: dict[int, int]
) -> None:
    """Deal the parts of the shards ``cut``: one behind the other, they are cut into a run for each rank."""
    total = sum(shards[index].cost for index in cut)
    level = _level(sorted(loads.values()), total)
    begin = 0
    for rank, share in enumerate(shares):
        end = min(total, begin + max(0, level - loads[rank]))
        before = 0
        for index in cut:
            first, stop = (_part_at(shards[index], place - before) for place in (begin, end))
            if first < stop:
                share[index] = range(first, stop)
            before += shards[index].cost
        begin = end


def _level(loads: list[int], total: int) -> int:
    """Up to where ``total``, poured over ``loads`` (ascending), fills them up, rounded up."""
    count = 1
    while count < len(loads) and sum(loads[:count]) + total > count * loads[count]:
        count += 1
    return -(-(sum(loads[:count]) + total) // count)


def _part_at(shard: ShardCost, place: int) -> int:
    """The part whose beginning is nearest to ``place`` in the shard's cost."""
    count = shard.part_count or 0
    if place <= 0:
        return 0
    if place >= shard.cost:
        return count
    return (2 * place * count + shard.cost) // (2 * shard.cost)
