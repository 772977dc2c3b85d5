"""Several ranks on one DIR: the bytes of a single run, whoever ends last, dies, fails or comes late."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent import digests
from batchsent.checkpoint import SUCCESS, load_manifest
from batchsent.cli import main
from batchsent.errors import IncompleteError, InputError, LockedError, SettingsChangedError, StorageError
from batchsent.models.loading import load_model as real_model
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.shares import Share
from batchsent.storage import LocalStore
from faults.inline import KillAfter, KilledError
from support import published, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def dump(directory: Path, reviews: Reviews) -> Path:
    """A Parquet shard of many parts, one of a few, and text files."""
    texts = reviews(1000)
    write_csv(directory / "a.csv", texts[:70])
    write_csv(directory / "b.csv", texts[70:100])
    for name, chosen in (("large", texts[100:900]), ("small", texts[900:])):
        table = pa.table({"text": chosen, "id": list(range(len(chosen)))})
        pq.write_table(table, directory / f"{name}.parquet", row_group_size=90)
    return directory


def reports_of(score: Score, source: Path, out: Path, world_size: int, **options: Any) -> list[RunReport]:
    """Each rank in turn."""
    return [score(source, output=out, share=Share(rank, world_size), **options) for rank in range(world_size)]


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_write_what_one_run_writes(score: Score, tmp_path: Path, reviews: Reviews, world_size: int) -> None:
    source = dump(tmp_path / "in", reviews)
    whole = score(source, output=tmp_path / "whole")
    *others, last = reports_of(score, source, tmp_path / "out", world_size)
    assert published(tmp_path / "out") == published(tmp_path / "whole")
    assert [report.state for report in others] == ["share done"] * (world_size - 1)
    assert all("still in work by other ranks" in report.message for report in others)
    assert last.state == "published"
    assert sum(report.part_count for report in (*others, last)) == whole.part_count, "no part twice"
    assert sum(report.record_count for report in (*others, last)) == 1000
    assert all(report.record_count < 1000 / world_size * 1.5 for report in (*others, last))
    assert not (tmp_path / "out/_batchsent/parts").exists()
    records = [json.loads(path.read_bytes()) for path in (tmp_path / "out/_batchsent/runs").iterdir()]
    assert sorted((record["rank"], record["world_size"]) for record in records) == [
        (rank, world_size) for rank in range(world_size)
    ]
    assert [r.state for r in reports_of(score, source, tmp_path / "out", 2)] == ["nothing to do"] * 2


@pytest.mark.parametrize("again", ["the rank", "all ranks", "a run by itself", "another number of ranks"])
def test_a_rank_that_died_is_made_up_for(score: Score, tmp_path: Path, reviews: Reviews, again: str) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    whole = score(source, output=tmp_path / "whole")
    with pytest.raises(KilledError):
        score(source, output=out, share=Share(0, 3), progress=KillAfter(3))
    for rank in (1, 2):
        assert score(source, output=out, share=Share(rank, 3)).state == "share done"
    parts = {path: path.stat().st_mtime_ns for path in (out / "_batchsent/parts").rglob("*.parquet")}
    reports = {
        "the rank": lambda: [score(source, output=out, share=Share(0, 3))],
        "all ranks": lambda: reports_of(score, source, out, 3),
        "a run by itself": lambda: [score(source, output=out)],
        "another number of ranks": lambda: reports_of(score, source, out, 4),
    }[again]()
    assert "published" in {report.state for report in reports}
    assert {report.state for report in reports} <= {"published", "share done", "nothing to do"}
    assert published(out) == published(tmp_path / "whole")
    assert sum(report.part_count for report in reports) + len(parts) == whole.part_count, "no part twice"


def test_a_shard_that_cannot_be_read_is_its_rank_s_to_report(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    damaged = source / "broken.parquet"
    damaged.write_bytes(b"PAR1 this is none")
    ended: dict[int, str] = {}
    for rank in range(3):
        try:
            ended[rank] = score(source, output=out, share=Share(rank, 3)).state
        except IncompleteError as error:
            ended[rank] = str(error)
    (failing,) = (rank for rank, said in ended.items() if said != "share done")
    assert ended[failing].startswith("1 of 5 shards failed (broken.parquet is not readable as Parquet")
    assert not (out / SUCCESS).exists()
    # The others are done by now, so this rank can account for everything, as a run by itself.
    with pytest.raises(IncompleteError, match="1 of 5 shards failed"):
        score(source, output=out, share=Share(failing, 3))
    manifest = load_manifest(LocalStore(out))
    assert manifest is not None
    assert (len(manifest.shards), list(manifest.failed)) == (4, ["broken.parquet"])
    damaged.unlink()
    assert score(source, output=out, share=Share(1, 3)).state == "published"
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")


@pytest.mark.parametrize("is_early", [True, False])
def test_damage_in_another_rank_s_parts(score: Score, tmp_path: Path, reviews: Reviews, is_early: bool) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    for rank in (0, 1):
        score(source, output=out, share=Share(rank, 3))
    units = (folder for folder in (out / "_batchsent/parts").iterdir() if not list(folder.glob("shard-*.json")))
    part = next(path for folder in units for path in sorted(folder.glob("*.parquet")))

    class Damage(NoProgress):
        def update(self, report: RunReport) -> None:
            part.write_bytes(part.read_bytes()[:-1])

    if is_early:  # rank 2 finds it missing, as if its rank were still at work
        Damage().update(RunReport())
        assert score(source, output=out, share=Share(2, 3)).state == "share done"
    else:  # rank 2 finds all parts there, and then that one of them is none
        with pytest.raises(StorageError, match="damaged or removed after"):
            score(source, output=out, share=Share(2, 3), progress=Damage())
    reports_of(score, source, out, 3)
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")


def test_a_rank_that_comes_late_takes_nothing_away(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    store = LocalStore(out)
    states: list[str] = []

    def publish_meanwhile(*_: Any) -> Any:
        """While rank 0 loads its model, it is done without it, by ranks of a host whose locks are not seen here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalStore, "lock", lambda *_: contextlib.nullcontext())
            states.extend(report.state for report in reports_of(score, source, out, 3))
        return real_model(*_)

    assert score(source, output=out, share=Share(0, 3), load_model=publish_meanwhile).state == "published"
    assert states == ["share done", "share done", "published"]
    assert store.exists(SUCCESS)
    assert not (out / "_batchsent/parts").exists()
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")


