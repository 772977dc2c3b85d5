"""``batchsent publish --accept-drift``: what the drift gate held back, and nothing else, is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from batchsent.acceptance import accept_drift
from batchsent.checkpoint import MANIFEST, PARTS, SUCCESS
from batchsent.cli import main
from batchsent.errors import DriftError, IncompleteError, LockedError, UsageError
from batchsent.reporting.run_report import RunReport
from batchsent.storage import LocalStore
from batchsent.verify import verify
from faults.system_calls import DeadError, Death, Trace, intercept
from support import published, write_csv

Score = Callable[..., RunReport]


@pytest.fixture
def held_back(tmp_path: Path, score: Score, reviews: Callable[[int], list[str]]) -> LocalStore:
    """A DIR that ended with exit 4."""
    write_csv(tmp_path / "before" / "a.csv", reviews(60))
    score(tmp_path / "before", output=tmp_path / "baseline")
    write_csv(tmp_path / "in" / "b.csv", [" ".join(reviews(10))] * 60)
    with pytest.raises(DriftError):
        score(
            tmp_path / "in",
            output=tmp_path / "out",
            baseline=str(tmp_path / "baseline" / MANIFEST),
            max_drift=0.25,
        )
    return LocalStore(tmp_path / "out")


def test_it_publishes_what_a_run_without_the_gate_publishes(
    tmp_path: Path, score: Score, held_back: LocalStore
) -> None:
    report = accept_drift(held_back)
    assert report.state == "published"
    assert report.drift["lengths"] > 0.25
    score(tmp_path / "in", output=tmp_path / "plain")
    assert published(tmp_path / "out") == published(tmp_path / "plain")
    assert not verify(held_back).problems
    assert not held_back.folders(PARTS)


def test_it_leaves_a_record_of_who_held_it_back(held_back: LocalStore) -> None:
    report = accept_drift(held_back)
    record = json.loads(held_back.read_bytes(f"_batchsent/runs/{report.run_id}.json") or b"")
    assert record["state"] == "published"
    assert "drift accepted" in record["message"]
    assert record["drift"] == report.drift


def test_done_twice_it_changes_nothing(tmp_path: Path, held_back: LocalStore) -> None:
    accept_drift(held_back)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert accept_drift(held_back).state == "nothing to do"
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_the_next_run_with_the_gate_finds_nothing_to_do(tmp_path: Path, score: Score, held_back: LocalStore) -> None:
    accept_drift(held_back)
    again = score(tmp_path / "in", output=tmp_path / "out", baseline=str(tmp_path / "baseline" / MANIFEST), max_drift=0)
    assert again.state == "nothing to do"
    assert (tmp_path / "out" / SUCCESS).exists()


def test_killed_at_any_step_it_is_done_again(
    tmp_path: Path, score: Score, held_back: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after every system call; what is there is published, or still held back, and never half."""
    score(tmp_path / "in", output=tmp_path / "plain")
    shutil.copytree(tmp_path / "out", tmp_path / "held")
    trace = Trace()
    with monkeypatch.context() as patch:
        intercept(trace, patch.setattr)
        accept_drift(held_back)
    assert {"_SUCCESS", "part", "run record"} <= {call.kind for call in trace.calls}
    for call, moment in product(trace.calls, ("before", "after")):
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "held", tmp_path / "out")
        with monkeypatch.context() as patch:
            intercept(Death(call.index, moment), patch.setattr)
            with pytest.raises(DeadError):
                accept_drift(held_back)
        if (tmp_path / "out" / SUCCESS).exists():
            assert not verify(held_back).problems, (call, moment)
        accept_drift(held_back)
        assert published(tmp_path / "out") == published(tmp_path / "plain"), (call, moment)
        assert not held_back.folders(PARTS), (call, moment)
        assert not list((tmp_path / "out/_batchsent/tmp").iterdir()), (call, moment)


