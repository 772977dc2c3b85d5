"""The page of a real run: every section is there, its numbers are the run's, and it is complete in itself."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, load_manifest
from batchsent.errors import DriftError, IncompleteError, TemporaryError, UsageError
from batchsent.html_report.overview import RUNS_SHOWN, SHARDS_SHOWN
from batchsent.html_report.page import FAILURES_SHOWN
from batchsent.reporting.run_report import RunReport
from batchsent.shares import Share
from batchsent.storage import LocalStore
from faults.inline import KillAfter, KilledError
from html_report.conftest import CANARY, Cli, Report
from html_report.pages import Page, require_self_contained
from support import make_bert, published, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]

MAPS = ("1,2=NEGATIVE", "4,5=POSITIVE")


def manifest_of(directory: Path) -> Manifest:
    manifest = load_manifest(LocalStore(directory))
    assert manifest is not None
    return manifest


def with_manifest(source: Path, target: Path, manifest: Manifest) -> Path:
    """A copy of a published DIR whose manifest is another one; its files need not exist."""
    shutil.copytree(source, target)
    (target / checkpoint.MANIFEST).write_bytes(manifest.to_json())
    (target / checkpoint.SUCCESS).write_text(checkpoint.success_line(manifest.to_json()), encoding="ascii")
    return target


# --- the sections


def test_every_section_of_a_published_run(scored: Path, report: Report) -> None:
    page = report(scored, maps=MAPS, baseline=str(scored / checkpoint.MANIFEST))
    assert page.sections == ["labels", "distributions", "drift", "quality", "rejects", "speed", "what"]
    require_self_contained(page)
    assert "scored published" in page.text
    totals = manifest_of(scored).totals()
    assert re.search(rf"records {totals['record_count']} in 3 shards scored {totals['row_count']} ", page.text)
    assert "embedded" in page.section("what").text
    assert "sha256:" in page.section("what").text


def test_labels_and_their_shares_are_those_of_the_outputs(scored: Path, report: Report) -> None:
    labels = pl.concat(
        [pl.read_parquet(scored / e.output.path, columns=["label"]) for e in manifest_of(scored).shards]
    )["label"].cast(pl.String)
    text = report(scored).section("labels").text
    for label in ("NEGATIVE", "POSITIVE"):
        count = int((labels == label).sum())
        assert f"{label} {count / len(labels):.1%} · {count}" in text


def test_the_tables_beside_the_pictures_hold_every_row(scored: Path, report: Report) -> None:
    section = report(scored).section("distributions")
    row_count = manifest_of(scored).totals()["row_count"]
    tables = section.source.split("<table>")[1:]
    assert len(tables) == 2
    for table in tables:
        counts = [int(row[1]) for row in Page(f"<table>{table.split('</table>')[0]}</table>").rows[1:]]
        assert sum(counts) == row_count
    assert section.source.count("<svg") == section.source.count('role="img" aria-label="Histogram') == 2


def test_truncated_texts_are_counted(score: Score, tmp_path: Path, report: Report) -> None:
    score(write_csv(tmp_path / "a.csv", ["good film " * 20, "bad"]), output=tmp_path / "out", max_length=8)
    assert "truncated 50.0% 1 text cut" in report(tmp_path / "out").text


def test_rejects_are_counted_and_located(scored: Path, report: Report) -> None:
    section = report(scored).section("rejects")
    counts = manifest_of(scored).totals()["reject_counts"]
    assert [row for row in section.rows if row[0] in counts and row[1] == str(counts[row[0]])]
    files = pl.concat([pl.read_parquet(path) for path in (scored / checkpoint.REJECTS).rglob("*.parquet")])
    assert len(files) == sum(counts.values()) == 7
    for shard, row_index, offset, _, detail in files.iter_rows():
        place = [
            f"row_index {row_index}",
            *([] if offset is None else [f"byte_offset {offset}"]),
            *filter(None, [detail]),
        ]
        below_shard = section.text.split(shard, 1)[1]
        assert " ".join(place) in below_shard


def test_what_was_scored_with_what(scored: Path, dump: Path, report: Report) -> None:
    text = report(scored).section("what").text
    (record,) = [json.loads(path.read_bytes()) for path in (scored / checkpoint.RUNS).iterdir()]
    for named in (str(dump), "stars", record["host"], "cpu", "fp32, by torch, padded batches", "NEGATIVE, POSITIVE"):
        assert named in text
    for library, version in record["versions"].items():
        assert f"{library} {version}" in text
    for name, sha256 in json.loads((scored / checkpoint.CONFIG).read_bytes())["model_files"].items():
        assert f"model file {name} {sha256}" in text


def test_speed_is_that_of_the_run_s_record(scored: Path, report: Report) -> None:
    (record,) = [json.loads(path.read_bytes()) for path in (scored / checkpoint.RUNS).iterdir()]
    text = report(scored).section("speed").text
    assert f"records/s {record['record_count'] / record['scoring_seconds']:,.0f} " in text
    padding = record["padding_count"] / (record["padding_count"] + record["token_count"])
    assert f"padding {padding:.1%} of what went through the model" in text
    for stage, seconds in record["stage_seconds"].items():
        assert f"{stage} {seconds:,.1f} s" in text


def test_the_throughput_of_many_marks(scored: Path, tmp_path: Path, report: Report) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "out"))
    (path,) = (out / checkpoint.RUNS).iterdir()
    record = json.loads(path.read_bytes())
    record |= {"timeline": [[30.0 * k, 1000 * k] for k in range(1, 201)], "scoring_seconds": 6000.0}
    path.write_text(json.dumps(record | {"record_count": 200_000}), encoding="utf-8")
    section = report(out).section("speed")
    assert "minutes of scoring" in section.text
    assert "mean 33" in section.text
    assert ["6,000.0 s", "200,000"] in section.rows
    assert len(section.rows) == 21


# --- states of DIR


def test_a_run_that_was_not_published_says_why(tmp_path: Path, report: Report, score: Score) -> None:
    write_csv(tmp_path / "in/a.csv", ["good film", "", "bad"])
    (tmp_path / "in/b.csv").write_text('text\n"it never ends\n')
    with pytest.raises(IncompleteError) as ended:
        score(tmp_path / "in", output=tmp_path / "out")
    page = report(tmp_path / "out")
    assert "out not published" in page.text
    assert str(ended.value) in page.text
    assert "not published: " not in page.text
    assert "1 failed" in page.text
    assert page.sections[0] == "failed"
    assert page.section("failed").rows[1][0] == "b.csv"


def test_of_very_many_failures_the_first_are_named(scored: Path, tmp_path: Path, report: Report) -> None:
    failed = {f"shard-{index:04}.csv": f"shard-{index:04}.csv is cut short" for index in range(1000)}
    out = with_manifest(scored, tmp_path / "out", replace(manifest_of(scored), failed=failed))
    section = report(out).section("failed")
    assert len(section.rows) == 1 + FAILURES_SHOWN
    assert f"and {1000 - FAILURES_SHOWN:,} more" in section.text


@pytest.mark.parametrize("is_first_shard_done", [False, True])
def test_a_run_that_was_killed_counts_what_is_committed(
    score: Score, tmp_path: Path, reviews: Reviews, report: Report, is_first_shard_done: bool
) -> None:
    texts = [*reviews(198), "", ""]
    write_csv(tmp_path / "in/a.csv", texts[:100], gold=["NEGATIVE"] * 100)
    write_csv(tmp_path / "in/b.csv", texts[100:], gold=["NEGATIVE"] * 100)
    kill_after = 3 if is_first_shard_done else 1
    with pytest.raises(KilledError):
        score(tmp_path / "in", output=tmp_path / "out", label_column="gold", progress=KillAfter(kill_after))
    before = published(tmp_path / "out")
    page = report(tmp_path / "out")
    assert published(tmp_path / "out") == before
    assert "out stopped" in page.text
    assert "this page counts what was committed" in page.text
    parts = (tmp_path / "out/_batchsent/parts").rglob("*.parquet")
    committed = sum(pq.read_metadata(part).num_rows for part in parts)
    assert f"records {committed} in 2 shards, {2 - is_first_shard_done} not finished" in page.text
    assert sum(int(row[1]) for row in page.section("distributions").rows if row[1].isdigit()) == 2 * committed
    assert ("accuracy" in page.section("quality").text) == is_first_shard_done


def test_what_was_published_before_is_still_there_while_more_is_scored(
    score: Score, tmp_path: Path, reviews: Reviews, report: Report
) -> None:
    for index in range(3):
        write_csv(tmp_path / f"in/{index}.csv", reviews(40))
    score(tmp_path / "in", output=tmp_path / "out")
    write_csv(tmp_path / "in/3.csv", reviews(120))
    with pytest.raises(KilledError):
        score(tmp_path / "in", output=tmp_path / "out", progress=KillAfter(1))
    page = report(tmp_path / "out").text
    assert re.search(r"records (170|220|240) in 4 shards, 1 not finished", page), (
        "what was in work when it ended may be there"
    )


def test_a_run_in_flight(scored: Path, tmp_path: Path, report: Report) -> None:
    store = LocalStore(shutil.copytree(scored, tmp_path / "out"))
    with store.lock():
        assert "published; a run is looking for changes now" in report(tmp_path / "out").text
        (tmp_path / "out" / checkpoint.CONFIG).unlink()
        with pytest.raises(TemporaryError, match="has just begun"):
            report(tmp_path / "out")


def test_an_audit_is_told(score: Score, tmp_path: Path, reviews: Reviews, report: Report) -> None:
    score(write_csv(tmp_path / "a.csv", reviews(20)), output=tmp_path / "out", audit=5)
    text = report(tmp_path / "out").section("what").text
    assert re.search(
        r"audit 5 rows, largest difference \S+ \(limit 0.0001\), 0 labels changed, each alone in fp32", text
    )


def test_a_run_that_scored_nothing(tmp_path: Path, report: Report, score: Score) -> None:
    score(write_csv(tmp_path / "a.csv", ["", "  "]), output=tmp_path / "out", label_column=None)
    page = report(tmp_path / "out")
    assert page.sections == ["labels", "rejects", "speed", "what"]
    assert "No row was scored." in page.text
    assert "empty_text 2 100.0%" in page.text


def test_a_run_of_an_empty_file(tmp_path: Path, report: Report, score: Score) -> None:
    score(write_csv(tmp_path / "a.csv", []), output=tmp_path / "out")
    page = report(tmp_path / "out")
    assert "records 0 in 1 shard" in page.text
    assert "None." in page.section("rejects").text
    require_self_contained(page)


def test_a_restarted_directory_is_that_of_its_last_settings(tmp_path: Path, report: Report, score: Score) -> None:
    source = write_csv(tmp_path / "a.csv", ["good film", "bad"])
    score(source, output=tmp_path / "out", max_length=64)
    score(source, output=tmp_path / "out", max_length=32, restart=True)
    text = report(tmp_path / "out").section("what").text
    assert "32 tokens" in text
    assert "Runs that worked on it" in text


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "parquet"])
def test_a_directory_that_is_not_ours(kind: str, tmp_path: Path, cli: Cli) -> None:
    place = tmp_path / "other"
    if kind == "file":
        place.write_text("x")
    elif kind != "missing":
        place.mkdir()
    if kind == "parquet":
        pl.DataFrame({"a": [1]}).write_parquet(place / "a.parquet")
    code, out, err = cli("report", place, "--output", tmp_path / "page.html")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert not (tmp_path / "page.html").exists()


# --- ranks


def test_ranks_are_one_run(score: Score, tmp_path: Path, reviews: Reviews, report: Report) -> None:
    for index in range(4):
        write_csv(tmp_path / f"in/{index}.csv", reviews(100 + index))
    for rank in range(2):
        score(tmp_path / "in", output=tmp_path / "out", share=Share(rank, 2))
    page = report(tmp_path / "out")
    assert "2 ranks, the first begun" in page.section("speed").text
    assert f"records {sum(100 + index for index in range(4))} in 4 shards" in page.text
    assert re.search(r"rank 1 \d+", page.section("what").text)


def test_ranks_that_are_not_done(score: Score, tmp_path: Path, reviews: Reviews, report: Report) -> None:
    for index in range(4):
        write_csv(tmp_path / f"in/{index}.csv", reviews(60))
    score(tmp_path / "in", output=tmp_path / "out", share=Share(0, 2))
    assert "Ranks: share done: 0; not begun: 1" in report(tmp_path / "out").text


def test_a_shard_that_failed_in_one_rank_is_named(
    score: Score, tmp_path: Path, reviews: Reviews, report: Report
) -> None:
    for index in range(3):
        write_csv(tmp_path / f"in/{index}.csv", reviews(60))
    (tmp_path / "in/3.csv").write_text('text\n"it never ends\n')
    for rank in range(2):
        with contextlib.suppress(IncompleteError):
            score(tmp_path / "in", output=tmp_path / "out", share=Share(rank, 2))
    assert report(tmp_path / "out").section("failed").rows[1][0] == "3.csv"


# --- drift


@pytest.fixture
def moved(score: Score, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of one model: of long texts, and of short ones."""
    score(write_csv(tmp_path / "a.csv", ["good film it was not bad " * 5] * 60 + ["bad"] * 40), output=tmp_path / "one")
    with pytest.raises(DriftError):
        score(
            write_csv(tmp_path / "b.csv", ["good"] * 100),
            output=tmp_path / "two",
            baseline=str(tmp_path / "one" / checkpoint.MANIFEST),
            max_drift=0.25,
        )
    return tmp_path / "one", tmp_path / "two"


