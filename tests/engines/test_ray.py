"""The ray engine on a real cluster of three nodes: the bytes of a local run, whatever dies."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.reporting.run_report import RunReport
from engines.clusters import Driver, Nodes, children_of_replicas, replica_processes, running
from support import published, write_csv

pytestmark = pytest.mark.ray

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]
Start = Callable[..., Driver]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, reviews: Reviews) -> Path:
    """A Parquet shard of many parts, one of a few, and text files."""
    folder, texts = tmp_path_factory.mktemp("in"), reviews(20_000)
    write_csv(folder / "a.csv", texts[:400])
    write_csv(folder / "b.csv", texts[400:700])
    for name, chosen in (("large", texts[700:19_000]), ("small", texts[19_000:])):
        pq.write_table(pa.table({"text": chosen, "id": list(range(len(chosen)))}), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, source: Path, tiny_model: Path) -> Path:
    """What the local engine makes of it."""
    from batchsent.config import ScoreConfig
    from batchsent.job import run_job

    out = tmp_path_factory.mktemp("whole")
    run_job(ScoreConfig(inputs=(str(source),), output=str(out), device="cpu", **settings_of(tiny_model)))
    return out


def settings_of(model: Path) -> dict[str, Any]:
    return {"model": str(model), "precision": "fp32", "threads": 1, "backend": "torch", "rows_per_part": 50}


@pytest.fixture
def start(nodes: Nodes, source: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Start]:
    """The command, with the same settings as ``whole``."""
    nodes.restore()
    drivers: list[Driver] = []

    def begin(*options: str, inputs: Path = source, address: str = "") -> Driver:
        settings = [f"--{k.replace('_', '-')}={v}" for k, v in settings_of(tiny_model).items()]
        arguments: list[Path | str] = [inputs, "--output", tmp_path / "out", *settings, *options]
        drivers.append(Driver(address or nodes.address, arguments, tmp_path))
        return drivers[-1]

    yield begin
    for driver in drivers:
        if not driver.is_over:
            driver.signal(signal.SIGKILL)
            driver.wait()


def record_of(out: Path) -> dict[str, Any]:
    """Of the one run that there was."""
    (path,) = (out / "_batchsent/runs").iterdir()
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_a_cluster_writes_what_one_process_writes(start: Start, tmp_path: Path, whole: Path) -> None:
    driver = start("--replicas", "3")
    assert driver.wait() == 0, driver.errors
    assert driver.errors == "", "quiet: Ray has logs of its own"
    assert published(tmp_path / "out") == published(whole)
    assert not (tmp_path / "out/_batchsent/parts").exists()
    record = record_of(tmp_path / "out")
    assert record["device"] == "cpu, 3 replicas"
    assert record["record_count"] == 20_000
    assert record["state"] == "published"
    assert start("--replicas", "1").wait() == 0, "nothing to do"
    assert len(list((tmp_path / "out/_batchsent/runs").iterdir())) == 1


def test_a_cluster_goes_on_where_one_process_stopped_and_the_other_way_round(
    start: Start, score: Score, source: Path, tmp_path: Path, whole: Path, tiny_model: Path
) -> None:
    driver = start("--replicas", "2")
    driver.wait_for_parts(tmp_path / "out", 30)
    driver.signal(signal.SIGTERM)
    began = time.monotonic()
    assert driver.wait() == 143, driver.errors
    assert time.monotonic() - began < 10
    assert "SIGTERM" in driver.errors
    committed = len(list((tmp_path / "out").glob("_batchsent/parts/*/*.parquet")))
    assert 30 <= committed < 400
    report = score(source, output=tmp_path / "out", **settings_of(tiny_model))
    assert 0 < report.part_count <= 400 - 30
    assert published(tmp_path / "out") == published(whole)


@pytest.mark.parametrize("victim", ["actor", "tokenizer or reader", "node"])
def test_who_is_killed_is_replaced(start: Start, nodes: Nodes, tmp_path: Path, whole: Path, victim: str) -> None:
    driver = start("--replicas", "3")
    driver.wait_for_parts(tmp_path / "out", 20)
    if victim == "node":
        nodes.kill()
        nodes.add()
    else:
        found = replica_processes() if victim == "actor" else children_of_replicas()
        assert found
        found[0].kill()
    code = driver.wait()
    if victim == "tokenizer or reader":
        # It says so and ends, as the local engine does; the same command goes on.
        assert code == 75, driver.errors
        assert driver.errors.startswith("error: ")
        driver = start("--replicas", "3")
        code = driver.wait()
    assert code == 0, driver.errors
    assert published(tmp_path / "out") == published(whole)


def test_a_driver_that_is_killed(start: Start, tmp_path: Path, whole: Path) -> None:
    driver = start("--replicas", "3")
    driver.wait_for_parts(tmp_path / "out", 20)
    driver.signal(signal.SIGKILL)
    driver.wait()
    again = start("--replicas", "3")  # at once: replicas of the first one may still be at work
    assert again.wait() == 0, again.errors
    assert published(tmp_path / "out") == published(whole)


def test_a_pool_that_grows(start: Start, tmp_path: Path, whole: Path) -> None:
    driver = start()  # as many as there is room for
    assert driver.wait() == 0, driver.errors
    assert published(tmp_path / "out") == published(whole)
    assert record_of(tmp_path / "out")["device"] == "cpu, 3 replicas"


def test_a_shard_that_cannot_be_read(start: Start, tmp_path: Path, reviews: Reviews) -> None:
    inputs = tmp_path / "in"
    write_csv(inputs / "a.csv", reviews(100))
    write_csv(inputs / "b.csv", reviews(100))
    with (inputs / "b.csv").open("a") as file:
        file.write('"a quote that never ends\n')
    (inputs / "c.parquet").write_bytes(b"PAR1 this is none")
    driver = start("--replicas", "2", inputs=inputs)
    assert driver.wait() == 3, driver.errors
    assert "2 of 3 shards failed" in driver.errors
    manifest = json.loads((tmp_path / "out/_batchsent/manifest.json").read_bytes())
    assert manifest["failed"].keys() == {"b.csv", "c.parquet"}
    assert [entry["shard"] for entry in manifest["shards"]] == ["a.csv"]


def test_no_cluster_there(start: Start) -> None:
    driver = start(address="127.0.0.1:1")
    assert driver.wait() == 75
    assert driver.errors.startswith("error: no Ray cluster answers at 127.0.0.1:1; expected the address of its head")


def test_no_gpu_in_the_cluster(start: Start) -> None:
    driver = start("--device", "cuda")
    assert driver.wait() == 75
    assert driver.errors.startswith("error: no node of the cluster has a GPU, with --device cuda")
