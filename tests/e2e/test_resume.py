"""Runs that do not begin at nothing: interrupted, repeated, with other input or settings, on damaged files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.errors import IncompleteError, LockedError, ModelError, SettingsChangedError, UsageError
from batchsent.reporting.progress import NoProgress
from batchsent.reporting.run_report import RunReport
from batchsent.storage import LocalStore
from faults.inline import KillAfter, KilledError
from support import make_bert, published, rows, write_csv

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


def dump(directory: Path, reviews: Reviews) -> Path:
    """Three shards of different formats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = reviews(330)
    write_csv(directory / "a.csv", texts[:120], id=list(range(120)))
    (directory / "sub").mkdir()
    pq.write_table(
        pa.table({"text": texts[120:240], "id": list(range(120))}), directory / "sub/b.parquet", row_group_size=33
    )
    lines = "".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts[240:]))
    (directory / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return directory


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 6, 7])
def test_an_interrupted_run_goes_on_where_it_was(
    score: Score, tmp_path: Path, reviews: Reviews, stop_after: int
) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    whole = score(source, output=tmp_path / "whole", keep=("id",))
    with pytest.raises(KilledError):
        score(source, output=out, keep=("id",), progress=KillAfter(stop_after))
    parts = {path: path.stat().st_mtime_ns for path in (out / "_batchsent/parts").rglob("*.parquet")}
    assert len(parts) >= stop_after
    assert not (out / "_SUCCESS").exists()
    touched: dict[Path, int] = {}

    class Look(NoProgress):
        def update(self, report: RunReport) -> None:
            touched.update({path: path.stat().st_mtime_ns for path in parts})

    report = score(source, output=out, keep=("id",), progress=Look())
    assert not touched or touched == parts, "committed parts are left alone"
    assert report.part_count + len(parts) == whole.part_count
    assert published(out) == published(tmp_path / "whole")
    assert not (out / "_batchsent/parts").exists()
    assert not list((out / "_batchsent/tmp").iterdir())


def test_a_run_with_nothing_to_do_reads_nothing(
    score: Score, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    before = published(out)

    def refuse(*_: Any) -> Any:
        raise AssertionError("must not be called")

    monkeypatch.setattr("batchsent.digests.hash_stream", refuse)
    monkeypatch.setattr("batchsent.job.ReaderProcess", refuse)
    report = score(source, output=out, load_model=refuse)
    assert (report.state, report.kept_shard_count) == ("nothing to do", 3)
    assert published(out) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("precision", "bf16"),
        ("batch_tokens", 100),
        ("rows_per_part", 51),
        ("threads", 2),
        ("max_length", 64),
        ("text_column", "id"),
        ("keep", ("id",)),
        ("keep_all", True),
        ("label_column", "id"),
        ("encoding", "latin-1"),
        ("delimiter", ";"),
        ("limit", 5),
    ],
)
def test_changed_settings_are_refused_by_name(score: Score, tmp_path: Path, option: str, value: Any) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"], id=["x"])
    score(path, output=tmp_path / "out")
    before = published(tmp_path / "out")
    with pytest.raises(SettingsChangedError, match=option.replace("_", "-")):
        score(path, output=tmp_path / "out", **{option: value})
    assert published(tmp_path / "out") == before


