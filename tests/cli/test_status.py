"""``batchsent status``: what it says of every state that a run can be in, and that it writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import batchsent
from batchsent.checkpoint import CONFIG, MANIFEST, PARTS, RUNS, SUCCESS, load_manifest
from batchsent.cli import main
from batchsent.config import ScoreConfig
from batchsent.errors import IncompleteError
from batchsent.job import run_job
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.reporting.status import FAILURES_SHOWN, manifest_lines
from batchsent.shares import Share
from batchsent.storage import LocalStore
from faults.inline import KillAfter, KilledError
from support import write_csv


class Killed(BaseException):
    """Stands for kill -9: nothing of the job answers it."""


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> dict[str, Any]:
    return {"model": str(tiny_model), "precision": "fp32", "threads": 1, "rows_per_part": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def finished(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DIR that is published: two shards, 11 records, one of them empty."""
    root = tmp_path_factory.mktemp("status")
    write_csv(root / "in" / "a.csv", ["good film", "", "bad"])
    write_csv(root / "in" / "b.csv", ["good film", "bad"] * 4)
    batchsent.score(str(root / "in"), output=str(root / "out"), **settings)
    return root / "out"


@pytest.fixture(scope="module")
def failed(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DIR that is not published, because a shard cannot be read; its parts are still there."""
    root = tmp_path_factory.mktemp("status-failed")
    write_csv(root / "in" / "a.csv", ["good film", "", "bad", "bad", "good", "film"])
    (root / "in" / "b.csv").write_text('text\n"it never ends\n')
    with pytest.raises(IncompleteError):
        batchsent.score(str(root / "in"), output=str(root / "out"), **settings)
    return root / "out"


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> LocalStore:
    """A copy of 'finished' or 'failed' for a test that changes it."""
    return LocalStore(shutil.copytree(request.getfixturevalue(request.param), tmp_path / "out"))


def status(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The lines by name; nothing in DIR may have changed."""
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(SystemExit) as ended:
        main(["status", str(root)])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    pairs = [line.strip().split("  ", 1) for line in out.splitlines()]
    return {pair[0]: pair[1] for pair in reversed(pairs)}


def change_record(store: LocalStore, **changes: Any) -> dict[str, Any]:
    """Make the run's record say something else; returns it."""
    name = f"{RUNS}/{store.list(RUNS)[-1]}"
    record: dict[str, Any] = json.loads(store.read_bytes(name) or b"") | changes
    store.publish_bytes(name, json.dumps(record).encode())
    return record


def as_if_unfinished(store: LocalStore, **changes: Any) -> dict[str, Any]:
    """What a run leaves that did not come to its end."""
    store.path(SUCCESS).unlink(missing_ok=True)
    store.path(MANIFEST).unlink(missing_ok=True)
    return change_record(store, totals={}, failed_shards={}, message="", **changes)


def test_published(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = status(finished, capsys)
    assert lines["state"] == "published"
    assert lines["model"].startswith("tiny-bert (sha256:")
    assert lines["precision"] == "fp32"
    assert lines["device"] == "cpu"
    assert lines["shards"] == "2 of 2 done"
    assert lines["records"] == "11, 10 of them scored"
    assert lines["rejected"] == "1 empty_text"
    assert lines["speed"].endswith("rows/s (11 records by this run)")
    assert "UTC, " in lines["started"]
    assert "UTC, " in lines["last update"]
    assert "time left" not in lines


def test_not_published_says_why(failed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = status(failed, capsys)
    assert lines["state"].startswith("not published: 1 of 2 shards failed (")
    assert lines["shards"] == "1 of 2 done, 1 failed"
    assert "b.csv" in lines["failed"]
    assert lines["records"] == "6, 5 of them scored"


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_killed_counts_what_is_committed(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    as_if_unfinished(copied, state="running", kept_shard_count=0, committed_bytes=0)
    lines = status(copied.root, capsys)
    assert lines["state"].startswith("stopped: the run (pid ")
    assert lines["state"].endswith("run the same command again to resume")
    assert lines["shards"] == "1 of 2 done"
    assert lines["records"] == "6 committed, not published yet"
    assert lines["parts"] == "2 committed"
    assert lines["rejected"] == "1 empty_text"
    assert 0 < float(lines["input"].partition("%")[0]) < 100
    assert "time left" not in lines


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_parts_of_a_shard_that_is_not_finished(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    as_if_unfinished(copied, state="running", kept_shard_count=0, committed_bytes=0)
    (entry,) = copied.path(PARTS).glob("*/shard-*.json")
    entry.unlink()
    (last,) = entry.parent.glob("00000001-*.parquet")
    last.write_bytes(last.read_bytes()[:-9])  # damaged: the next run scores it again
    lines = status(copied.root, capsys)
    assert lines["shards"] == "0 of 2 done"
    assert lines["records"] == "4 committed, not published yet"
    assert lines["rejected"] == "1 empty_text"


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_running(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    record = as_if_unfinished(copied, state="running", record_count=60, scoring_seconds=30.0, kept_bytes=0)
    change_record(copied, committed_bytes=record["input_bytes"] // 2)
    with copied.lock():
        lines = status(copied.root, capsys)
    assert lines["state"] == f"running (pid {record['pid']} on {record['host']})"
    assert lines["speed"] == "2.0 rows/s (60 records by this run)"
    assert lines["time left"].startswith("about ")


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_killed_elsewhere_may_still_run(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    as_if_unfinished(copied, state="running", host="another-node")
    assert status(copied.root, capsys)["state"].startswith("stopped, or running on another-node where")


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
@pytest.mark.parametrize(
    ("state", "expected"),
    [("stopped", "stopped by SIGTERM; run it again"), ("failed", "failed: stopped by SIGTERM; run it again")],
)
def test_stopped_says_why(copied: LocalStore, capsys: pytest.CaptureFixture[str], state: str, expected: str) -> None:
    as_if_unfinished(copied)
    change_record(copied, state=state, message="stopped by SIGTERM; run it again")
    assert status(copied.root, capsys)["state"] == expected


@pytest.mark.parametrize("copied", ["finished"], indirect=True)
def test_success_that_is_gone_or_damaged(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    copied.path(SUCCESS).write_text("no hash")
    assert status(copied.root, capsys)["state"].startswith("not published: _SUCCESS is missing or damaged")


@pytest.mark.parametrize("copied", ["finished"], indirect=True)
def test_runs_at_their_very_beginning(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    with copied.lock():
        assert status(copied.root, capsys)["state"] == "published; a run is looking for changes now"
        as_if_unfinished(copied)
        shutil.rmtree(copied.path(RUNS))
        lines = status(copied.root, capsys)
        assert lines["state"] == "running: it has just begun"
        assert lines["records"] == "0 committed, not published yet"
    assert status(copied.root, capsys)["state"].startswith("stopped: nothing was scored yet")
    copied.path(CONFIG).unlink()
    with copied.lock():
        assert status(copied.root, capsys) == {"state": "running: it has just begun, its settings are not written yet"}


def test_many_failures_are_counted_not_listed(failed: Path) -> None:
    manifest = load_manifest(LocalStore(failed))
    assert manifest is not None
    many = replace(manifest, failed={f"{index}.csv": "gone" for index in range(FAILURES_SHOWN + 3)})
    shown = [value for name, value in manifest_lines(many) if name == "failed"]
    assert shown == ["gone"] * FAILURES_SHOWN + ["... and 3 more, in _batchsent/manifest.json"]


@pytest.mark.parametrize(("name", "said"), [("", "it is not a batchsent directory"), ("a", "does not exist")])
def test_not_a_batchsent_directory_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", str(tmp_path / name)])
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_cut_off_in_the_middle(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class CutOff(NoProgress):
        def update(self, report: RunReport) -> None:
            if report.part_count == 2:
                raise Killed

    given = write_csv(tmp_path / "in" / "a.csv", ["good film", "bad", ""] * 6)
    with pytest.raises(Killed):
        run_job(ScoreConfig(inputs=(str(given),), output=str(tmp_path / "out"), **settings), progress=CutOff())
    capsys.readouterr()  # its log lines, if a command in this process has set up logging before
    lines = status(tmp_path / "out", capsys)
    assert lines["state"].startswith("stopped: ")
    committed = int(lines["records"].partition(" ")[0])
    assert 8 <= committed < 18


def test_a_shard_that_changed_between_two_runs_is_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], score: Callable[..., RunReport]
) -> None:
    write_csv(tmp_path / "in/a.csv", ["good film", "bad"] * 30)
    write_csv(tmp_path / "in/b.csv", ["good film", "bad"] * 500)
    with pytest.raises(KilledError):
        score(tmp_path / "in", output=tmp_path / "out", progress=KillAfter(2))
    write_csv(tmp_path / "in/a.csv", ["film"] * 70)
    with pytest.raises(KilledError):
        score(tmp_path / "in", output=tmp_path / "out", progress=KillAfter(2))
    capsys.readouterr()
    lines = status(tmp_path / "out", capsys)
    assert lines["shards"] == "1 of 2 done", "a.csv as it is now"
    assert int(lines["records"].partition(" ")[0]) % 50 == 20, "70 of it, and parts of 50 of b.csv"


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_the_pid_of_a_run_that_is_dead_is_not_said(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    as_if_unfinished(copied, state="running")
    change_record(copied, pid=2**22 + 1)  # above the largest that Linux gives
    with copied.lock():
        assert status(copied.root, capsys)["state"] == "running: it has just begun"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("a review"), "failed: RuntimeError in test_status.py, line "),
        (OSError(5, "Input/output error", "/dev/x"), "failed: /dev/x: Input/output error; expected a file system"),
    ],
)
def test_an_error_of_any_kind_is_said(
    error: Exception, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], score: Callable[..., RunReport]
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    with pytest.raises(type(error)):
        score(write_csv(tmp_path / "a.csv", ["good"]), output=tmp_path / "out", load_model=fail)
    capsys.readouterr()
    state = status(tmp_path / "out", capsys)["state"]
    assert state.startswith(says)
    assert "a review" not in state


# --- ranks


def as_ranks(store: LocalStore, *states: str, **changes: Any) -> list[dict[str, Any]]:
    """Make the run's record one of ranks in these states ('' for one that has none)."""
    record = as_if_unfinished(store, **changes)
    store.remove(f"{RUNS}/{store.list(RUNS)[-1]}")
    records = []
    for rank, state in enumerate(states):
        if state:
            records.append(record | {"rank": rank, "world_size": len(states), "state": state})
            store.publish_bytes(f"{RUNS}/{record['run_id']}{rank}.json", json.dumps(records[-1]).encode())
    return records


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_ranks_that_run(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    done = {"kept_shard_count": 0, "record_count": 30, "scoring_seconds": 10.0, "kept_bytes": 0}
    size = as_ranks(copied, "running", "share done", "running", "", **done)[0]["input_bytes"]
    for rank in range(3):
        name = f"{RUNS}/{copied.list(RUNS)[rank]}"
        record = json.loads(copied.read_bytes(name) or b"") | {"committed_bytes": size // 4, "share_bytes": size // 3}
        copied.publish_bytes(name, json.dumps(record).encode())
    with copied.lock(Share(0, 4)), copied.lock(Share(2, 4)):
        lines = status(copied.root, capsys)
    assert lines["state"] == "running: 2 of 4 ranks"
    assert lines["ranks"] == "running: 0, 2; share done: 1; not begun: 3"
    assert 70 < float(lines["input"].partition("%")[0]) < 76, "of all, what all have done"
    assert lines["speed"] == "9.0 rows/s (90 records by this run)"
    assert lines["time left"].startswith("about ")


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("running", "share done"), "stopped: rank 0 of 2 did not finish; run it again to resume, or all ranks"),
        (("share done", "", "stopped"), "stopped: ranks 1, 2 of 3 did not finish; run them again"),
        (("share done", "not published"), "not published: rank 1/2: a shard failed"),
        (("share done", "share done"), "not published, though every share was done: "),
    ],
)
def test_ranks_that_ended(
    copied: LocalStore, capsys: pytest.CaptureFixture[str], states: tuple[str, ...], expected: str
) -> None:
    for record in as_ranks(copied, *states):
        name = f"{RUNS}/{record['run_id']}{record['rank']}.json"
        copied.publish_bytes(name, json.dumps(record | {"message": "a shard failed"}).encode())
    assert status(copied.root, capsys)["state"].startswith(expected)


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_ranks_of_an_earlier_input_are_not_counted(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    (record, *_) = as_ranks(copied, "share done", "published")
    later = record | {"run_id": "99", "rank": 0, "state": "running"}
    copied.publish_bytes(f"{RUNS}/99.json", json.dumps(later).encode())
    with copied.lock(Share(0, 2)):
        assert status(copied.root, capsys)["ranks"] == "running: 0; not begun: 1"


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_a_shard_that_several_ranks_found_finished_is_one(
    copied: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    as_ranks(copied, "share done", "share done", kept_shard_count=1, kept_bytes=0)
    assert status(copied.root, capsys)["shards"] == "1 of 2 done"


@pytest.mark.parametrize("copied", ["failed"], indirect=True)
def test_what_one_rank_alone_knows_is_said_of_all(copied: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    drift = {"baseline": "m.json", "limit": 0.1, "labels": 0.3, "confidence": 0.0, "lengths": 0.0}
    (first, _) = as_ranks(copied, "held back", "share done", drift={})
    copied.publish_bytes(f"{RUNS}/{first['run_id']}0.json", json.dumps(first | {"drift": drift}).encode())
    assert status(copied.root, capsys)["drift"].startswith("labels 0.300")
