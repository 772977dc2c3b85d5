"""What runs in each actor of a cluster, here in this process: pieces in, committed parts and outcomes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.checkpoint import finished_among, load_manifest
from batchsent.config import ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import begin
from batchsent.engines.replica import Replica, Setup
from batchsent.errors import ModelError
from batchsent.preparation import PARTS_PER_PIECE, inspect_shards, pieces_of
from batchsent.records import Inspection, Shard
from batchsent.reporting.run_report import RunReport
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess
from batchsent.storage import LocalStore
from support import published, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


@pytest.fixture
def source(tmp_path: Path, reviews: Reviews) -> Path:
    """A Parquet shard of sixteen parts, one of two, and a text file of two."""
    texts = reviews(990)
    write_csv(tmp_path / "in/a.csv", texts[:90])
    for name, chosen in (("large", texts[90:890]), ("small", texts[890:])):
        pq.write_table(pa.table({"text": chosen}), tmp_path / f"in/{name}.parquet", row_group_size=90)
    return tmp_path / "in"


def setup_of(source: Path, out: Path, model: Path, *, replica_count: int = 2) -> Setup:
    """As ``job`` makes one."""
    config = ScoreConfig(
        inputs=(str(source),),
        output=str(out),
        model=str(model),
        precision="fp32",
        threads=1,
        backend="torch",
        device="cpu",
        rows_per_part=50,
    )
    store = LocalStore(out)
    store.create()
    shards = plan_shards(config.inputs, store.root)
    with closing(ReaderProcess(lambda: None)) as reader:
        inspections = inspect_shards(reader, shards, config)
    identity = begin(store, config, DigestCache(store).of_model, lambda: None, input_bytes=1)
    left = [inspection for inspection in inspections if inspection.error is None]
    return Setup(config, identity, pieces_of(left, replica_count, rows_per_part=50, limit=None), "run")


@pytest.fixture
def replicas() -> Iterator[Callable[[Setup], Replica]]:
    made: list[Replica] = []

    def make(setup: Setup) -> Replica:
        made.append(Replica(setup, neighbours=1))
        return made[-1]

    yield make
    for replica in made:
        replica.close()


def test_pieces_by_several_calls_of_several_replicas(
    score: Score, source: Path, tmp_path: Path, tiny_model: Path, replicas: Callable[[Setup], Replica]
) -> None:
    whole = score(source, output=tmp_path / "whole")
    setup = setup_of(source, tmp_path / "out", tiny_model)
    assert len(setup.pieces) > 6
    pair = [replicas(setup), replicas(setup)]
    with ThreadPoolExecutor(6) as calls:
        outcomes = list(calls.map(lambda index: pair[index % 2].score(index), range(len(setup.pieces))))
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    last: dict[str, RunReport] = {}
    for outcome in outcomes:
        assert outcome.report is not None
        if outcome.report.part_count >= last.get(outcome.report.run_id, outcome.report).part_count:
            last[outcome.report.run_id] = outcome.report
    assert sum(report.part_count for report in last.values()) == whole.part_count
    together = RunReport()
    together.add_up(list(last.values()))
    assert (together.record_count, together.row_count) == (whole.record_count, whole.row_count)
    assert together.reject_counts == whole.reject_counts
    assert together.token_count == whole.token_count
    assert together.committed_bytes == pytest.approx(whole.committed_bytes, rel=0.05)
    # What is left is to publish: this run finds every shard finished, hashes nothing of what the replicas hashed, and
    # scores nothing.
    assert finished_among(LocalStore(tmp_path / "out"), ["a.csv", "large.parquet", "small.parquet"]) == {
        "a.csv",
        "large.parquet",
        "small.parquet",
    }
    assert score(source, output=tmp_path / "out").part_count == 0
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_a_piece_that_comes_again_is_done_already(
    source: Path, tmp_path: Path, tiny_model: Path, replicas: Callable[[Setup], Replica]
) -> None:
    setup = setup_of(source, tmp_path / "out", tiny_model)
    first = replicas(setup)
    reports = [first.score(index).report for index in (0, 1, 0)]
    assert reports[1] is not None
    assert reports[2] is not None
    assert reports[2].part_count == reports[1].part_count
    other = replicas(setup).score(0).report  # as when the first one's process died right after it committed
    assert other is not None
    assert other.part_count == 0
    assert other.kept_bytes > 0


def test_hashes_are_told_once(
    source: Path, tmp_path: Path, tiny_model: Path, replicas: Callable[[Setup], Replica]
) -> None:
    setup = setup_of(source, tmp_path / "out", tiny_model)
    replica = replicas(setup)
    told = [path for index in range(len(setup.pieces)) for path in replica.score(index).digests]
    assert Counter(told).most_common(1)[0][1] == 1
    assert {str(path) for path in source.iterdir()} <= set(told)
    assert str(tmp_path / "out/large.parquet") in told


def test_a_shard_that_fails_is_said_and_the_others_go_on(
    source: Path, tmp_path: Path, tiny_model: Path, replicas: Callable[[Setup], Replica]
) -> None:
    write_csv(source / "b.csv", ["fine"] * 70)
    with (source / "b.csv").open("a") as file:
        file.write('"a quote that never ends\n')
    setup = setup_of(source, tmp_path / "out", tiny_model, replica_count=1)
    replica = replicas(setup)
    outcomes = [replica.score(index) for index in range(len(setup.pieces))]
    assert all(outcome.error is None for outcome in outcomes)
    assert outcomes[-1].failed.keys() == {"b.csv"}
    names = ["a.csv", "b.csv", "large.parquet", "small.parquet"]
    assert finished_among(LocalStore(tmp_path / "out"), names) == set(names) - {"b.csv"}


def test_what_ends_the_run_is_said_to_every_call(
    source: Path, tmp_path: Path, tiny_model: Path, replicas: Callable[[Setup], Replica]
) -> None:
    setup = setup_of(source, tmp_path / "out", tiny_model)
    (tmp_path / "other").mkdir()
    replica = replicas(
        replace(setup, config=replace(setup.config, model=str(tmp_path / "other")))  # not what was hashed
    )
    with ThreadPoolExecutor(3) as calls:
        outcomes = list(calls.map(replica.score, range(3)))
    assert {type(outcome.error) for outcome in outcomes} == {ModelError}
    assert isinstance(replica.score(4).error, ModelError)
    assert load_manifest(LocalStore(tmp_path / "out")) is None


def shard_named(name: str) -> Shard:
    return Shard(name, f"/in/{name}", ".parquet" if name.endswith(".parquet") else ".csv", "", 1000)


@given(
    counts=st.lists(st.one_of(st.none(), st.integers(0, 40_000)), min_size=1, max_size=30),
    replica_count=st.integers(1, 64),
    limit=st.one_of(st.none(), st.integers(1, 50_000)),
)
def test_every_part_is_in_just_one_piece(counts: list[int | None], replica_count: int, limit: int | None) -> None:
    inspections = [
        Inspection(
            shard_named(f"{index}.csv" if count is None else f"{index}.parquet"),
            ("text",),
            count,
            text_bytes=count or 0,
        )
        for index, count in enumerate(counts)
    ]
    pieces = pieces_of(inspections, replica_count, rows_per_part=100, limit=limit)
    seen: dict[str, list[int]] = {}
    for piece in pieces:
        assert piece
        for task in piece:
            assert len(piece) == 1 or task.parts is None, "parts of one shard, or some whole shards"
            found = seen.setdefault(task.shard.name, [])
            if task.parts is None:
                assert not found
                found.append(-1)
            else:
                assert 0 < len(task.parts) <= PARTS_PER_PIECE
                assert found == list(range(task.parts.start)), "in order, none left out, none twice"
                found += task.parts
    assert seen.keys() == {inspection.shard.name for inspection in inspections}
    for inspection in inspections:
        rows = inspection.record_count
        total = None if rows is None else min(rows, limit or rows)
        wanted = None if total is None else list(range(max(1, -(-total // 100))))
        assert seen[inspection.shard.name] in ([-1], wanted)


def test_pieces_are_many_enough_and_not_too_small() -> None:
    large = [Inspection(shard_named("20gb.parquet"), ("text",), 50_000_000, text_bytes=20_000_000_000)]
    pieces = pieces_of(large, 8, rows_per_part=16_384, limit=None)
    assert len(pieces) >= 8 * 16
    assert {len(piece[0].parts or ()) for piece in pieces[:-1]} == {16}
    small = [
        Inspection(shard_named(f"{index:05}.parquet"), ("text",), 100, text_bytes=30_000) for index in range(10_000)
    ]
    assert len(pieces_of(small, 8, rows_per_part=16_384, limit=None)) == 10_000 / 16
