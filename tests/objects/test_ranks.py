"""Ranks on an object store, where nobody can hold a lock, and what is asked of it where there are many shards."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.checkpoint import SUCCESS
from batchsent.cli import main
from batchsent.reporting.run_report import RunReport
from batchsent.shares import Share
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import InspectRequest, ReaderProcess
from batchsent.stores import look_at_each, open_store
from objects.cloud import Cloud
from support import published, write_csv

pytestmark = pytest.mark.process

Reviews = Callable[[int], list[str]]
Score = Callable[..., RunReport]


def test_ranks_write_what_one_run_writes(
    cloud: Cloud, score: Score, tmp_path: Path, reviews: Reviews, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = reviews(900)
    write_csv(tmp_path / "in/a.csv", texts[:100])
    pq.write_table(pa.table({"text": texts[100:]}), tmp_path / "in/large.parquet", row_group_size=90)
    bucket = cloud.bucket()
    source, out = cloud.put_all(tmp_path / "in", f"{bucket}/in"), f"{bucket}/out"
    score(source, output=tmp_path / "whole")
    states = [score(source, output=out, share=Share(rank, 3)).state for rank in range(2)]
    assert states == ["share done", "share done"]
    with pytest.raises(SystemExit, match="0"):
        main(["status", out])
    said = capsys.readouterr().out
    assert "share done: 0, 1; not begun: 2" in said
    assert score(source, output=out, share=Share(2, 3)).state == "published"
    assert published(cloud.fetch(out, tmp_path / "fetched")) == published(tmp_path / "whole")
    assert score(source, output=out, share=Share(1, 3)).state == "nothing to do"


def test_the_lack_of_locks_is_said_by_one_rank(
    cloud: Cloud, score: Score, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = write_csv(tmp_path / "r.csv", ["good"] * 60), f"{cloud.bucket()}/out"
    with caplog.at_level(logging.WARNING):
        for rank in range(2):
            score(source, output=out, share=Share(rank, 2))
    assert sum("has no locks" in record.message for record in caplog.records) == 1


def test_the_last_rank_asks_little_of_each_shard(cloud: Cloud, score: Score, tmp_path: Path) -> None:
    for index in range(20):
        write_csv(tmp_path / f"in/{index:02}.csv", ["good", "bad"])
    bucket = cloud.bucket()
    source, out = cloud.put_all(tmp_path / "in", f"{bucket}/in"), f"{bucket}/out"
    cloud.proxy.begin()
    assert score(source, output=out, share=Share(0, 2)).state == "share done"
    first = len(cloud.proxy.requests)
    cloud.proxy.begin()
    assert score(source, output=out, share=Share(1, 2)).state == "published"
    assert len(cloud.proxy.requests) < first + 20 * 6 + 10, (
        "for each shard: its entry found and read, its files looked at twice; and a few for all of them"
    )
    cloud.proxy.begin()
    assert score(source, output=out, share=Share(1, 2)).state == "nothing to do"
    assert len(cloud.proxy.requests) < 20 * 2 + 30, "a look at each file, and no listing for each"


@pytest.fixture
def reader() -> Iterator[ReaderProcess]:
    with closing(ReaderProcess(lambda: None)) as made:
        yield made


def test_objects_are_inspected_at_once_and_told_in_order(cloud: Cloud, tmp_path: Path, reader: ReaderProcess) -> None:
    for index in range(40):
        write_csv(tmp_path / f"in/{index:02}.csv", ["good"], **{f"id_{index}": [1]})
    (tmp_path / "in/20.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "in/41.parquet").write_bytes(b"PAR1")
    source = cloud.put_all(tmp_path / "in", f"{cloud.bucket()}/in")
    shards = plan_shards((source,), "s3://nowhere/out")
    requests = [InspectRequest(shard, "text", (), "utf-8", None) for shard in shards]
    found = list(reader.inspect(requests))
    assert [inspection.shard for inspection in found] == shards
    wrong = {inspection.shard.name for inspection in found if inspection.error}
    assert wrong == {"20.csv", "41.parquet"}
    assert found[7].columns == ("text", "id_7")
    assert [inspection.columns for inspection in found] == [
        inspection.columns for request in requests for inspection in reader.inspect([request])
    ]


def test_looks_that_are_not_wanted_any_more_are_not_begun(cloud: Cloud) -> None:
    store, looked = open_store(f"{cloud.bucket()}/out"), list[int]()

    def look(index: int) -> bool:
        time.sleep(0.001)
        looked.append(index)
        return index < 3

    assert not all(look_at_each(store, look, range(10_000)))
    assert len(looked) < 5_000
    assert list(look_at_each(store, lambda index: index * 2, range(100))) == list(range(0, 200, 2))
    assert not store.exists(SUCCESS)
