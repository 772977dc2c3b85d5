"""``score --report``: written where somebody may look, and never in the way of what the run has done."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchsent
from batchsent import checkpoint
from batchsent.config import ScoreConfig
from batchsent.errors import BatchsentError, DriftError, IncompleteError, StoppedError, UsageError
from batchsent.html_report import run as report_run
from batchsent.html_report.run import run_reported
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.shares import Share
from batchsent.stop import StopSignal
from html_report.conftest import Cli
from html_report.pages import Page, require_self_contained
from support import published, write_csv

Reviews = Callable[[int], list[str]]
Run = Callable[..., RunReport]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Run:
    """run_reported with the tiny model, into 'out', with 'page.html' as the report."""

    def score(source: Path, **options: Any) -> RunReport:
        own = {name: options.pop(name) for name in ("share", "progress", "stop") if name in options}
        settings: dict[str, Any] = {"model": str(tiny_model), "precision": "fp32", "threads": 1, "device": "cpu"}
        settings |= {"backend": "torch", "rows_per_part": 50, "report": str(tmp_path / "page.html")}
        return run_reported(
            ScoreConfig(inputs=(str(source),), output=str(tmp_path / "out"), **settings | options), **own
        )

    return score


def page_in(tmp_path: Path) -> Page:
    page = Page.at(tmp_path / "page.html")
    require_self_contained(page)
    return page


def test_of_a_run_that_published(run: Run, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ["good film", "bad", ""])
    assert run(source).state == "published"
    assert "out published" in page_in(tmp_path).text
    (tmp_path / "page.html").unlink()
    assert run(source).state == "nothing to do"
    assert "out published" in page_in(tmp_path).text


def test_it_changes_no_byte_of_the_results(run: Run, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "a.csv", reviews(60))
    run(source)
    with_report = published(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "before")
    run(source, report=None)
    assert published(tmp_path / "out") == with_report


@pytest.mark.parametrize("why", ["a shard", "bad rows", "a bad row"])
def test_of_a_run_that_ends_with_3(run: Run, tmp_path: Path, why: str) -> None:
    write_csv(tmp_path / "in/a.csv", ["good film", "bad"] * 30)
    if why == "a shard":
        (tmp_path / "in/b.csv").write_text('text\n"it never ends\n')
    else:
        (tmp_path / "in/b.csv").write_text("text\ngood,x\ngood\n")
    with pytest.raises(IncompleteError) as ended:
        run(tmp_path / "in", on_bad_row="fail" if why == "a bad row" else "reject")
    page = page_in(tmp_path)
    assert "out not published" in page.text
    assert str(ended.value) in page.text


def test_of_a_run_that_ends_with_4(run: Run, tmp_path: Path) -> None:
    run(write_csv(tmp_path / "a.csv", ["good film it was not bad " * 5] * 60))
    (tmp_path / "out").rename(tmp_path / "before")
    with pytest.raises(DriftError):
        run(
            write_csv(tmp_path / "b.csv", ["good"] * 60),
            baseline=str(tmp_path / "before" / checkpoint.MANIFEST),
            max_drift=0.2,
        )
    page = page_in(tmp_path)
    assert "out held back" in page.text
    assert "above the limit" in page.section("drift").text
    assert "--theirs" in page.section("distributions").source


def test_not_of_a_run_that_was_stopped(run: Run, tmp_path: Path, reviews: Reviews) -> None:
    stop = StopSignal()

    class Stops(NoProgress):
        def start(self, report: RunReport) -> None:
            stop._handle(signal.SIGTERM, None)

    with pytest.raises(StoppedError):
        run(write_csv(tmp_path / "a.csv", reviews(400)), progress=Stops(), stop=stop)
    assert not (tmp_path / "page.html").exists()


def test_not_of_a_run_that_could_not_begin(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        run(write_csv(tmp_path / "a.csv", ["good"]), text_column="body")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("place", ["missing/page.html", "folder", "out/page.html", "s3://bucket/page.html"])
def test_a_place_that_it_cannot_have_is_exit_2_before_the_work(run: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    given = place if "://" in place else str(tmp_path / place)
    with pytest.raises(UsageError) as ended:
        run(write_csv(tmp_path / "a.csv", ["good"]), report=given)
    assert ended.value.exit_code == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("a review"), StoppedError(signal.SIGTERM)])
@pytest.mark.parametrize("source", ["good", "with a shard that failed"])
def test_a_report_that_fails_is_one_warning(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    source: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(report_run, "render", fail)
    write_csv(tmp_path / "in/a.csv", ["good film", "bad"])
    with caplog.at_level(logging.WARNING, "batchsent"):
        if source == "good":
            assert run(tmp_path / "in").state == "published"
        else:
            (tmp_path / "in/b.csv").write_text('text\n"it never ends\n')
            with pytest.raises(IncompleteError):
                run(tmp_path / "in")
    (said,) = [record.getMessage() for record in caplog.records if "report" in record.getMessage()]
    assert said.startswith("the report was not written")
    assert "a review" not in said
    assert not (tmp_path / "page.html").exists()


def test_one_that_is_there_is_replaced(cli: Cli, tmp_path: Path, tiny_model: Path) -> None:
    source, page = write_csv(tmp_path / "a.csv", ["good"]), tmp_path / "page.html"
    page.write_text("<html>the one before</html>", encoding="utf-8")
    code, _, err = cli("score", source, "--output", tmp_path / "out", "--model", tiny_model, "--report", page)
    assert (code, "report" in err) == (0, False)
    assert "out published" in page_in(tmp_path).text


def test_of_ranks_the_one_that_publishes_writes_it(run: Run, tmp_path: Path, reviews: Reviews) -> None:
    for index in range(4):
        write_csv(tmp_path / f"in/{index}.csv", reviews(60 + index))
    first = run(tmp_path / "in", share=Share(0, 2))
    assert first.state == "share done"
    assert not (tmp_path / "page.html").exists()
    assert run(tmp_path / "in", share=Share(1, 2)).state == "published"
    assert "2 ranks, the first begun" in page_in(tmp_path).text


def test_of_ranks_the_one_that_would_have_published_writes_it(run: Run, tmp_path: Path, reviews: Reviews) -> None:
    for index in range(4):
        write_csv(tmp_path / f"in/{index}.csv", [*reviews(60 + index), "", ""])
    (tmp_path / "in/5.csv").write_text("text\ngood,x\n" + "good\n" * 20)
    run(tmp_path / "in", share=Share(0, 2))
    assert not (tmp_path / "page.html").exists()
    with pytest.raises(IncompleteError):
        run(tmp_path / "in", share=Share(1, 2), max_reject_rate=0.0)
    assert "out not published" in page_in(tmp_path).text


def test_in_python(tmp_path: Path, tiny_model: Path) -> None:
    source = write_csv(tmp_path / "a.csv", ["good"])
    batchsent.score(source, output=tmp_path / "out", model=str(tiny_model), report=str(tmp_path / "page.html"))
    assert "out published" in page_in(tmp_path).text


def test_errors_of_the_run_are_the_run_s(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BatchsentError, match="does not exist"):
        run(tmp_path / "nothing.csv")
