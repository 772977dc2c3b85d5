"""The metrics file: what it holds while a run goes and however it ends, and that whoever collects it can read it."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from batchsent import storage
from batchsent.checkpoint import SUCCESS
from batchsent.config import ScoreConfig
from batchsent.errors import IncompleteError, InputError, StoppedError, StorageError, UsageError
from batchsent.reporting import metrics, recorder
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.shares import ALONE, Share
from batchsent.stop import StopSignal
from support import write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(path: Path) -> Samples:
    """(name, labels but those that all have) → value; both parsers must find the same."""
    text = path.read_text(encoding="utf-8")
    found = []
    for parse in (openmetrics.text_string_to_metric_families, parser.text_string_to_metric_families):
        samples: Samples = {}
        for family in parse(text):
            for sample in family.samples:
                labels = {name: value for name, value in sample.labels.items() if name not in ("output", "rank")}
                samples[sample.name, tuple(sorted(labels.items()))] = sample.value
        found.append(samples)
    assert found[0] == found[1] != {}
    return found[0]


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"batchsent_{name}", tuple(sorted(labels.items()))))


def test_it_holds_what_the_run_reports(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "in/r.csv", [*reviews(60), "", " "]).parent
    write_csv(source / "s.csv", reviews(10))
    score(source, output=tmp_path / "base")
    report = score(
        source,
        output=tmp_path / "out",
        metrics_file=str(tmp_path / "m.prom"),
        audit=5,
        baseline=str(tmp_path / "base/_batchsent/manifest.json"),
    )
    found = read(tmp_path / "m.prom")
    expected = {
        "records_total": report.record_count,
        "rows_total": 70,
        "tokens_total": report.token_count,
        "padding_tokens_total": report.padding_count,
        "padding_ratio": report.padding_share,
        "parts_total": 3,
        "out_of_memory_splits_total": 0,
        "rows_per_second": report.rows_per_second,
        "input_bytes": report.input_bytes,
        "input_done_bytes": report.input_bytes,
        "progress_ratio": 1,
        "exit_code": 0,
        "audit_rows": 5,
        "audit_largest_difference": report.audit["largest_difference"],
        "audit_changed_labels": 0,
    }
    assert {name: value(found, name) for name in expected} == expected
    assert value(found, "rejects_total", reason="empty_text") == 2
    assert value(found, "rejects_total", reason="undecodable") == 0
    assert value(found, "shards", state="finished") == 2
    assert value(found, "stage_seconds_total", stage="forward") == report.stage_seconds.forward
    assert value(found, "drift_index", distribution="labels") == 0
    assert value(found, "run_state", state="published") == 1
    assert sum(number for (name, _), number in found.items() if name == "batchsent_run_state") == 1
    [info] = [dict(labels) for (name, labels) in found if name == "batchsent_run_info"]
    about = {"model": "tiny-bert", "precision": "fp32", "device": "cpu", "version": report.versions["batchsent"]}
    assert info == {"run_id": report.run_id, **about}
    for name in ("last_update", "last_success"):
        moment = value(found, f"{name}_timestamp_seconds")
        assert moment is not None
        assert abs(moment - time.time()) < 60


def test_node_exporter_takes_every_line(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    # It refuses a file with a type that its older format lacks, or with a time behind a value.
    score(write_csv(tmp_path / "r.csv", reviews(9)), output=tmp_path / "out", metrics_file=str(tmp_path / "m.prom"))
    lines = (tmp_path / "m.prom").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "# EOF"
    for line in lines[:-1]:
        assert re.fullmatch(
            r'# HELP \w+ \S.*|# TYPE \w+ (counter|gauge)|[a-z_0-9]+\{(\w+="[^"]*",?)+\} [0-9.e+-]+', line
        ), line
        assert line.startswith("#") or f'output="{tmp_path}/out"' in line


class Look(NoProgress):
    """Reads the file whenever a part is committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[Samples] = []

    def update(self, report: RunReport) -> None:
        self.found.append(read(self.path))