def test_drift_that_was_recorded(moved: tuple[Path, Path], report: Report) -> None:
    page = report(moved[1])
    text = page.section("drift").text
    assert "held back" in page.text
    assert f"Against {moved[0] / checkpoint.MANIFEST}, with the limit 0.25" in text
    assert "above the limit" in text
    assert "much" in text
    assert "To see both distributions" in text
    assert "--theirs" not in page.section("distributions").source


def test_drift_from_a_baseline_that_is_named_afterwards(moved: tuple[Path, Path], report: Report) -> None:
    recorded = report(moved[1]).section("drift").rows
    page = report(moved[1], baseline=str(moved[0] / checkpoint.MANIFEST))
    assert page.section("drift").rows == recorded
    assert "with the limit 0.25" in page.section("drift").text
    assert "To see both" not in page.text
    pictures = page.section("distributions")
    assert pictures.source.count("stroke: var(--theirs)") >= 2
    assert [row for row in pictures.rows if row[0] == "tokens of the text"] == [
        ["tokens of the text", "rows", "share", "baseline"]
    ]
    assert page.section("labels").source.count('class="bar theirs"') == 2
    other_way = report(moved[0], baseline=str(moved[1] / checkpoint.MANIFEST))
    assert "limit" not in other_way.section("drift").text.split("Population")[0]


