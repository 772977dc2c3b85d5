"""The model of a run on many replicas, where what comes out can be said beforehand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling_model import Cluster, Costs, Input, Outcome, PerPart, simulate

NOTHING = PerPart(0.0, 0.0)
FREE = Costs(
    start=0.0,
    start_waiting=0.0,
    load_model=0.0,
    inspect_shard=0.0,
    open_shard=0.0,
    read=NOTHING,
    tokenize=NOTHING,
    device_row=0.001,
    main=NOTHING,
    commit=NOTHING,
    commit_part_waiting=0.0,
    merge=NOTHING,
    publish_shard=0.0,
    publish_shard_waiting=0.0,
    look_shard=0.0,
    manifest=0.0,
    clear_part=0.0,
    end=0.0,
)
SOURCE = Input(shards=8, rows_per_shard=1_000, rows_per_part=100)


def simulated(cluster: Cluster, **costs: float | PerPart) -> Outcome:
    return simulate(replace(FREE, **costs), SOURCE, cluster)  # type: ignore[arg-type]  # each of its kind


@pytest.mark.parametrize("pieces", [None, 1, 2])
@pytest.mark.parametrize("replicas", [1, 2, 4, 8, 20])
def test_where_only_the_device_takes_time_it_is_shared_out(replicas: int, pieces: int | None) -> None:
    outcome = simulated(Cluster(replicas, tokenizers=2, pieces=pieces))
    assert outcome.seconds == pytest.approx(8.0 / replicas)
    assert outcome.device_seconds == pytest.approx(8.0)
    assert outcome.efficiency == pytest.approx(1.0)


def test_tokenizers_that_are_too_few_decide() -> None:
    few = simulated(Cluster(2, tokenizers=1), tokenize=PerPart(0.0, 0.002))
    assert few.seconds == pytest.approx(8.0 + 0.1, abs=0.11), (
        "the first part's tokenizing, or the last one's forward pass"
    )
    enough = simulated(Cluster(2, tokenizers=3), tokenize=PerPart(0.0, 0.002))
    assert enough.seconds == pytest.approx(4.0 + 0.2, abs=0.11)


def test_replicas_share_the_cores_that_there_are() -> None:
    outcome = simulated(Cluster(4, tokenizers=1, cores=2), tokenize=PerPart(0.0, 0.002))
    assert outcome.seconds == pytest.approx(8.0, abs=0.3), "16 s of tokenizing on two cores"
    assert simulated(Cluster(4, tokenizers=1, cores=2), start=3.0).seconds == pytest.approx(6.0 + 2.0, abs=0.1)


def test_a_device_ahead_does_not_wait_for_the_main_process() -> None:
    assert simulated(Cluster(1, tokenizers=1), main=PerPart(0.0, 0.0005)).seconds == pytest.approx(12.0)
    ahead = simulated(Cluster(1, tokenizers=1, is_device_ahead=True), main=PerPart(0.0, 0.0005))
    assert ahead.seconds == pytest.approx(8.0, abs=0.1)
    slow = simulated(Cluster(1, tokenizers=1, is_device_ahead=True), main=PerPart(0.0, 0.002))
    assert slow.seconds == pytest.approx(16.0, abs=0.2), "unless that takes longer"


def test_the_beginning_and_the_end_are_one_after_the_other() -> None:
    outcome = simulated(
        Cluster(8, tokenizers=1),
        start=1.0,
        start_waiting=2.0,
        load_model=3.0,
        inspect_shard=0.25,
        look_shard=0.5,
        manifest=1.5,
        clear_part=0.05,
        end=0.5,
    )
    assert outcome.first_part_seconds == pytest.approx(1 + 2 + 8 * 0.25 + 3)
    assert outcome.last_part_seconds == pytest.approx(outcome.first_part_seconds + 1.0)
    assert outcome.seconds == pytest.approx(outcome.last_part_seconds + 8 * 0.5 + 1.5 + 80 * 0.05 + 0.5)


def test_every_part_is_scored_once_and_the_same_seed_gives_the_same() -> None:
    cluster = Cluster(3, tokenizers=4, pieces=2)
    one = simulate(replace(FREE, spread=0.3, dispatch=0.01), SOURCE, cluster, seed=1)
    assert one == simulate(replace(FREE, spread=0.3, dispatch=0.01), SOURCE, cluster, seed=1)
    assert one != simulate(replace(FREE, spread=0.3, dispatch=0.01), SOURCE, cluster, seed=2)
    assert one.device_seconds == pytest.approx(8.0, rel=0.1)