def test_it_is_replaced_while_the_run_goes(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "INTERVAL_SECONDS", -1.0)
    look = Look(tmp_path / "m.prom")
    path = write_csv(tmp_path / "r.csv", reviews(200))
    score(path, output=tmp_path / "out", metrics_file=str(look.path), progress=look)
    assert [value(found, "records_total") for found in look.found][:4] == [0, 50, 100, 150]
    for found in look.found:
        assert value(found, "run_state", state="running") == 1
        assert value(found, "exit_code") is None
        assert value(found, "last_success_timestamp_seconds") is None
    assert list(tmp_path.glob(".*")) == []


class Stopped(StopSignal):
    """A signal that came before the run had begun."""

    def check(self) -> None:
        raise StoppedError(15)


def test_it_says_that_the_run_is_alive_where_nothing_is_scored(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = write_csv(tmp_path / "r.csv", reviews(20)), tmp_path / "m.prom"
    found: list[Samples] = []

    def looked_at(stream: Any, check: Callable[[], None]) -> str:
        sha256 = storage.hash_stream(stream, check)
        found.append(read(file))
        return sha256

    monkeypatch.setattr(metrics, "INTERVAL_SECONDS", -1.0)
    monkeypatch.setattr("batchsent.digests.hash_stream", looked_at)
    score(path, output=tmp_path / "out", metrics_file=str(file))
    written = [value(samples, "last_update_timestamp_seconds") for samples in found]
    assert len(set(written)) == len(written) >= 3  # the model's files and the shard


def test_a_run_that_fails_says_so_and_keeps_when_one_succeeded(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = write_csv(tmp_path / "r.csv", reviews(20)), tmp_path / "m.prom"
    score(path, output=tmp_path / "out", metrics_file=str(file))
    succeeded = value(read(file), "last_success_timestamp_seconds")
    assert succeeded is not None

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    bad = write_csv(tmp_path / "bad.csv", ["good"])
    bad.write_bytes(bad.read_bytes() + b"a,b,c\n" * 5)
    for arguments, options, error, code, state in (
        ([tmp_path / "nothing.csv"], {}, InputError, 2, "failed"),
        ([bad], {}, IncompleteError, 3, "not published"),
        ([path], {"load_model": broken}, RuntimeError, 1, "failed"),
        ([path], {"stop": Stopped()}, StoppedError, 143, "stopped"),
    ):
        with pytest.raises(error):
            score(*arguments, output=tmp_path / f"out{code}", metrics_file=str(file), **options)
        found = read(file)
        assert value(found, "exit_code") == code
        assert value(found, "run_state", state=state) == 1
        assert value(found, "last_success_timestamp_seconds") == succeeded
    assert score(path, output=tmp_path / "out", metrics_file=str(file)).state == "nothing to do"
    again = read(file)
    assert value(again, "last_success_timestamp_seconds") > succeeded  # type: ignore[operator]
    assert value(again, "shards", state="kept") == 1


@pytest.mark.parametrize("content", [b"#\xff", b"# no metrics", b"", b"# TYPE up gauge\nup 1\n# EOF\n"])
def test_what_stood_there_before_may_be_any_metrics(
    score: Score, tmp_path: Path, reviews: Reviews, content: bytes
) -> None:
    (tmp_path / "m.prom").write_bytes(content)
    with pytest.raises(InputError):
        score(tmp_path / "nothing.csv", output=tmp_path / "out", metrics_file=str(tmp_path / "m.prom"))
    assert value(read(tmp_path / "m.prom"), "last_success_timestamp_seconds") is None


def test_reviews_are_not_replaced_by_metrics(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(5))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"r\.csv is there and holds no metrics; expected a new file"):
        score(path, output=tmp_path / "out", metrics_file=str(path))
    assert path.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_where_no_file_can_be_is_said_before_the_work(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(5))
    for given, says in (
        (tmp_path / "none/m.prom", "none is not a directory"),
        (tmp_path, "is a directory"),
        ("s3://bucket/m.prom", "expected a file on this machine"),
    ):
        with pytest.raises(UsageError, match=says):
            score(path, output=tmp_path / "out", metrics_file=str(given))

    def forbidden(*_: Any) -> None:
        raise UsageError("m.prom cannot be written (Permission denied)")

    monkeypatch.setattr(metrics, "write_file", forbidden)
    with pytest.raises(UsageError, match=r"--metrics-file m\.prom cannot be written"):
        score(path, output=tmp_path / "out", metrics_file=str(tmp_path / "m.prom"))
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_kept_up_to_date_is_one_warning(
    score: Score,
    tmp_path: Path,
    reviews: Reviews,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recorder, "INTERVAL_SECONDS", -1.0)
    folder = tmp_path / "collector"
    folder.mkdir()

    class Gone(NoProgress):
        def update(self, report: RunReport) -> None:
            shutil.rmtree(folder, ignore_errors=True)

    with caplog.at_level(logging.WARNING):
        report = score(
            write_csv(tmp_path / "r.csv", reviews(200)),
            output=tmp_path / "out",
            metrics_file=str(folder / "m.prom"),
            progress=Gone(),
        )
    assert report.state == "published"
    [warning] = [record.message for record in caplog.records if "metrics file" in record.message]
    assert warning.endswith("; the run goes on")


def test_a_full_disk_at_the_beginning_does_not_keep_a_run_from_its_work(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full_at_first(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise StorageError("m.prom could not be written (No space left on device)")
        storage.write_file(path, data)

    monkeypatch.setattr(metrics, "write_file", full_at_first)
    path = write_csv(tmp_path / "r.csv", reviews(5))
    score(path, output=tmp_path / "out", metrics_file=str(tmp_path / "m.prom"))
    assert (tmp_path / "out" / SUCCESS).exists()
    assert value(read(tmp_path / "m.prom"), "exit_code") == 0


def test_each_rank_has_a_file_and_a_label_of_its_own(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    write_csv(tmp_path / "in/a.csv", reviews(30))
    write_csv(tmp_path / "in/b.csv", reviews(20))
    for rank in range(2):
        score(tmp_path / "in", output=tmp_path / "out", share=Share(rank, 2), metrics_file=str(tmp_path / "m.prom"))
    names = sorted(path.name for path in tmp_path.glob("*.prom"))
    assert names == ["m-rank0.prom", "m-rank1.prom"]
    records = 0.0
    for rank, name in enumerate(names):
        samples = [line for line in (tmp_path / name).read_text().splitlines() if not line.startswith("#")]
        assert all(f'rank="{rank}"' in line for line in samples)
        records += value(read(tmp_path / name), "records_total") or 0
    assert records == 50


def test_no_password_of_a_uri_is_in_it(tmp_path: Path) -> None:
    output = "s3://user:secret@bucket/out?token=secret"
    config = ScoreConfig(inputs=("r.csv",), output=output, metrics_file=str(tmp_path / "m.prom"))
    report = RunReport(model="https://user:secret@host/model?key=secret")
    with pytest.raises(IncompleteError), metrics.metrics_of(config, ALONE, report):
        raise IncompleteError("https://user:secret@host")
    text = (tmp_path / "m.prom").read_text()
    assert "secret" not in text
    assert "s3://bucket/out" in text


def test_a_run_with_nothing_to_do_is_all_done(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path, file = write_csv(tmp_path / "r.csv", reviews(5)), tmp_path / "m.prom"
    for _ in range(2):
        score(path, output=tmp_path / "out", metrics_file=str(file))
        assert value(read(file), "progress_ratio") == 1
        assert value(read(file), "input_done_bytes") == path.stat().st_size