def test_restart_discards_what_is_there(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    (out / "mine.parquet").write_bytes(b"somebody else's")
    with pytest.raises(UsageError, match="at most"):
        score(source, output=out, max_length=4000, restart=True)
    assert (out / "_SUCCESS").exists(), "settings that are wrong cost nothing"
    score(source / "a.csv", output=out, max_length=32, restart=True)
    score(source / "a.csv", output=tmp_path / "fresh", max_length=32)
    (out / "mine.parquet").unlink()
    assert published(out) == published(tmp_path / "fresh")


def test_another_model_under_the_same_name_is_noticed(score: Score, tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    path = write_csv(tmp_path / "r.csv", ["good"])
    score(path, output=tmp_path / "out", model=str(model))
    weights = model / "model.safetensors"
    status, data = weights.stat(), bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SettingsChangedError, match=r"model: model has changed \(model\.safetensors\)"):
        score(path, output=tmp_path / "out", model=str(model))
    model.rename(tmp_path / "moved")
    data[-1] ^= 1
    (tmp_path / "moved/model.safetensors").write_bytes(data)
    assert score(path, output=tmp_path / "out", model=str(tmp_path / "moved")).state == "nothing to do"


def test_one_changed_shard_is_scored_again_and_no_other(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    kept = (out / "sub/b.parquet").stat().st_mtime_ns
    path = source / "a.csv"
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-2] + b"7\n" if not data.endswith(b"7\n") else data[:-2] + b"8\n")
    path.write_bytes(data.replace(b"good", b"fine"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = score(source, output=out)
    assert (report.record_count, report.kept_shard_count) == (120, 2)
    assert (out / "sub/b.parquet").stat().st_mtime_ns == kept
    score(source, output=tmp_path / "fresh")
    assert published(out) == published(tmp_path / "fresh")


def test_shards_that_come_and_go(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    (source / "a.csv").rename(tmp_path / "a.csv")
    write_csv(source / "d.csv", ["good"])
    report = score(source, output=out)
    assert (report.record_count, report.kept_shard_count) == (1, 2)
    score(source, output=tmp_path / "fresh")
    assert published(out) == published(tmp_path / "fresh")
    assert not (out / "a.parquet").exists()


@pytest.mark.parametrize(
    "victim", ["a.parquet", "_batchsent/rejects/sub/b.parquet", "_batchsent/manifest.json", "_SUCCESS"]
)
def test_a_damaged_file_is_made_again(score: Score, tmp_path: Path, reviews: Reviews, victim: str) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=out)
    before = published(out)
    path = out / victim
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert score(source, output=out).state == "published"
    assert published(out) == before


def test_a_damaged_checkpoint_is_scored_again(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = dump(tmp_path / "in", reviews), tmp_path / "out"
    score(source, output=tmp_path / "whole")
    with pytest.raises(KilledError):
        score(source, output=out, progress=KillAfter(6))
    parts = sorted((out / "_batchsent/parts").rglob("*.parquet"))
    for part in parts[::2]:
        data = bytearray(part.read_bytes())
        data[len(data) // 3] ^= 1
        part.write_bytes(data)
    score(source, output=out)
    assert published(out) == published(tmp_path / "whole")


def test_a_second_run_is_kept_out(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"])
    store = LocalStore(tmp_path / "out")
    store.create()
    with store.lock(), pytest.raises(LockedError, match="another run holds"):
        score(path, output=tmp_path / "out")
    assert score(path, output=tmp_path / "out").state == "published"


def test_a_foreign_file_is_never_overwritten(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/r.parquet").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is not batchsent's"):
        score(path, output=tmp_path / "out")
    assert (tmp_path / "out/r.parquet").read_bytes() == b"mine"
    (tmp_path / "out/r.parquet").rename(tmp_path / "out/s.parquet")
    score(path, output=tmp_path / "out")
    path.rename(tmp_path / "s.csv")
    with pytest.raises(UsageError, match="is not batchsent's"):
        score(tmp_path / "s.csv", output=tmp_path / "out")
    assert (tmp_path / "out/s.parquet").read_bytes() == b"mine"


def test_a_wrong_first_try_does_not_take_the_directory(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [1], body=["good"])
    for wrong in ({"text_column": "nope"}, {"model": str(tmp_path / "no-model")}, {"max_length": 9999}):
        with pytest.raises(UsageError):
            score(path, output=tmp_path / "out", **wrong)
    assert score(path, output=tmp_path / "out", text_column="body").state == "published"


def test_a_model_that_changes_while_it_is_loaded(score: Score, tmp_path: Path) -> None:
    model = make_bert(tmp_path / "model")

    def load_and_change(*_: Any) -> Any:
        (model / "config.json").write_text((model / "config.json").read_text() + " ")

    with pytest.raises(ModelError, match="changed while it was loaded"):
        score(
            write_csv(tmp_path / "r.csv", ["good"]),
            output=tmp_path / "out",
            model=str(model),
            load_model=load_and_change,
        )


def test_input_that_grows_while_it_is_read(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(2000))

    class Append(NoProgress):
        def update(self, report: RunReport) -> None:
            with path.open("a") as handle:
                handle.write("good\n")

    with pytest.raises(IncompleteError, match="changed while it was scored"):
        score(path, output=tmp_path / "out", progress=Append())
    assert not (tmp_path / "out/_SUCCESS").exists()
    report = score(path, output=tmp_path / "out")
    assert report.totals["record_count"] == len(path.read_text().splitlines()) - 1
    assert len(rows(tmp_path / "out/r.parquet")) == report.totals["row_count"]


def test_the_damaged_output_of_a_shard_that_is_gone_goes_too(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.csv", "b.csv"):
        write_csv(source / name, reviews(20))
    score(source, output=out)
    (out / "b.parquet").write_bytes(b"PAR1 no Parquet any more")
    (out / "mine.parquet").write_bytes(b"PAR1 nor this, but somebody else's")
    (source / "b.csv").unlink()
    score(source, output=out)
    assert sorted(path.name for path in out.glob("*.parquet")) == ["a.parquet", "mine.parquet"]
