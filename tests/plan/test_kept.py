"""What a resume would skip is what a resumed run then skips; DIR stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.errors import SettingsChangedError
from batchsent.plan import kept
from batchsent.plan.results import Plan
from batchsent.reporting.run_report import RunReport
from e2e.test_resume import dump
from faults.inline import KillAfter, KilledError
from plan.test_plan import snapshot, texts_of

MakePlan = Callable[..., Plan]
Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


@pytest.fixture
def begun(score: Score, tmp_path: Path, reviews: Reviews) -> Callable[[int], Path]:
    """A DIR after a kill, of three shards of different formats with three parts each."""

    def run(stop_after: int) -> Path:
        source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
        with pytest.raises(KilledError):
            score(source, output=out, progress=KillAfter(stop_after))
        return out

    return run


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5, 7])
def test_a_resumed_run_keeps_what_was_planned(
    begun: Callable[[int], Path], plan: MakePlan, score: Score, tmp_path: Path, stop_after: int
) -> None:
    out = begun(stop_after)
    before = snapshot(tmp_path)
    found = plan(tmp_path / "in", output=out)
    assert snapshot(tmp_path) == before
    report = score(tmp_path / "in", output=out)
    assert found.kept.size_bytes == report.kept_bytes
    assert found.kept.shard_count == report.kept_shard_count
    assert found.kept.record_count == report.totals["record_count"] - report.record_count > 0
    assert (found.kept.assumed_shard_count, found.kept.unknown_bytes) == (0, 0)
    if found.texts is None:  # what was on its way when the run died was committed all the same
        assert report.record_count == 0
        return
    assert texts_of(found).record_count.expected == pytest.approx(report.record_count, rel=0.02)
    assert texts_of(found).token_count == pytest.approx(report.token_count, rel=0.02)
    assert texts_of(found).part_count == report.part_count


def test_input_is_not_hashed_by_the_gigabyte(
    begun: Callable[[int], Path], plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(6)  # of nine; two more may be on their way
    known = plan(tmp_path / "in", output=out).kept
    (out / "_batchsent/digests.json").unlink(missing_ok=True)
    monkeypatch.setattr(kept, "HASHED_BYTES", 0)
    found = plan(tmp_path / "in", output=out).kept
    assert known.shard_count == found.shard_count == found.assumed_shard_count >= 2
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "in").rglob("*.*")}
    assert found.unknown_bytes == sum(sizes.values()) - found.size_bytes
    assert known.record_count > found.record_count, "of the third it is not known which parts are its own"


def test_a_published_directory(plan: MakePlan, score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    before = snapshot(tmp_path)
    found = plan(source, output=out)
    assert found.is_done
    assert (found.texts, found.kept.shard_count, found.kept.record_count) == (None, 3, 330)
    (source / "a.csv").write_bytes((source / "a.csv").read_bytes() + b"good,1\n")
    changed = plan(source, output=out)
    assert not changed.is_done
    assert (changed.kept.shard_count, texts_of(changed).record_count.expected) == (2, 121)
    (source / "a.csv").unlink()
    fewer = plan(source, output=out)
    assert (fewer.kept.shard_count, fewer.shard_count, fewer.texts, fewer.is_done) == (2, 2, None, False)
    (out / "c.parquet").write_bytes(b"")
    damaged = plan(source, output=out)
    assert damaged.kept.shard_count == 1
    after = snapshot(tmp_path)
    changed_names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed_names == {"in", "in/a.csv", "out/c.parquet"}, "by this test alone"


def test_other_settings_are_refused_unless_restarted(
    begun: Callable[[int], Path], plan: MakePlan, tmp_path: Path
) -> None:
    out = begun(5)
    with pytest.raises(SettingsChangedError, match="max-length: 128 → 32"):
        plan(tmp_path / "in", output=out, max_length=32)
    found = plan(tmp_path / "in", output=out, max_length=32, restart=True)
    assert (found.kept.shard_count, found.max_length, texts_of(found).record_count.expected) == (0, 32, 330)


def test_a_run_in_flight_is_told(plan: MakePlan, score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    seen: list[Any] = []

    class Look(KillAfter):
        def update(self, report: RunReport) -> None:
            seen.append(plan(source, output=out).is_held)
            super().update(report)

    with pytest.raises(KilledError):
        score(source, output=out, progress=Look(1))
    assert seen
    assert all(seen)
    assert not plan(source, output=out).is_held
