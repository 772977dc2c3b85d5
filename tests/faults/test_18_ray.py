"""Fault 18: a replica's process, one that works for it, a node or the driver is killed, at a random moment."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.reporting.run_report import RunReport
from engines.clusters import Driver, Nodes, children_of_replicas, replica_processes, running
from faults.tally import Injections
from support import write_csv

Reviews = Callable[[int], list[str]]
Score = Callable[..., RunReport]

VICTIMS = ("replica", "its tokenizer or reader", "node", "driver")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with running() as made:
        yield made


@pytest.mark.ray
@pytest.mark.real_process
@pytest.mark.fault(18, "on a Ray cluster a replica, its tokenizer or reader, a node or the driver is killed")
def test_18_ray(
    injections: Injections, nodes: Nodes, score: Score, tiny_model: Path, tmp_path: Path, reviews: Reviews
) -> None:
    texts = reviews(6000)
    source, whole, out = tmp_path / "in", tmp_path / "whole", tmp_path / "out"
    write_csv(source / "a.csv", texts[:300])
    for name, chosen in (("large", texts[300:5500]), ("small", texts[5500:])):
        pq.write_table(pa.table({"text": chosen}), source / f"{name}.parquet")
    command: list[Path | str] = [
        source,
        "--model",
        tiny_model,
        "--precision",
        "fp32",
        "--threads",
        "1",
    ]
    command += ["--backend", "torch", "--rows-per-part", "50", "--output"]
    part_count = 6 + 104 + 10
    score(source, output=whole)
    for seed in injections.of(range(100), quick=len(VICTIMS)):
        chooser, victim = random.Random(seed), VICTIMS[seed % len(VICTIMS)]
        nodes.restore()
        driver = Driver(nodes.address, [*command, out, "--replicas", "3"], tmp_path)
        driver.wait_for_parts(out, chooser.randrange(1, part_count))
        _kill(victim, driver, nodes, chooser)
        code = driver.wait()
        assert code in {"driver": (0, -9), "its tokenizer or reader": (0, 75)}.get(victim, (0,)), driver.errors
        if code:
            again = Driver(nodes.address, [*command, out, "--replicas", "3"], tmp_path)
            assert again.wait() == 0, again.errors
        injections.compare(whole, out)
        shutil.rmtree(out)


def _kill(victim: str, driver: Driver, nodes: Nodes, chooser: random.Random) -> None:
    """Whatever is there of it; the run may be over by now."""
    if victim == "driver":
        driver.signal(signal.SIGKILL)
    elif victim == "node":
        nodes.kill()
    else:
        found = replica_processes() if victim == "replica" else children_of_replicas()
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            chooser.choice(found).kill()
