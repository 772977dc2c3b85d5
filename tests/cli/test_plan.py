"""``batchsent plan`` and ``score --dry-run`` on the command line; what the run's summary says of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.cli import main
from batchsent.models.cache import cache_directory
from batchsent.plan import passes, remembered
from support import write_csv

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(passes, "FORWARD_SECONDS", 0.2)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tiny_model: Path) -> Run:
    """Call a command with the tiny model; exit code, stdout and stderr."""
    options = ("--model", str(tiny_model), "--backend", "torch", "--precision", "fp32", "--device", "cpu")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *options])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def dump(tmp_path: Path, reviews: Callable[[int], list[str]]) -> str:
    return str(write_csv(tmp_path / "r.csv", reviews(120)))


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def summary(run: Run, *arguments: str) -> str | None:
    """What the summary of a run says of the plan."""
    code, out, err = run("score", *arguments)
    assert code == 0, err
    lines = [line.split(None, 1) for line in out.splitlines()]
    return next((value for name, value in lines if name == "planned"), None)


def test_a_table_for_people(run: Run, dump: str, out: str) -> None:
    code, table, err = run("plan", dump, "--output", out, "--price-per-hour", "3")
    assert code == 0, err
    names = [line.split("  ")[0].strip() for line in table.splitlines()]
    for name in ("input", "to score", "tokens", "batches", "time", "hours", "cost", "rests on"):
        assert name in names or any(line.lstrip().startswith(f"{name}  ") for line in table.splitlines()), name
    assert "120 records in 1 part" in table
    assert not Path(out).exists()


def test_json_for_a_scheduler(run: Run, dump: str) -> None:
    code, text, err = run("plan", dump, "--json", "--price-per-hour", "36")
    assert code == 0, err
    found = json.loads(text)
    assert found["texts"]["record_count"] == {"expected": 120, "low": 120, "high": 120}
    assert found["cost"] == pytest.approx(found["seconds"]["expected"] / 100)
    assert found["device_hours"] == pytest.approx(found["seconds"]["expected"] / 3_600)


def test_a_dry_run_is_a_plan(run: Run, dump: str, out: str, tmp_path: Path) -> None:
    told = ("input", "settings", "to score", "tokens", "duplicates", "batches", "disk")

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.lstrip().startswith(told)]

    code, planned, _ = run("plan", dump, "--output", out)
    other_code, dry, _ = run("score", dump, "--output", out, "--dry-run")
    assert (code, other_code) == (0, 0)
    assert lines(dry) == lines(planned)
    assert len(lines(dry)) == len(told)
    assert not Path(out).exists()
    assert len(list((cache_directory() / "plans").glob("*.json"))) == 1, "of one run"


def test_a_job_file_of_score_is_taken(run: Run, dump: str, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'input = "{dump}"\noutput = "{tmp_path}/out"\nmax-length = 16\n', encoding="utf-8")
    code, table, err = run("plan", "--config", str(job))
    assert code == 0, err
    assert "truncated at 16" in table


def test_errors_are_those_of_score(run: Run, dump: str, out: str) -> None:
    code, _, err = run("plan", dump, "--text-column", "body")
    score_code, _, score_err = run("score", dump, "--output", out, "--text-column", "body")
    assert (code, err) == (score_code, score_err)
    assert code == 2
    assert run("plan")[0] == 2
    assert run("plan", dump, "--price-per-hour", "-1")[0] == 2


def test_a_report_that_score_would_refuse_is_refused(run: Run, dump: str, tmp_path: Path) -> None:
    code, table, err = run("plan", dump, "--report", str(tmp_path / "none/page.html"))
    assert (code, table) == (2, "")
    assert "none, for the report, is not a directory" in err


def test_the_summary_says_how_far_off_the_plan_was(run: Run, dump: str, out: str) -> None:
    assert run("plan", dump)[0] == 0
    told = summary(run, dump, "--output", out)
    assert told is not None
    assert "; took " in told
    record = json.loads(next(Path(out, "_batchsent/runs").iterdir()).read_bytes())
    assert record["plan"].keys() == {"planned_at", "seconds", "low", "high"}
    assert record["plan"]["low"] < record["plan"]["seconds"] < record["plan"]["high"]
    assert summary(run, dump, "--output", out) is None, "there was nothing to do"


def test_without_a_plan_for_this_run_it_says_nothing(run: Run, dump: str, out: str, tmp_path: Path) -> None:
    assert summary(run, dump, "--output", out) is None
    assert not (tmp_path / "cache/batchsent/plans").exists()
    assert run("plan", dump, "--max-length", "16")[0] == 0
    assert summary(run, dump, "--output", f"{out}-2", "--max-length", "32") is None, "other settings"
    assert summary(run, dump, "--output", f"{out}-3", "--max-length", "16", "--workers", "2") is None, "other workers"
    with Path(dump).open("a", encoding="utf-8") as file:
        file.write("good film\n")
    assert summary(run, dump, "--output", f"{out}-4", "--max-length", "16") is None, "other input"


def test_nor_where_the_run_began_elsewhere_than_the_plan_thought(
    run: Run, dump: str, out: str, tmp_path: Path, reviews: Callable[[int], list[str]]
) -> None:
    second = str(write_csv(tmp_path / "more" / "s.csv", reviews(70)))
    assert summary(run, dump, "--output", out) is None
    assert run("plan", dump, second)[0] == 0
    assert summary(run, dump, second, "--output", out) is None, "one shard was finished before"
    Path(second).write_text("text\ngood film\n", encoding="utf-8")
    assert run("plan", dump, second, "--output", out)[0] == 0
    assert summary(run, dump, second, "--output", out) is not None, "of what was left"


def test_losing_the_cache_costs_that_line_alone(
    run: Run, dump: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("plan", dump)[0] == 0
    (file,) = (tmp_path / "cache/batchsent/plans").glob("*.json")
    file.write_bytes(b"{broken")
    assert summary(run, dump, "--output", out) is None
    file.write_bytes(b'{"kept_bytes": 0}')
    assert summary(run, dump, "--output", f"{out}-2") is None
    (tmp_path / "nowhere").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    code, table, err = run("plan", dump)
    assert (code, "120 records" in table) == (0, True), err
    assert "the plan is not kept" in err


def test_a_cache_that_must_not_be_looked_into_does_not_keep_a_run_from_publishing(
    run: Run, dump: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where HOME is another user's."""
    real = Path.exists

    def exists(path: Path, **options: Any) -> bool:
        if path.name == "plans":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "exists", exists)
    assert summary(run, dump, "--output", out) is None
    assert (Path(out) / "_SUCCESS").exists()


def test_old_plans_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, dump: str) -> None:
    monkeypatch.setattr(remembered, "_KEPT_PLANS", 2)
    for length in ("16", "17", "18", "19"):
        assert run("plan", dump, "--max-length", length)[0] == 0
    assert len(list((tmp_path / "cache/batchsent/plans").glob("*.json"))) == 2


def test_silence_but_for_the_plan(run: Run, dump: str) -> None:
    code, table, err = run("plan", dump, "--progress", "none")
    assert (code, err) == (0, "")
    assert table


def test_json_logs_have_the_plan(run: Run, dump: str, out: str) -> None:
    assert run("plan", dump)[0] == 0
    code, _, err = run("score", dump, "--output", out, "--log-format", "json")
    assert code == 0
    entries: list[dict[str, Any]] = [json.loads(line) for line in err.splitlines()]
    assert entries[-1]["summary"]["plan"]["seconds"] > 0