def test_a_baseline_of_another_model_is_refused(scored: Path, tmp_path: Path, score: Score, cli: Cli) -> None:
    model = make_bert(tmp_path / "model", labels=("A", "B"))
    score(write_csv(tmp_path / "a.csv", ["good"]), output=tmp_path / "out", model=str(model))
    baseline = tmp_path / "out" / checkpoint.MANIFEST
    code, _, err = cli("report", scored, "--output", tmp_path / "page.html", "--baseline", baseline)
    assert code == 2
    assert "is of a model with the labels A, B" in err


# --- what is in it, and what is not


def test_no_text_of_a_review_is_in_it(scored: Path, report: Report) -> None:
    page = report(scored, maps=MAPS)
    assert CANARY not in page.source
    assert "no text of a review" in page.text


def test_labels_and_names_are_escaped(score: Score, tmp_path: Path, report: Report) -> None:
    nasty = "<script>alert('x')</script>"
    model = make_bert(tmp_path / "model", labels=(nasty, 'B"><img src=x onerror=1>'))
    name = "a<b>&\"'.csv"
    write_csv(tmp_path / "in" / name, ["good film", "", "bad"] * 20, **{"<i>gold": [nasty, nasty, "x|y"] * 20})
    score(tmp_path / "in", output=tmp_path / "<o>ut", model=str(model), label_column="<i>gold", max_reject_rate=1.0)
    page = report(tmp_path / "<o>ut", maps=(f"{nasty}={nasty}",))
    require_self_contained(page)
    assert nasty in page.section("labels").text
    assert nasty in page.section("quality").text
    assert name in page.section("rejects").text
    assert "<o>ut" in page.text


