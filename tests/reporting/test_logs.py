"""With ``--log-format json`` every line of stderr is JSON, whoever has something to say, and how the run ends."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchsent.cli import main
from batchsent.reporting import logs
from batchsent.shares import Share
from support import write_csv


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What is configured is the process's."""
    names = (logs.LOGGER, "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(False)  # pytest undoes that another test had it on, and logging does not notice
    yield
    logging.captureWarnings(False)
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_libraries_warn_of_and_print_becomes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("json", "a", quiet=False)
    with logs.printed_lines_logged():
        logs.configure("json", "b", quiet=False, share=Share(1, 2))  # the run is known by now
        other = logging.getLogger("some.library")
        other.addHandler(logging.StreamHandler())
        other.warning("two\nlines")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        print("s3://user:password@host/x is slow", file=sys.stderr)
        sys.stderr.write("\r10 %\r20 %")
        sys.stderr.write("\r100 %\n")
        logging.getLogger("batchsent.x").warning("ours")
    other.handlers.clear()
    found = lines(stream.getvalue())
    assert all(line["run_id"] == "b" and line["rank"] == 1 for line in found)
    assert [line.get("logger") for line in found] == ["stderr", "stderr", "py.warnings", "stderr", "stderr", None]
    messages = [line["message"] for line in found]
    assert messages[:2] == ["two", "lines"]
    assert "DeprecationWarning: old" in messages[2]
    assert messages[3:] == ["s3://host/x is slow", "100 %", "ours"]
    assert sys.stderr is stream


def test_text_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("json", "a", quiet=False)
    logs.configure("text", "b", quiet=False)
    print("printed", file=sys.stderr)
    logging.getLogger("batchsent.x").warning("ours")
    assert stream.getvalue().startswith("printed\n")
    assert stream.getvalue().endswith(" WARNING ours\n")


NOISY = """
import logging, sys, warnings
from batchsent import job
run_job = job.run_job
def noisy(*arguments, **settings):
    warnings.warn("a warning of a library")
    print("printed by a library", file=sys.stderr)
    logging.getLogger("transformers").warning("logged by a library")
    logging.getLogger("unheard.of").warning("logged by another")
    return run_job(*arguments, **settings)
job.run_job = noisy
from batchsent.cli import main
main(sys.argv[1:])
"""


@pytest.mark.process
def test_every_line_of_a_real_run_is_json_with_its_id(tmp_path: Path, tiny_model: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good film", "bad film"])
    words = ["score", path, "--output", tmp_path / "out", "--model", tiny_model, "--log-format", "json", "--audit", "2"]
    done = subprocess.run(
        [sys.executable, "-c", NOISY, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = lines(done.stderr)
    [run] = (tmp_path / "out/_batchsent/runs").iterdir()
    assert {line["run_id"] for line in found} == {run.stem}
    said = " ".join(line["message"] for line in found)
    for expected in ("a warning of", "printed by", "logged by a library", "logged by another", "audit: ", "summary"):
        assert expected in said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing.csv", "--output", "out"], 2, "nothing.csv does not exist"),
        (["r.csv"], 2, "no output directory"),
        (["r.csv", "--output", "out", "--text-column", "body"], 2, "column 'body' is not in r.csv"),
        (["broken.parquet", "r.csv", "--output", "out"], 3, "1 of 2 shards failed"),
    ],
)
def test_an_error_is_a_line_of_json_too(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "r.csv", ["good film"])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(SystemExit) as ended:
        main(["score", *arguments, "--log-format", "json", "--model", str(tiny_model), "--device", "cpu"])
    assert ended.value.code == code
    out, err = capsys.readouterr()
    last = lines(err)[-1]
    assert out == ""
    assert (last["level"], last["exit_code"]) == ("error", code)
    # The mark by which scripts find it is there as well.
    assert last["message"].startswith("error: ")
    assert says in last["message"]
    assert "traceback" not in last


def test_a_traceback_is_asked_for_and_stands_in_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["--debug", "score", "nothing.csv", "--output", "out", "--log-format", "json"])
    [line] = lines(capsys.readouterr().err)
    assert "InputError" in line["traceback"]


def test_ids_of_runs_sort_as_the_runs_began() -> None:
    ids = []
    for _ in range(20):  # within one second, as a run with nothing to do takes less
        ids.append(logs.new_run_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert len({run_id.partition("Z-")[0] for run_id in ids}) == len(ids)
