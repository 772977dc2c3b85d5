"""The cron job with a stand-in for batchsent: what it prints is what cron would mail."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "jobs/cron/run-nightly.sh"
CRONTAB = ROOT / "jobs/cron/batchsent.cron"

Night = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of what the crontab expects in /srv/reviews."""
    shutil.copytree(ROOT / "jobs/cron", tmp_path / "jobs/cron")
    shutil.copy(ROOT / "jobs/reviews.toml", tmp_path / "jobs")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def night(place: Path) -> Night:
    """The crontab's line as cron runs it, where batchsent is these lines of shell."""
    text = CRONTAB.read_text(encoding="utf-8").replace("/srv/reviews", str(place))
    (path,) = re.findall(r"^PATH=(.*)$", text, re.MULTILINE)
    (line,) = re.findall(r"^15 3 \* \* \*\s+(.*)$", text, re.MULTILINE)
    assert "%" not in line, "which cron takes for the end of the line"

    def run(batchsent: str) -> subprocess.CompletedProcess[str]:
        program = place / ".venv/bin/batchsent"
        program.write_text(f"#!/bin/sh\n{batchsent}\n", encoding="utf-8")
        program.chmod(0o755)
        environment = ["env", "-i", f"HOME={place}", "SHELL=/bin/sh", f"PATH={path}"]
        return subprocess.run([*environment, "/bin/sh", "-c", line], capture_output=True, text=True, timeout=60)

    return run


def log_of(place: Path) -> str:
    """Of the one night that there was."""
    (log,) = (place / "logs").glob("reviews-????-??-??.log")
    return log.read_text(encoding="utf-8")


def test_a_good_night_prints_nothing_and_has_a_log(night: Night, place: Path) -> None:
    result = night('echo "out: $*"; echo "err" >&2')
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    log = log_of(place)
    assert "out: score --config jobs/reviews.toml\n" in log
    assert "err\n" in log
    assert "run-nightly: ends with exit code 0\n" in log


@pytest.mark.parametrize("code", [1, 2, 3, 137])
def test_a_failure_is_mailed_with_its_error_and_the_end_of_the_log(night: Night, code: int) -> None:
    result = night(f'echo "error: a column; expected b; pass --c" >&2; seq 40; exit {code}')
    assert result.returncode == code
    first, second, third, *rest = result.stderr.splitlines()
    assert first.startswith(f"reviews ended with exit code {code} on ")
    assert second == "error: a column; expected b; pass --c", "though it is not at the end of the log"
    assert third.startswith("The end of /")
    assert rest[-2] == "40"


def test_drift_is_mailed_with_the_line_that_publishes(night: Night) -> None:
    error = (
        "error: moved; expected no index above 0.25; look at them; 'batchsent publish scored --accept-drift' publishes"
    )
    result = night(f'echo "{error}" >&2; exit 4')
    assert result.returncode == 4
    assert result.stderr.splitlines()[1] == error


def test_the_error_of_an_earlier_run_of_the_day_is_not_mailed(night: Night) -> None:
    night("echo 'error: the first' >&2; exit 3")
    result = night("exit 1")
    assert "error: the first" not in result.stderr.splitlines()[1]


@pytest.mark.parametrize("code", [75, 130, 143])
def test_an_unfinished_night_is_mailed_when_it_is_the_third_in_a_row(night: Night, code: int) -> None:
    for _ in range(2):
        assert night(f"exit {code}").stderr == ""
    assert night("exit 0").stderr == ""
    for _ in range(2):
        assert night(f"exit {code}").stderr == "", "a good night begins the count again"
    assert night(f"exit {code}").stderr.startswith(f"reviews ended with exit code {code} on ")
    assert ", 4 nights in a row." in night(f"exit {code}").stderr


def test_a_night_that_cannot_be_counted_is_mailed(night: Night, place: Path) -> None:
    """As on a full disk, where no number can be kept."""
    (place / "logs/reviews.unfinished-nights").mkdir(parents=True)
    error = night("exit 75").stderr
    assert error.startswith("reviews ended with exit code 75 on ")
    assert "nights in a row" not in error


def test_nights_do_not_pile_up_and_a_killed_script_leaves_the_lock_to_batchsent(night: Night, place: Path) -> None:
    job = place / "jobs/reviews.toml"
    program = place / ".venv/bin/batchsent"
    program.write_text("#!/bin/sh\ntouch started; while [ ! -e end ]; do sleep 0.05; done\n", encoding="utf-8")
    program.chmod(0o755)
    command = f"PATH={program.parent}:$PATH exec jobs/cron/run-nightly.sh {shlex.quote(str(job))}"
    first = subprocess.Popen(["/bin/sh", "-c", command], cwd=place)
    deadline = time.monotonic() + 30
    while not (place / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    result = night("touch second")
    assert (result.returncode, result.stderr) == (75, "")
    assert not (place / "second").exists()
    assert "an earlier night still runs; nothing was started" in log_of(place)
    (place / "end").touch()  # batchsent ends, and with it the lock
    while night("touch second").returncode == 75 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (place / "second").exists()


def test_a_lock_that_cannot_be_taken_is_not_taken_for_a_night_that_runs(night: Night, place: Path) -> None:
    flock = place / ".venv/bin/flock"
    flock.write_text("#!/bin/sh\necho 'flock: No locks available' >&2; exit 71\n", encoding="utf-8")
    flock.chmod(0o755)
    result = night("touch started")
    assert result.returncode == 71
    assert "flock: No locks available" in result.stderr
    assert not (place / "started").exists()


def test_a_job_file_that_is_not_there_is_mailed(night: Night, place: Path) -> None:
    (place / "jobs/reviews.toml").unlink()
    result = night("exit 0")
    assert result.returncode == 2
    assert result.stderr == (
        "error: jobs/reviews.toml; a job file that can be read was expected; run-nightly.sh JOB.toml [OPTION...]\n"
    )