def test_failed_shards_are_not_published_by_accepting_drift(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]]
) -> None:
    write_csv(tmp_path / "in" / "a.csv", reviews(5))
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(IncompleteError):
        score(tmp_path / "in", output=tmp_path / "out")
    with pytest.raises(IncompleteError, match=r"was not held back by the drift gate.*1 of 2 shards failed") as refused:
        accept_drift(LocalStore(tmp_path / "out"))
    assert refused.value.exit_code == 3
    assert not (tmp_path / "out" / SUCCESS).exists()


def test_a_later_run_that_found_bad_rows_counts(tmp_path: Path, score: Score, held_back: LocalStore) -> None:
    """The same manifest, but now somebody asked for fewer rejects than there are."""
    path = tmp_path / "in" / "b.csv"
    path.write_text(path.read_text(encoding="utf-8") + "one,two\n", encoding="utf-8")
    gate = {"baseline": str(tmp_path / "baseline" / MANIFEST), "max_drift": 0.25}
    with pytest.raises(DriftError):
        score(tmp_path / "in", output=tmp_path / "out", max_reject_rate=0.5, **gate)
    with pytest.raises(IncompleteError, match="records are bad"):
        score(tmp_path / "in", output=tmp_path / "out", max_reject_rate=0.0, **gate)
    with pytest.raises(IncompleteError, match="records are bad"):
        accept_drift(held_back)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_file_that_is_not_what_was_held_back_is_not_published(
    tmp_path: Path, held_back: LocalStore, damage: str
) -> None:
    output = tmp_path / "out" / "b.parquet"
    if damage == "gone":
        output.unlink()
    else:
        data = bytearray(output.read_bytes())
        data[100] ^= 1
        output.write_bytes(data)
    with pytest.raises(IncompleteError, match="its files are not those that were held back"):
        accept_drift(held_back)
    assert not (tmp_path / "out" / SUCCESS).exists()


def test_a_run_in_between_that_stopped_keeps_it_from_being_published(
    tmp_path: Path, score: Score, held_back: LocalStore, reviews: Callable[[int], list[str]]
) -> None:
    """New input, whose shard file was written before the run died: the manifest is older than the files."""
    held = (tmp_path / "out" / MANIFEST).read_bytes()
    write_csv(tmp_path / "in" / "b.csv", reviews(30))
    score(tmp_path / "in", output=tmp_path / "out")
    (tmp_path / "out" / SUCCESS).unlink()
    (tmp_path / "out" / MANIFEST).write_bytes(held)
    with pytest.raises(IncompleteError, match="its files are not those"):
        accept_drift(held_back)


def test_a_run_at_the_directory_comes_first(held_back: LocalStore) -> None:
    with held_back.lock(), pytest.raises(LockedError):
        accept_drift(LocalStore(held_back.root))


def test_what_is_no_directory_of_ours(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        accept_drift(LocalStore(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is not a batchsent directory"):
        accept_drift(LocalStore(tmp_path / "empty"))
    assert not list((tmp_path / "empty").iterdir())


# --- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_a_run_that_was_killed_in_between_is_said(held_back: LocalStore) -> None:
    (name,) = held_back.list("_batchsent/runs")
    record = json.loads(held_back.read_bytes(f"_batchsent/runs/{name}") or b"")
    held_back.publish_bytes(
        "_batchsent/runs/99.json", json.dumps(record | {"state": "running", "message": ""}).encode()
    )
    with pytest.raises(IncompleteError, match="by the drift gate \\(a run has begun to change it since\\)"):
        accept_drift(held_back)


def test_the_command(tmp_path: Path, held_back: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "out")
    code, out, _ = run(capsys, "status", directory)
    assert code == 0
    assert "held back: the predictions have moved" in out
    assert "drift  labels " in out
    code, out, err = run(capsys, "publish", directory)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: publish {directory} without --accept-drift; ")
    code, out, err = run(capsys, "publish", directory, "--accept-drift")
    assert (code, err) == (0, "")
    assert "published" in out
    assert "lengths" in out
    assert "published: drift accepted, which had held back the run " in run(capsys, "status", directory)[1]
    assert run(capsys, "verify", directory)[0] == 0
    assert run(capsys, "publish", directory, "--accept-drift")[0] == 0
