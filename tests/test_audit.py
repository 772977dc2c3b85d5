"""The audit: rows drawn fairly, read again, scored alone in fp32; what is damaged or out of place is not published."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent import audit as audit_module
from batchsent.audit import LIMITS, Auditor, Comparison, draw
from batchsent.calibration import Calibration
from batchsent.checkpoint import MANIFEST, SUCCESS, Audit, FileEntry, Manifest, ShardEntry, load_manifest
from batchsent.directory import recorded_identity
from batchsent.errors import IncompleteError, StoppedError
from batchsent.models import loading
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.records import Part
from batchsent.reporting.run_report import RunReport
from batchsent.reporting.status import status_lines
from batchsent.reporting.summary import summary_lines
from batchsent.shares import Share
from batchsent.stages import restorer
from batchsent.stages.reader import ReaderProcess
from batchsent.stop import StopSignal
from batchsent.storage import LocalStore
from batchsent.verify import verify
from support import make_bert, published, rows, write_csv
from writers import make_gpt2, make_t5

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def dump(directory: Path, reviews: Reviews) -> Path:
    """Both kinds of format, rejects among the rows, and a shard without a row that can be scored."""
    texts: list[Any] = list(reviews(300))
    texts[7] = texts[120] = texts[290] = None
    write_csv(directory / "a.csv", texts[:130])
    table = pa.table({"text": texts[130:], "id": list(range(170))})
    pq.write_table(table, directory / "b.parquet", row_group_size=60)
    lines = [json.dumps({"text": text}) for text in reviews(90)]
    (directory / "c.jsonl").write_text("\n".join(["{}", *lines]), encoding="utf-8")
    write_csv(directory / "empty.csv", ["", " "])
    return directory


def audit_of(directory: Path) -> Audit | None:
    manifest = load_manifest(LocalStore(directory))
    assert manifest is not None
    return manifest.audit


def shifted(by: float) -> Callable[..., Any]:
    """The model, with ``by`` added to its first logit."""

    def load(*arguments: Any, **settings: Any) -> Any:
        model: Any = loading.load_model(*arguments, **settings)
        start = model.start

        def shifted_start(batch: Any) -> Callable[[], Any]:
            pending = start(batch)

            def wait() -> Any:
                logits = pending().copy()
                logits[:, 0] += by
                return logits

            return wait

        model.start = shifted_start
        return model

    return load


# --- what is audited


def entry_of(name: str, row_count: int) -> ShardEntry:
    file = FileEntry(f"{name}.parquet", "", 0)
    return ShardEntry(
        shard=name,
        unit="",
        input_sha256="",
        input_size_bytes=0,
        record_count=row_count,
        row_count=row_count,
        reject_counts={},
        token_count=0,
        truncated_count=0,
        label_counts={},
        confidence_counts=(),
        length_counts=(),
        output=file,
        rejects=file,
    )


def test_rows_are_drawn_once_each_from_all_shards_alike() -> None:
    sizes = {"a": 10, "b": 0, "c": 1, "d": 89}
    entries = tuple(entry_of(name, size) for name, size in sizes.items())
    counts = dict.fromkeys(sizes, 0)
    for seed in range(2_000):
        drawn = draw(Manifest(f"{seed:064x}", entries), 10)
        assert sum(len(positions) for _, positions in drawn) == 10
        for entry, positions in drawn:
            assert (np.diff(positions) > 0).all()
            assert 0 <= positions[0] <= positions[-1] < entry.row_count
            counts[entry.shard] += len(positions)
    # A tenth of each; five standard deviations of a binomial with as many draws.
    for name, size in sizes.items():
        assert abs(counts[name] - 200 * size) <= 5 * np.sqrt(180 * size)


def test_the_same_settings_draw_the_same_rows_and_others_draw_others() -> None:
    entries = (entry_of("a", 1_000), entry_of("b", 1_000))

    def positions(fingerprint: str) -> list[Any]:
        return [(entry.shard, found.tolist()) for entry, found in draw(Manifest(fingerprint, entries), 20)]

    assert positions("ab" * 32) == positions("ab" * 32)
    assert positions("ab" * 32) != positions("ac" * 32)


def test_no_more_rows_are_drawn_than_there_are() -> None:
    entries = (entry_of("a", 3), entry_of("b", 0), entry_of("c", 2))
    for count in (5, 6, 10**9):
        drawn = {entry.shard: found.tolist() for entry, found in draw(Manifest("0" * 64, entries), count)}
        assert drawn == {"a": [0, 1, 2], "c": [0, 1]}
    assert draw(Manifest("0" * 64, (entry_of("a", 0),)), 5) == []


def test_every_row_of_every_format_is_found_again(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    report = score(dump(tmp_path / "in", reviews), output=tmp_path / "out", audit=10_000)
    found = audit_of(tmp_path / "out")
    assert found is not None
    assert found.row_count == report.totals["row_count"] == 387
    assert found.changed_label_count == 0
    # Not 0: what is published was computed in batches.
    assert 0 < found.largest_difference < 1e-5 < found.limit
    assert report.audit == vars(found)


@pytest.mark.parametrize("count", [1, 40])
def test_only_the_parts_of_a_parquet_file_that_hold_them_are_read(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    table = pa.table({"text": reviews(2_000), "long": ["x" * 50] * 2_000})
    pq.write_table(table, tmp_path / "r.parquet", row_group_size=700)
    score(tmp_path / "r.parquet", output=tmp_path / "out", keep=("long",))
    read: list[tuple[int, int]] = []
    reading = ReaderProcess.read

    def recorded(self: ReaderProcess, request: Any) -> Iterator[Part]:
        for part in reading(self, request):
            read.append((part.end.row_index - part.records.num_rows, part.end.row_index))
            assert "kept.long" not in part.records.column_names
            yield part

    monkeypatch.setattr(ReaderProcess, "read", recorded)
    score(tmp_path / "r.parquet", output=tmp_path / "out", keep=("long",), audit=count)
    manifest = load_manifest(LocalStore(tmp_path / "out"))
    assert manifest is not None
    [(_, positions)] = draw(manifest, count)
    wanted = sorted({position // 50 for position in positions.tolist()})
    assert read == [(part * 50, (part + 1) * 50) for part in wanted]


def test_a_text_file_is_read_no_further_than_needed(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(400))
    monkeypatch.setattr(audit_module, "draw", lambda manifest, _count: [(manifest.shards[0], np.array([20, 60]))])
    read = []
    reading = ReaderProcess.read

    def recorded(self: ReaderProcess, request: Any) -> Iterator[Part]:
        for part in reading(self, request):
            read.append(part.index)
            yield part

    score(path, output=tmp_path / "out")
    monkeypatch.setattr(ReaderProcess, "read", recorded)
    score(path, output=tmp_path / "out", audit=2)
    assert read == [0, 1]


@pytest.mark.parametrize("case", ["multi-label", "windows", "max", "t5", "gpt2", "temperature", "packed", "bf16"])
def test_a_healthy_model_of_every_kind_passes(
    score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path, case: str
) -> None:
    path = write_csv(tmp_path / "r.csv", [*reviews(40), "good " * 300, "good"])
    options: dict[str, Any] = {}
    match case:
        case "multi-label":
            labels = ("price", "quality", "service")
            model = make_bert(tmp_path / "model", labels=labels, problem_type="multi_label_classification")
            options = {"model": str(model)}
        case "windows" | "max":
            aggregate = {"windows": None, "max": "max"}[case]
            options = {"long_text": "window", "max_length": 32, "window_aggregate": aggregate}
        case "t5":
            options = {"model": str(make_t5(tmp_path / "model"))}
        case "gpt2":
            options = {"model": str(make_gpt2(tmp_path / "model")), "calibrate_prompt": True}
        case "temperature":
            version = resolve_model(str(tiny_model), None, sha256_of).version
            (tmp_path / "t.json").write_bytes(Calibration(3.0, "tiny", version, None, 10).to_json())
            options = {"calibration": str(tmp_path / "t.json")}
        case "packed":
            options = {"batching": "packed"}
        case "bf16":
            options = {"precision": "bf16"}
    score(path, output=tmp_path / "out", audit=100, **options)
    found = audit_of(tmp_path / "out")
    assert found is not None
    assert (found.row_count, found.clearly_changed_label_count) == (42, 0)
    if case == "bf16":
        assert 1e-4 < found.largest_difference <= found.limit == LIMITS["bf16"]
    else:
        assert found.largest_difference < 1e-5


# --- what it finds


def test_probabilities_that_are_not_fp32s_are_not_published(
    score: Score, tmp_path: Path, reviews: Reviews, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(60))
    with pytest.raises(IncompleteError, match=r"largest difference .*limit 0\.0001") as caught:
        score(path, output=tmp_path / "out", audit=30, load_model=shifted(0.01))
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / SUCCESS).exists()
    found = audit_of(tmp_path / "out")
    assert found is not None
    assert not found.is_passed
    # A logit that is off by x moves one of two probabilities by a quarter of x at most.
    assert 1e-4 < found.largest_difference <= 0.0026
    [warning] = [record.message for record in caplog.records if "it is largest in" in record.message]
    assert "of r.csv" in warning
    [run] = (tmp_path / "out/_batchsent/runs").iterdir()
    content = json.loads(run.read_bytes())
    assert (content["state"], content["audit"]) == ("not published", vars(found))
    assert len(rows(tmp_path / "out/r.parquet")) == 60


def test_what_an_audit_held_back_stays_so_until_it_is_asked_for_no_more(
    score: Score, tmp_path: Path, reviews: Reviews
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(60))
    with pytest.raises(IncompleteError):
        score(path, output=tmp_path / "out", audit=30, load_model=shifted(0.01))
    with pytest.raises(IncompleteError):  # asked again, it looks again: nothing was scored anew
        score(path, output=tmp_path / "out", audit=5)
    report = score(path, output=tmp_path / "out")
    assert (report.state, report.part_count, report.audit) == ("published", 0, {})
    assert audit_of(tmp_path / "out") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_that_were_exchanged_are_found_in_every_precision(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    restore = restorer.restore

    def exchanged(part: Part, *arguments: Any, **settings: Any) -> Any:
        scored = restore(part, *arguments, **settings)
        if part.records.num_rows == 1:  # the audit's own
            return scored
        order = [1, 0, *range(2, scored.table.num_rows)]
        index = scored.table.schema.get_field_index("row_index")
        table = scored.table.take(order).set_column(index, "row_index", scored.table.column("row_index"))
        return replace(scored, table=table)

    monkeypatch.setattr(restorer, "restore", exchanged)
    texts = reviews(40)
    texts[0], texts[1] = "good", "the very good kettle works again"
    with pytest.raises(IncompleteError, match="largest difference 1 "):
        score(write_csv(tmp_path / "r.csv", texts), output=tmp_path / "out", audit=40, precision=precision)
    assert not (tmp_path / "out" / SUCCESS).exists()


def row_of(first: float, **more: Any) -> dict[str, Any]:
    label = "A" if first > 0.5 else "B"
    row = {"probabilities": {"A": first, "B": 1 - first}, "label": label, "token_count": 5, "truncated": False}
    return {**row, "reason": None, "row_index": 0, "shard": "r.csv", **more}


@pytest.mark.parametrize(
    ("published_row", "found", "difference", "changed", "clearly"),
    [
        (row_of(0.9), row_of(0.9), 0.0, 0, 0),
        (row_of(0.9), row_of(0.85), 0.05, 0, 0),
        (row_of(0.54), row_of(0.46), 0.08, 1, 0),
        (row_of(0.9), row_of(0.3), 0.6, 1, 1),
        (row_of(0.9), row_of(0.9, token_count=6), 1.0, 0, 0),
        (row_of(0.9), row_of(0.9, truncated=True), 1.0, 0, 0),
        (row_of(0.9), row_of(0.9, reason="empty_text", label=None, probabilities=None), 1.0, 1, 1),
    ],
)
def test_a_row_is_compared_with_all_that_is_published_of_it(
    published_row: dict[str, Any], found: dict[str, Any], difference: float, changed: int, clearly: int
) -> None:
    comparison = Comparison(0.1)
    comparison.add(published_row, found)
    result = comparison.result()
    assert result.largest_difference == pytest.approx(difference)
    assert (result.changed_label_count, result.clearly_changed_label_count) == (changed, clearly)
    assert result.is_passed == (difference <= 0.1)


# --- inputs that are not what they were


@pytest.mark.parametrize("name", ["r.csv", "r.parquet"])
@pytest.mark.parametrize("what", ["changed", "gone"])
def test_a_text_that_cannot_be_read_again_is_an_error(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    path, texts = tmp_path / name, reviews(50)

    def write(given: list[str]) -> None:
        if name == "r.csv":
            write_csv(path, given)
        else:
            pq.write_table(pa.table({"text": given}), path)

    auditing = Auditor.audit

    def changed_before(*arguments: Any) -> Audit:
        write(texts[::-1]) if what == "changed" else path.unlink()
        return auditing(*arguments)

    write(texts)
    with monkeypatch.context() as patch:
        patch.setattr(Auditor, "audit", changed_before)
        with pytest.raises(IncompleteError, match=f"the audit cannot read {name} again"):
            score(path, output=tmp_path / "out", audit=10)
    assert not (tmp_path / "out" / SUCCESS).exists()
    if what == "changed":
        score(path, output=tmp_path / "out", audit=10)
        score(path, output=tmp_path / "anew", audit=10)
        assert published(tmp_path / "out") == published(tmp_path / "anew")


# --- the manifest


def test_the_manifest_keeps_an_audit_and_its_checksum_covers_it(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    score(write_csv(tmp_path / "r.csv", reviews(30)), output=tmp_path / "out", audit=7)
    data = (tmp_path / "out" / MANIFEST).read_bytes()
    manifest = Manifest.from_json(data)
    assert manifest.to_json() == data
    assert manifest.audit is not None
    assert json.loads(data)["audit"] == vars(manifest.audit)
    with pytest.raises(ValueError, match="checksum"):
        Manifest.from_json(data.replace(b'"row_count": 7', b'"row_count": 8'))


def test_as_many_rows_give_the_same_manifest_whenever_they_are_audited(
    score: Score, tmp_path: Path, reviews: Reviews
) -> None:
    source = dump(tmp_path / "in", reviews)
    score(source, output=tmp_path / "at once", audit=25)
    score(source, output=tmp_path / "later")
    before = published(tmp_path / "later")
    report = score(source, output=tmp_path / "later", audit=25)
    assert (report.state, report.part_count) == ("published", 0)
    assert published(tmp_path / "later") == published(tmp_path / "at once") != before
    assert not verify(LocalStore(tmp_path / "later")).problems


@pytest.mark.parametrize(("count", "is_audited_again"), [(0, False), (10, False), (20, False), (21, True), (30, True)])
def test_a_published_directory_is_audited_again_only_for_more_rows(
    score: Score, tmp_path: Path, reviews: Reviews, count: int, is_audited_again: bool
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(30))
    score(path, output=tmp_path / "out", audit=20)
    before = published(tmp_path / "out")
    report = score(path, output=tmp_path / "out", audit=count)
    assert report.state == ("published" if is_audited_again else "nothing to do")
    assert (published(tmp_path / "out") != before) == is_audited_again
    assert report.audit["row_count"] == max(count, 20)


def test_an_audit_of_all_rows_is_one_of_however_many(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(30))
    score(path, output=tmp_path / "out", audit=31)
    assert score(path, output=tmp_path / "out", audit=1_000).state == "nothing to do"


def test_an_audit_ends_with_what_it_was_of(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source = tmp_path / "in"
    write_csv(source / "a.csv", reviews(30))
    score(source, output=tmp_path / "out", audit=20)
    # Scored again to the same bytes, it is still an audit of them.
    (tmp_path / "out/a.parquet").write_bytes(b"damaged")
    before = audit_of(tmp_path / "out")
    assert score(source, output=tmp_path / "out").part_count == 1
    assert before is not None
    assert audit_of(tmp_path / "out") == before
    write_csv(source / "b.csv", reviews(20))
    score(source, output=tmp_path / "out")
    assert audit_of(tmp_path / "out") is None


def test_verify_says_that_a_failed_audit_must_not_be_published(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    score(write_csv(tmp_path / "r.csv", reviews(30)), output=tmp_path / "out", audit=7)
    store = LocalStore(tmp_path / "out")
    manifest = load_manifest(store)
    assert manifest is not None
    assert manifest.audit is not None
    forged = replace(manifest, audit=replace(manifest.audit, largest_difference=0.5)).to_json()
    store.publish_bytes(MANIFEST, forged)
    assert any("audit that failed" in problem for problem in verify(store).problems)


def test_the_summary_and_the_status_say_what_was_found(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    report = score(write_csv(tmp_path / "r.csv", reviews(30)), output=tmp_path / "out", audit=7)
    store = LocalStore(tmp_path / "out")
    lines = dict(summary_lines(report, "out")), dict(status_lines(store, recorded_identity(store)))
    for line in lines:
        assert line["audit"] == str(audit_of(tmp_path / "out"))
        assert line["audit"].startswith("7 rows, largest difference ")


# --- stopped, and several ranks


def test_a_signal_stops_an_audit_and_the_next_run_finishes_it(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(60))
    score(path, output=tmp_path / "whole", audit=40)
    added = Comparison.add
    stop = StopSignal()
    stop.install()

    def stopping(self: Comparison, *pair: Any) -> None:
        added(self, *pair)
        if self.row_count == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Comparison, "add", stopping)
        with pytest.raises(StoppedError):
            score(path, output=tmp_path / "out", audit=40, stop=stop)
    assert not (tmp_path / "out" / SUCCESS).exists()
    report = score(path, output=tmp_path / "out", audit=40)
    assert report.part_count == 0
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_the_rank_that_publishes_audits(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source = dump(tmp_path / "in", reviews)
    score(source, output=tmp_path / "whole", audit=25)
    first, second = (score(source, output=tmp_path / "out", share=Share(rank, 2), audit=25) for rank in range(2))
    assert (first.state, first.audit) == ("share done", {})
    assert second.audit["row_count"] == 25
    assert published(tmp_path / "out") == published(tmp_path / "whole")
    # Whoever comes when all is done has nothing to do.
    assert score(source, output=tmp_path / "out", share=Share(0, 2), audit=25).state == "nothing to do"


def test_rows_are_scored_alone_by_all_of_the_model(
    score: Score, reviews: Reviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run leaves some of the last layer out; if that were wrong, an audit that leaves it out too would not tell."""
    from batchsent.models import last_layer

    path = write_csv(tmp_path / "reviews.csv", reviews(20))
    own = last_layer._attend
    calls = []

    def attend(*arguments: Any) -> Any:
        calls.append(arguments)
        return own(*arguments)

    monkeypatch.setattr(last_layer, "_attend", attend)
    score(path, output=tmp_path / "out", backend="torch")
    without = len(calls)
    score(path, output=tmp_path / "audited", backend="torch", audit=10)
    assert len(calls) - without == without + 1, "the run's passes again, and the two texts of loading the audit's model"