def test_names_in_pictures_are_no_formulas(score: Score, tmp_path: Path, report: Report) -> None:
    model = make_bert(tmp_path / "model", labels=("$x_1", "#1f6feb"))
    score(write_csv(tmp_path / "a.csv", ["good film"]), output=tmp_path / "out", model=str(model))
    text = report(tmp_path / "out").section("labels").text
    assert "$x_1" in text
    assert "#1f6feb" in text


def test_many_shards_and_long_names(scored: Path, tmp_path: Path, report: Report) -> None:
    manifest = manifest_of(scored)
    first = replace(manifest.shards[0], reject_counts={})
    shards = [replace(first, shard=f"{'very-long-' * 20}{index:04}.csv") for index in range(1000)]
    out = with_manifest(scored, tmp_path / "out", Manifest(manifest.fingerprint, tuple(shards)))
    page = report(out)
    assert f"the {SHARDS_SHOWN} of 1,000 of which most was rejected" in page.text
    assert f"records {1000 * first.record_count:,} in 1,000 shards" in page.text
    assert len(page.source) < 400_000


def test_many_runs(scored: Path, tmp_path: Path, report: Report) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "out"))
    (path,) = (out / checkpoint.RUNS).iterdir()
    record = json.loads(path.read_bytes())
    for index in range(300):
        content = record | {"run_id": f"r{index}", "versions": record["versions"] | {"torch": "0.9"}}
        (path.parent / f"20200101T000000Z-{index:06}.json").write_text(json.dumps(content), encoding="utf-8")
    text = report(out).section("what").text
    assert f"the last {RUNS_SHOWN} of 301" in text
    assert "earlier runs: torch 0.9" in text