def test_new_input_is_shared_too(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    reports_of(score, source, out, 2)
    pq.write_table(pa.table({"text": reviews(333), "id": list(range(333))}), source / "new.parquet")
    reports = reports_of(score, source, out, 2)
    assert [report.state for report in reports] == ["share done", "published"]
    assert sum(report.record_count for report in reports) == 333
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")


def test_only_what_a_rank_needs_is_hashed(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    for index in range(12):
        write_csv(source / f"{index}.csv", reviews(10 + index))
    hashed: list[str] = []
    hash_stream = digests.hash_stream  # type: ignore[attr-defined]  # where it is called

    def watched(stream: Any, *rest: Any) -> str:
        hashed.append(Path(stream.name).name)
        found: str = hash_stream(stream, *rest)
        return found

    monkeypatch.setattr(digests, "hash_stream", watched)
    of_rank: list[set[str]] = []
    for rank in range(3):
        hashed.clear()
        score(source, output=tmp_path / "out", share=Share(rank, 3))
        of_rank.append({name for name in hashed if name.endswith(".csv")})
    assert [len(names) for names in of_rank] == [4, 4, 4], "the last one knows from the others what they have hashed"
    assert len(set().union(*of_rank)) == 12


def test_settings_of_the_first_rank_bind_the_others(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out, share=Share(0, 2))
    with pytest.raises(SettingsChangedError, match="max-length"):
        score(source, output=out, share=Share(1, 2), max_length=64)
    with pytest.raises(InputError):
        score(source, output=tmp_path / "other", share=Share(1, 2), text_column="nope")
    # With --restart the first rank discards what is there, and the others what is not theirs to discard.
    reports_of(score, source, out, 2, max_length=64, restart=True)
    score(source, output=tmp_path / "whole", max_length=64)
    assert published(out) == published(tmp_path / "whole")


def test_ranks_keep_others_out_and_each_other_in(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "out")
    store.create()
    with store.lock(Share(0, 3)), store.lock(Share(2, 3)):
        assert [store.is_locked(rank) for rank in range(3)] == [True, False, True]
        for share, said in (
            (Share(), "another run holds"),
            (Share(2, 3), r"this rank is at work on .* already"),
            (Share(1, 2), r"another run holds .* expected ranks of a world of 2 and nobody else"),
        ):
            with pytest.raises(LockedError, match=said), store.lock(share):
                pass
    with store.lock(), pytest.raises(LockedError), store.lock(Share(1, 3)):
        pass
    with store.lock(Share(1, 2)):
        assert store.is_locked()
    assert not store.is_locked()


# --- real processes


def command(source: Path, out: Path, model: Path) -> list[str]:
    options = ["--model", str(model), "--device", "cpu", "--backend", "torch", "--precision", "fp32"]
    return ["score", str(source), "--output", str(out), *options, "--threads", "1", "--rows-per-part", "50"]


def start(arguments: list[str], rank: int, world_size: int) -> subprocess.Popen[str]:
    environment = os.environ | {"JOB_COMPLETION_INDEX": str(rank), "BATCHSENT_WORLD_SIZE": str(world_size)}
    return subprocess.Popen(
        [sys.executable, "-m", "batchsent", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.process
def test_ranks_at_once_one_of_them_killed(
    score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    arguments = command(source, out, tiny_model)
    ranks = [start(arguments, rank, 3) for rank in range(3)]
    while ranks[1].poll() is None and not list(out.glob("_batchsent/parts/*/*.parquet")):
        time.sleep(0.01)
    os.killpg(ranks[1].pid, signal.SIGKILL)
    said = [rank.communicate(timeout=180) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, -signal.SIGKILL, 0], said
    assert not (out / SUCCESS).exists()
    for rank in (0, 2):
        assert re.search(r"result  share done, \d shards? still in work by other ranks: ", said[rank][0])
        assert all(f" rank {rank}/3 " in line for line in said[rank][1].splitlines())
    with pytest.raises(SystemExit):
        main(["status", str(out)])
    shown = capsys.readouterr().out
    assert "stopped: rank 1 of 3 did not finish; run it again to resume, or all ranks" in shown
    again = start(arguments, 1, 3)
    assert "published" in again.communicate(timeout=180)[0]
    assert again.returncode == 0
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")
    assert not list((out / "_batchsent/tmp").iterdir())


@pytest.mark.process
def test_under_torchrun(score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launcher, "-m", "batchsent", *command(source, out, tiny_model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "rank 0/2" in result.stderr
    assert "rank 1/2" in result.stderr
    score(source, output=tmp_path / "whole")
    assert published(out) == published(tmp_path / "whole")
