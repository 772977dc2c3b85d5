"""Which rank a process is, and that every part of every shard is in exactly one share, evenly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.errors import UsageError
from batchsent.shares import ALONE, Parts, ShardCost, Share, share_from, split

CUTTABLE = st.builds(ShardCost, st.integers(1, 10_000), st.integers(1, 60))
WHOLE = st.builds(ShardCost, st.integers(1, 10_000), st.none())
WORLD_SIZES = st.integers(1, 12)


def parts_of(shard: ShardCost, parts: Parts) -> range:
    """A file that cannot be cut counts as one part."""
    return range(shard.part_count or 1) if parts is None else parts


def loads(shards: list[ShardCost], world_size: int) -> list[float]:
    return [
        sum(
            shards[i].cost * len(parts_of(shards[i], parts)) / (shards[i].part_count or 1) for i, parts in share.items()
        )
        for share in split(shards, world_size)
    ]


@given(st.lists(st.one_of(CUTTABLE, WHOLE), max_size=40), WORLD_SIZES)
@settings(max_examples=500, deadline=None)
def test_every_part_is_in_exactly_one_share(shards: list[ShardCost], world_size: int) -> None:
    shares = split(shards, world_size)
    assert len(shares) == world_size
    found = sorted((i, part) for share in shares for i, parts in share.items() for part in parts_of(shards[i], parts))
    assert found == [(i, part) for i, shard in enumerate(shards) for part in range(shard.part_count or 1)]
    assert all(len(parts_of(shards[i], parts)) > 0 for share in shares for i, parts in share.items())


@given(st.lists(CUTTABLE, min_size=1, max_size=40), WORLD_SIZES)
@settings(max_examples=500, deadline=None)
def test_no_share_is_further_from_an_even_one_than_a_part(shards: list[ShardCost], world_size: int) -> None:
    even = sum(shard.cost for shard in shards) / world_size
    part = max(shard.cost / (shard.part_count or 1) for shard in shards)
    rounding = world_size  # the even share is a whole number
    assert all(abs(load - even) <= part + rounding for load in loads(shards, world_size))


@given(st.lists(WHOLE, min_size=1, max_size=40), WORLD_SIZES)
@settings(max_examples=300, deadline=None)
def test_files_that_cannot_be_cut_differ_by_a_file_at_most(shards: list[ShardCost], world_size: int) -> None:
    found = loads(shards, world_size)
    assert max(found) - min(found) <= max(shard.cost for shard in shards)


@given(st.lists(WHOLE, max_size=10), st.lists(CUTTABLE, min_size=1, max_size=10), WORLD_SIZES)
@settings(max_examples=300, deadline=None)
def test_what_can_be_cut_levels_out_what_cannot(
    files: list[ShardCost], shards: list[ShardCost], world_size: int
) -> None:
    before = loads([*files, ShardCost(1, None)], world_size)
    after = loads([*files, *shards], world_size)
    part = max(shard.cost / (shard.part_count or 1) for shard in shards)
    even = sum(shard.cost for shard in (*files, *shards)) / world_size
    assert max(after) <= max(max(before), even) + part + world_size
    if max(before) <= even:
        assert all(abs(load - even) <= part + world_size for load in after)


def test_ten_thousand_shards_of_a_part_each() -> None:
    shares = split([ShardCost(1000, 1)] * 10_000, 8)
    assert [len(share) for share in shares] == [1250] * 8


def test_one_giant_shard_is_cut_into_a_run_for_each_rank() -> None:
    shares = split([ShardCost(20 << 30, 6104)], 8)
    assert [share[0] for share in shares] == [range(763 * rank, 763 * (rank + 1)) for rank in range(8)]


def test_a_shard_stays_whole_where_that_is_even() -> None:
    shares = split([ShardCost(100, 10), ShardCost(100, 10), ShardCost(50, 5), ShardCost(50, 5)], 2)
    assert shares == [{0: None, 2: None}, {1: None, 3: None}]


def test_giant_and_small_together() -> None:
    shards = [ShardCost(1_000_000, 500), *[ShardCost(2_000, 1)] * 1_000]
    found = loads(shards, 4)
    assert max(found) - min(found) <= 2 * 2_000
    assert all(set(parts_of(shards[0], share[0])) for share in split(shards, 4) if 0 in share)


def test_more_ranks_than_parts() -> None:
    shares = split([ShardCost(30, 3)], 8)
    assert sum(len(share) for share in shares) == 3


# --- the environment

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({}, ALONE),
        ({"LOCAL_RANK": "3"}, ALONE),
        (TORCHRUN, Share(5, 16, 1, 4)),
        (TORCHRUN | {"JOB_COMPLETION_INDEX": "1"}, Share(5, 16, 1, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Share(1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, Share(0, 1, 0, 1)),
        ({"JOB_COMPLETION_INDEX": "3", "BATCHSENT_WORLD_SIZE": "4"}, Share(3, 4)),
        ({"JOB_COMPLETION_INDEX": "3", "BATCHSENT_WORLD_SIZE": "1"}, ALONE),
    ],
)
def test_what_a_launcher_says(environment: dict[str, str], share: Share) -> None:
    assert share_from(environment) == share


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "0"}, "RANK is set and WORLD_SIZE is not; expected both"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is set and RANK is not; expected both"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is '2' where WORLD_SIZE is 2; expected a number from 0 to 1"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1' where"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK is '' where"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; expected how many ranks there are"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        (TORCHRUN | {"LOCAL_RANK": "4"}, "LOCAL_RANK is '4' where LOCAL_WORLD_SIZE is 4"),
        (TORCHRUN | {"BATCHSENT_WORLD_SIZE": "16"}, "RANK and WORLD_SIZE and BATCHSENT_WORLD_SIZE are set"),
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETION_INDEX is set and BATCHSENT_WORLD_SIZE is not"),
        ({"BATCHSENT_WORLD_SIZE": "2"}, "BATCHSENT_WORLD_SIZE is set and JOB_COMPLETION_INDEX is not"),
        ({"JOB_COMPLETION_INDEX": "2", "BATCHSENT_WORLD_SIZE": "2"}, "JOB_COMPLETION_INDEX is '2'"),
    ],
)
def test_what_cannot_be_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        share_from(environment)
    assert str(caught.value).startswith(said)
    assert str(caught.value).count("; ") == 2
