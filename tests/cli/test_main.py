"""The command line as a whole: what it loads, its exit codes, and errors of one line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from batchsent import __version__
from batchsent.cli import COMMANDS, cli, score
from batchsent.errors import (
    BatchsentError,
    HubUnreachableError,
    IncompleteError,
    ModelError,
    ShardError,
    StoppedError,
    StorageError,
    UsageError,
)

from .conftest import Run, is_one_error


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[str]:
    """Make the job raise ``error``; returns arguments that start it."""

    def raise_it(_config: object) -> None:
        raise error

    monkeypatch.setattr(score, "run", raise_it)
    return ["score", "reviews.csv", "--output", "scored"]


# --- what is loaded

HEAVY = ["torch", "transformers", "pyarrow", "polars", "numpy", "tokenizers", "huggingface_hub"]


@pytest.mark.parametrize(
    "program",
    [
        "import batchsent",
        "from batchsent.cli import main",
        "import batchsent.__main__",
        "from batchsent.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from batchsent.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass",
        "from batchsent.cli import main\ntry: main(['score', '--help'])\nexcept SystemExit: pass",
        "from batchsent.cli import main\ntry: main(['score', 'x.csv'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    report = f"\nimport json, sys\nprint('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program + report], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


# --- help


def test_help_names_every_command(run: Run) -> None:
    for argument in ("--help", "-h"):
        code, out, err = run(argument)
        assert (code, err) == (0, "")
        for name, (_, line, _) in COMMANDS.items():
            assert any(row.split()[:1] == [name] and line in row for row in out.splitlines())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_there(run: Run, name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: batchsent {name} ")
    module = importlib.import_module(f"batchsent.cli.{COMMANDS[name][0]}")
    assert module.command.name == name
    assert cli.get_command(click.Context(cli), name) is module.command


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"batchsent, version {__version__}\n", "")


def test_without_a_command_there_is_help(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert (out + err).startswith("Usage: batchsent ")
    assert len((out + err).splitlines()) > 10


def test_score_help_names_every_line_of_the_contract(run: Run) -> None:
    _, out, _ = run("score", "--help")
    for word in ("INPUT", "--output DIR", "--config FILE", ".parquet", ".gz", "[default: text;", "[default: 0.01"):
        assert word.replace(";", "") in out


# --- errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "nope"),
        (["--nope"], "--nope"),
        (["score", "--nope"], "--nope"),
        (["score", "x.csv", "--output"], "--output"),
        (["score", "x.csv", "--limit", "many", "--output", "o"], "--limit"),
        (["score", "x.csv", "--limit", "0", "--output", "o"], "--limit"),
        (["score", "x.csv", "--threads", "1.5", "--output", "o"], "--threads"),
        (["score", "x.csv", "--precision", "fp64", "--output", "o"], "--precision"),
        (["score", "x.csv", "--max-reject-rate", "2", "--output", "o"], "--max-reject-rate"),
        (["score", "x.csv", "--max-reject-rate", "nan", "--output", "o"], "--max-reject-rate"),
        (["score", "x.csv", "--device", "gpu", "--output", "o"], "--device"),
        (["score", "x.csv", "--keep", "a", "--keep", "a=b", "--output", "o"], "--keep"),
        (["score", "x.csv", "--replicas", "2", "--output", "o"], "--replicas with --engine local"),
        (["score", "x.csv"], "--output"),
        (["score", "--output", "o"], "INPUT"),
        (["score"], "INPUT"),
        (["score", "x.csv", "--output", "x.csv"], "x.csv is the --output too"),
        (["score", "x.csv", "--json", "--output", "o"], "it is one of 'batchsent plan'"),
        (["score", "x.csv", "--baselin", "m.json", "--output", "o"], "did you mean '--baseline'?"),
        (["score", "no-such-file.csv", "--output", "o"], "no-such-file.csv does not exist"),
        (["score", "abfs://b/x.csv", "--output", "o"], "INPUT is a abfs://"),
        (["score", "x.csv", "--output", "abfs://b/o"], "--output is a abfs://"),
        (["score", "s3://", "--output", "o"], "names no bucket"),
        (["score", "x.csv", "--output", "s3:///o"], "names no bucket"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_2(
    run: Run, arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("text\ngood\n", encoding="utf-8")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert is_one_error(err)
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("found", "this", "do that"), 2),
        (ModelError("found\nin two lines"), 2),
        (IncompleteError("found"), 3),
        (StorageError("found"), 75),
        (HubUnreachableError("found"), 75),
        (StoppedError(2), 130),
        (StoppedError(15), 143),
        (BatchsentError("found"), 1),
        (ShardError("found"), 1),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/x"), 2),
        (OSError(28, "No space left on device", "/x"), 75),
        (RuntimeError("a bug\nin two lines"), 1),
        (KeyError("a bug"), 1),
        (OSError("only\nwords"), 75),
    ],
)
def test_every_error_is_one_line_and_its_own_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    found, out, err = run(*failing(monkeypatch, error))
    assert found == code
    assert out == ""
    assert is_one_error(err.removeprefix("\n"))  # Click ends the line of a ^C.


def test_a_job_that_ends_well_is_exit_0(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "run", lambda _config: None)
    assert run("score", "reviews.csv", "--output", "scored") == (0, "", "")


def batchsent(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchsent", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **settings,
    )


@pytest.mark.parametrize("where", [0, 1, 2])
def test_debug_gives_a_traceback_and_the_same_exit_code(where: int) -> None:
    arguments = ["score", "x.csv"]
    plain = batchsent(*arguments)
    debugged = batchsent(*arguments[:where], "--debug", *arguments[where:])
    assert is_one_error(plain.stderr)
    assert "Traceback (most recent call last)" in debugged.stderr
    assert plain.stderr.removeprefix("error: ").strip() in debugged.stderr
    assert (plain.returncode, debugged.returncode) == (2, 2)


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = batchsent("score", "no-such-file.csv", "--output", "o", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_error(done.stderr)


def test_a_reader_that_leaves_is_no_bug() -> None:
    # As in `batchsent --help | head -1`; exit 1 would alert somebody.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "batchsent", "--help"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 1
    assert "Traceback" not in done.stderr