def test_many_labels(tmp_path: Path, score: Score, report: Report, reviews: Reviews) -> None:
    labels = tuple(f"label {index}" for index in range(40))
    model = make_bert(tmp_path / "model", labels=labels)
    source = write_csv(tmp_path / "a.csv", reviews(200), gold=[labels[index % 40] for index in range(200)])
    score(source, output=tmp_path / "out", model=str(model), label_column="gold")
    page = report(tmp_path / "out")
    assert "… and 10 labels with fewer rows" in page.section("labels").text
    quality = page.section("quality")
    assert "Most frequent confusions" in quality.text
    assert 'class="matrix"' not in quality.source


@pytest.mark.parametrize(
    "record", [{}, {"started_at": "once"}, {"timeline": [[0.0, 5], [0.0, 9]]}, {"stage_seconds": {}}]
)
def test_records_that_say_little(scored: Path, tmp_path: Path, report: Report, record: dict[str, Any]) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "out"))
    (path,) = (out / checkpoint.RUNS).iterdir()
    kept = {"run_id": "x", "state": "published", "record_count": 5, "scoring_seconds": 0.0}
    path.write_text(json.dumps(kept | record), encoding="utf-8")
    require_self_contained(report(out))


def test_a_directory_without_records_of_runs(scored: Path, tmp_path: Path, report: Report) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "out"))
    shutil.rmtree(out / checkpoint.RUNS)
    page = report(out)
    assert "out published" in page.text
    assert "speed" not in page.sections


def test_outputs_that_are_gone_or_damaged_leave_the_rest(scored: Path, tmp_path: Path, report: Report) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "out"))
    (out / "a.parquet").unlink()
    (out / checkpoint.REJECTS / "a.parquet").write_bytes(b"PAR1 nothing")
    page = report(out, maps=MAPS)
    assert "could not be read (FileNotFoundError)" in page.section("quality").text
    assert "_batchsent/rejects/a.parquet could not be read" in page.section("rejects").text
    assert "labels" in page.sections


# --- where it goes


def test_its_place_if_none_is_named(scored: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("report", scored)
    assert (code, out, err) == (0, f"written: {tmp_path / 'scored-report.html'}\n", "")
    require_self_contained(Page.at(tmp_path / "scored-report.html"))


@pytest.mark.parametrize(
    "place", ["missing/page.html", "folder", "reviews.csv", "OUT/page.html", "OUT/_batchsent/page.html"]
)
def test_places_that_it_cannot_have(scored: Path, tmp_path: Path, report: Report, place: str) -> None:
    out = Path(shutil.copytree(scored, tmp_path / "OUT"))
    (tmp_path / "folder").mkdir()
    write_csv(tmp_path / "reviews.csv", ["good"])
    before = sorted(out.rglob("*"))
    with pytest.raises(UsageError):
        report(out, output=str(tmp_path / place))
    assert sorted(out.rglob("*")) == before
    assert not (tmp_path / "missing").exists()


def test_it_writes_nothing_else(scored: Path, tmp_path: Path, report: Report) -> None:
    before = {path: path.stat().st_mtime_ns for path in scored.rglob("*")}
    report(scored, include_text=True)
    assert {path: path.stat().st_mtime_ns for path in scored.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_same_page_for_the_same_directory(scored: Path, report: Report) -> None:
    first, second = report(scored).source, report(scored).source
    minute = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert minute.sub("", first) == minute.sub("", second)


def test_it_is_small(scored: Path, report: Report) -> None:
    assert len(report(scored, maps=MAPS, include_text=True).source.encode()) < 200_000
