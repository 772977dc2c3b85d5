"""Fixtures of the tests of ``batchsent report``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.cli import main
from batchsent.html_report.config import ReportConfig
from batchsent.html_report.run import write_report
from html_report.pages import Page
from support import write_csv

Report = Callable[..., Page]
Cli = Callable[..., tuple[int, str, str]]

CANARY = "Zanzibarwidget"
"""In every text, and nowhere else."""

GOOD = f"A great kettle, I love it and would buy it again. {CANARY}"
BAD = f"Awful, it broke within a week and nobody answers my mails. {CANARY}"

EMBEDDED: dict[str, Any] = {"precision": "fp32", "threads": 1, "device": "cpu", "backend": "torch", "progress": "none"}


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """The page of a directory, as ``batchsent report`` writes it."""

    def write(directory: Path | str, **options: Any) -> Page:
        config = ReportConfig(directory=str(directory), **{"output": str(tmp_path / "page.html"), **options})
        return Page.at(write_report(config))

    return write


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """A command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture(scope="session")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of labelled reviews; rows of three kinds are bad, and every text has the canary in it."""
    folder = tmp_path_factory.mktemp("report") / "dump"
    texts = [GOOD, BAD, f"{GOOD} {BAD}", BAD * 40] * 10
    stars = ["5", "1", "3", "1"] * 10
    write_csv(folder / "a.csv", texts, stars=stars)
    with (folder / "a.csv").open("a", encoding="utf-8", newline="") as file:
        file.write(f'"",4\r\n{CANARY} one,5,too many,{CANARY}\r\n"{CANARY}" after a quote,1\r\n   ,2\r\n')
    lines = [f'{{"text": "{GOOD}", "stars": 5}}', f'{{"text": "{CANARY}', '{"text": 17, "stars": 2}']
    (folder / "sub").mkdir()
    (folder / "sub/b.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pq.write_table(
        pa.table({"text": [GOOD, None, BAD], "stars": pa.array(["4.0", "4.0", "1.0"])}), folder / "c.parquet"
    )
    return folder


@pytest.fixture(scope="session")
def scored(dump: Path) -> Path:
    """``dump``, scored by the model of the package, published."""
    out = dump.parent / "scored"
    batchsent.score(dump, output=out, label_column="stars", max_reject_rate=0.5, **EMBEDDED)
    return out
