"""``--include-text``: what rejected rows hold, and what is said where that cannot be known any more."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.html_report.rejects import EXAMPLE_COUNT
from batchsent.html_report.texts import EXCERPT_CHARACTERS
from batchsent.models.loading import load_model
from batchsent.reporting.run_report import RunReport
from html_report.conftest import CANARY, Report
from html_report.pages import Page, require_self_contained

Score = Callable[..., RunReport]


@pytest.fixture
def out(dump: Path, score: Score, tmp_path: Path) -> Path:
    """``dump``, copied and scored by the tiny model: a DIR whose input may be changed."""
    shutil.copytree(dump, tmp_path / "dump")
    score(tmp_path / "dump", output=tmp_path / "out", max_reject_rate=1.0)
    return tmp_path / "out"


def rejects(page: Page) -> str:
    return page.section("rejects").text


def test_the_first_line_of_each_rejected_record(out: Path, report: Report) -> None:
    page = report(out, include_text=True)
    require_self_contained(page)
    text = rejects(page)
    assert f"{CANARY} one,5,too many,{CANARY}" in text
    assert f'"{CANARY}" after a quote,1' in text
    assert f'{{"text": "{CANARY}' in text
    assert '{"text": 17, "stars": 2}' in text
    assert '"",4' in text
    assert "(blank)" in text  # of the Parquet file's null
    assert "It holds texts of rejected rows" in page.text


def test_without_it_none_is_shown(out: Path, report: Report) -> None:
    assert CANARY not in report(out).source


def test_an_input_that_is_gone(out: Path, tmp_path: Path, report: Report) -> None:
    shutil.rmtree(tmp_path / "dump")
    page = report(out, include_text=True)
    assert rejects(page).count("(the input is not where it was)") == 7
    assert CANARY not in page.source


def test_one_shard_that_is_gone(out: Path, tmp_path: Path, report: Report) -> None:
    (tmp_path / "dump/sub/b.jsonl").unlink()
    text = rejects(report(out, include_text=True))
    assert text.count("(the input is not where it was)") == 2
    assert "after a quote,1" in text


@pytest.mark.parametrize("change", ["longer", "same size and time"])
def test_an_input_that_has_changed(out: Path, tmp_path: Path, report: Report, change: str) -> None:
    path = tmp_path / "dump/a.csv"
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data + b"x,1\r\n" if change == "longer" else data.replace(b"one", b"two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    text = rejects(report(out, include_text=True))
    assert text.count("(the input has changed since it was scored)") == 4
    assert "after a quote" not in text
    assert '{"text": 17, "stars": 2}' in text


def test_a_long_record_is_cut(score: Score, tmp_path: Path, report: Report) -> None:
    (tmp_path / "a.csv").write_text(f"text,n\nx,1\n{'ü' * 1000},2,3\n", encoding="utf-8")
    score(tmp_path / "a.csv", output=tmp_path / "out", max_reject_rate=1.0)
    text = rejects(report(tmp_path / "out", include_text=True))
    assert "ü" * EXCERPT_CHARACTERS + "…" in text
    assert "ü" * (EXCERPT_CHARACTERS + 1) not in text


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "gb18030"])
def test_texts_of_other_encodings(score: Score, tmp_path: Path, report: Report, encoding: str) -> None:
    words = "读者 schön"[3:] if encoding == "latin-1" else "读者 schön"
    (tmp_path / "a.csv").write_bytes(f"text,n\n{words},1\n{words},2,3\n{words},4,5\n".encode(encoding))
    score(tmp_path / "a.csv", output=tmp_path / "out", max_reject_rate=1.0, encoding=encoding)
    text = rejects(report(tmp_path / "out", include_text=True))
    assert f"{words},2,3" in text
    assert f"{words},4,5" in text


def test_bytes_that_do_not_decode_are_marked(score: Score, tmp_path: Path, report: Report) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\ngood\nbad \xff film\n")
    score(tmp_path / "a.csv", output=tmp_path / "out", max_reject_rate=1.0)
    assert "bad � film" in rejects(report(tmp_path / "out", include_text=True))


def test_compressed_inputs_are_read_once_from_the_front(score: Score, tmp_path: Path, report: Report) -> None:
    lines = [f"w{index},{index}" + (",more" if index % 7 == 0 else "") for index in range(3000)]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join(["text,n", *lines]).encode()))
    score(tmp_path / "a.csv.gz", output=tmp_path / "out", max_reject_rate=1.0, rows_per_part=500)
    text = rejects(report(tmp_path / "out", include_text=True))
    for index in range(0, 7 * EXAMPLE_COUNT, 7):
        assert f"w{index},{index},more" in text
    assert f"w{7 * EXAMPLE_COUNT},{7 * EXAMPLE_COUNT},more" not in text
    assert f"the first {EXAMPLE_COUNT} are" in text


def test_the_text_of_a_parquet_row_that_the_model_rejected(
    score: Score, tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"text": ["good", "bad film", "fine"] * 30}), tmp_path / "a.parquet", row_group_size=20)

    def broken(*arguments: object) -> object:
        model = load_model(*arguments)  # type: ignore[arg-type]
        return NotFinite(model)

    score(tmp_path / "a.parquet", output=tmp_path / "out", max_reject_rate=1.0, load_model=broken)
    text = rejects(report(tmp_path / "out", include_text=True))
    assert "non_finite" in text
    assert "row_index 1 bad film" in text
    assert "row_index 19 bad film" in text


class NotFinite:
    """A model whose logits are not finite for texts of two words."""

    def __init__(self, model: object) -> None:
        self._model = model
        self.in_flight = model.in_flight  # type: ignore[attr-defined]

    def start(self, batch: object) -> object:
        found = self._model.start(batch)  # type: ignore[attr-defined]
        return lambda: self._spoiled(batch, found())

    def full_precision_logits(self, batch: object) -> object:
        return self._spoiled(batch, self._model.full_precision_logits(batch))  # type: ignore[attr-defined]

    @staticmethod
    def _spoiled(batch: object, logits: object) -> object:
        logits[batch.lengths == 4] = float("nan")  # type: ignore[attr-defined, index]
        return logits


def test_what_is_in_a_text_stays_text(score: Score, tmp_path: Path, report: Report) -> None:
    nasty = "</bdi></section><script>alert(1)</script><img src=http://x.example/y>"
    (tmp_path / "a.csv").write_text(f"text,n\ngood,1\n{nasty},2,3\n", encoding="utf-8")
    score(tmp_path / "a.csv", output=tmp_path / "out", max_reject_rate=1.0)
    page = report(tmp_path / "out", include_text=True)
    require_self_contained(page)
    assert nasty in rejects(page)


@pytest.mark.process
def test_a_directory_and_inputs_in_a_bucket(cloud: Any, dump: Path, score: Score, report: Report) -> None:
    bucket = cloud.bucket()
    cloud.put_all(dump, f"{bucket}/dump")
    score(f"{bucket}/dump", output=f"{bucket}/out", max_reject_rate=1.0, label_column="stars")
    names = cloud.names(f"{bucket}/out")
    page = report(f"{bucket}/out", include_text=True, maps=("1=NEGATIVE", "5=POSITIVE"))
    require_self_contained(page)
    assert cloud.names(f"{bucket}/out") == names
    assert "after a quote,1" in rejects(page)
    assert "accuracy" in page.section("quality").text
    assert f"{bucket}/dump" in page.section("what").text
    cloud.put(f"{bucket}/dump/a.csv", b"text,stars\ngood,5\n")
    assert rejects(report(f"{bucket}/out", include_text=True)).count("(the input has changed since") == 4
