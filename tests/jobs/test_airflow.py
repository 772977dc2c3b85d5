"""The DAG in Airflow: real runs of it, of batchsent where it can give the exit code, else of a stand-in.

``airflow dags test`` waits for retries as the scheduler does. What it cannot do, back-fill, start the DAGs downstream
and ask somebody, is left to a scheduler and an API server on this machine, at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchsent.reporting.run_report import RunReport
from support import published, write_csv

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / ".venv-airflow/bin/airflow"
DAG_FILE = ROOT / "jobs/airflow/score_reviews.py"
EXAMPLES = ROOT / "examples/reviews"
RETRY_SECONDS = 2

pytestmark = [pytest.mark.airflow, pytest.mark.process]

# Stands in for batchsent: notes the time and the words, and ends with the exit code that is next for a command and day.
# Where none is left, the real one goes on.
STAND_IN = """#!{python}
import os, sys, time
from pathlib import Path
root, command = Path({root!r}), " ".join(sys.argv[1:])
with open(os.environ["AIRFLOW_HOME"] + "/calls", "a") as calls:
    print(time.time(), command, file=calls)
for answers in (root / "answers" / sys.argv[1]).glob("*"):
    code, _, rest = answers.read_text().partition("\\n")
    if code and "/scored/" + answers.name in command:
        answers.write_text(rest)
        print("error: a stand-in; expected " + code + "; wait" if code != "0" else "done", flush=True)
        sys.exit(int(code))
os.environ["PYTHONPATH"] = {path!r}
os.execv({python!r}, [{python!r}, "-m", "batchsent", *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Site:
    """An installation of Airflow, with a dump and a batchsent."""

    home: Path
    root: Path
    environment: dict[str, str]

    def with_settings(self, **settings: str) -> Site:
        """The same with these, too, in the Airflow variable."""
        before = json.loads(self.environment.get("AIRFLOW_VAR_BATCHSENT", "{}"))
        variable = json.dumps({"root": str(self.root)} | before | settings)
        return Site(self.home, self.root, self.environment | {"AIRFLOW_VAR_BATCHSENT": variable})

    def add_dump(self, day: str, *sources: Path) -> Path:
        """A complete dump of that day; returns where its results go."""
        folder = self.root / "dumps" / day
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, folder)
        (folder / "_SUCCESS").touch()
        return self.root / "scored" / day

    def answer(self, command: str, day: str, *codes: int) -> None:
        """How the next runs of this command end, for that day."""
        path = self.root / "answers" / command / day
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{code}\n" for code in codes), encoding="utf-8")

    def calls(self) -> list[tuple[float, str]]:
        """When batchsent was started, and with which words."""
        path = self.home / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(float(line.split()[0]), line.partition(" ")[2]) for line in lines]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """An airflow command in a session of its own."""
        return subprocess.Popen(
            [AIRFLOW, *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of an airflow command."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=900)
        finally:
            end(process)
        return process.returncode, output

    def test(self, logical_date: str = "2026-02-02T10:00") -> tuple[int, str]:
        """Run the DAG for the day before."""
        return self.run("dags", "test", "score_reviews", logical_date)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask Airflow's database."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)
        ) as database:
            return database.execute(statement).fetchall()

    def states(self, run_id: str = "%") -> dict[str, str | None]:
        """Task → state, of a run."""
        where = f"dag_id = 'score_reviews' AND run_id LIKE '{run_id}'"
        return dict(self.query(f"SELECT task_id, state FROM task_instance WHERE {where}"))

    def events(self) -> list[dict[str, str]]:
        """What was announced."""
        return [json.loads(extra) for (extra,) in self.query("SELECT extra FROM asset_event ORDER BY id")]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with its database."""
    if not AIRFLOW.exists():
        pytest.fail(f"{AIRFLOW} is not there; `make test-airflow` makes it", pytrace=False)
    home = tmp_path_factory.mktemp("airflow")
    subprocess.run([AIRFLOW, "db", "migrate"], env=environment_of(home), check=True, capture_output=True, timeout=300)
    return home


def environment_of(home: Path) -> dict[str, str]:
    """Of every process of Airflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    return kept | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MAX_TASK_RETRY_DELAY": str(RETRY_SECONDS),  # instead of minutes, so that the DAG stays as it is
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


@pytest.fixture
def make_site(migrated: Path, tmp_path: Path, tiny_model: Path) -> Callable[[str], Site]:
    """Makes an Airflow of that name; all of them have one root, with a tiny model."""
    root = tmp_path / "reviews"
    program = root / ".venv/bin/batchsent"
    program.parent.mkdir(parents=True)
    path = os.environ.get("PYTHONPATH", "")
    program.write_text(STAND_IN.format(python=sys.executable, root=str(root), path=path), encoding="utf-8")
    program.chmod(0o755)

    def make(name: str) -> Site:
        home = tmp_path / name
        shutil.copytree(migrated, home)
        (home / "airflow.cfg").unlink()  # names the other home
        (home / "dags").mkdir()
        shutil.copy(DAG_FILE, home / "dags")
        site = Site(home, root, environment_of(home))
        return site.with_settings(options=f"--model {tiny_model} --device cpu --backend torch --precision fp32")

    return make


@pytest.fixture
def site(make_site: Callable[[str], Site]) -> Site:
    return make_site("airflow")


def test_a_day_is_scored_checked_and_announced_and_left_alone_when_run_again(site: Site) -> None:
    out = site.add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    shutil.copytree(ROOT / "jobs", site.root / "jobs")
    site = site.with_settings(options="--config {root}/jobs/reviews.toml --device cpu")  # with the model in the package
    code, output = site.test()
    assert code == 0, output[-3000:]
    assert site.states() == dict.fromkeys(
        ["wait_for_dump", "score", "by_exit_code", "verify", "announce"], "success"
    ) | (dict.fromkeys(["ask_about_drift", "publish", "look_at_shards"], "skipped"))
    (event,) = site.events()
    assert (event["day"], event["directory"]) == ("2026-02-01", str(out))
    assert re.match(rf"verified {out}: 5 files, 131 rows, .* all as they were published", event["verified"])
    before = published(out)
    assert "_SUCCESS" in before
    code, output = site.test()
    assert code == 0, output[-3000:]
    assert "nothing to do" in output
    assert published(out) == before


def test_what_is_temporary_is_tried_again_after_a_while(site: Site) -> None:
    site.add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    site.answer("score", "2026-02-01", 75, 143)
    site.answer("verify", "2026-02-01", 75)
    code, output = site.test()
    assert code == 0, output[-3000:]
    calls = site.calls()
    assert [words.split()[0] for _, words in calls] == ["score"] * 3 + ["verify"] * 2
    tries = dict(site.query("SELECT task_id, try_number FROM task_instance"))
    assert (tries["score"], tries["verify"], tries["announce"]) == (3, 2, 1)
    for earlier, later in ((0, 1), (1, 2), (3, 4)):
        assert calls[later][0] - calls[earlier][0] >= RETRY_SECONDS


def test_a_shard_that_cannot_be_read_goes_to_a_person_who_mends_it(site: Site) -> None:
    out = site.add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    damaged = site.root / "dumps/2026-02-01/damaged.parquet"
    damaged.write_bytes((EXAMPLES / "2026-11-02/shop.parquet").read_bytes()[:-100])
    code, output = site.test()
    assert code != 0
    states = site.states()
    assert (states["score"], states["by_exit_code"], states["look_at_shards"]) == ("success", "success", "failed")
    assert {states[name] for name in ("ask_about_drift", "publish", "verify", "announce")} == {"skipped"}
    assert "then clear the task 'score' of this run" in output
    assert "damaged.parquet" in output
    assert len(site.calls()) == 1
    assert site.events() == []
    damaged.unlink()
    code, output = site.test()
    assert code == 0, output[-3000:]
    assert (out / "_SUCCESS").exists()
    assert site.states()["look_at_shards"] == "skipped"


def test_wrong_settings_fail_at_once(site: Site) -> None:
    out = site.add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    code, output = site.with_settings(options="--text-column opinion --device cpu").test()
    assert code != 0
    assert re.search("exit code 2: error: .*opinion.*--text-column", output)
    states = site.states()
    assert states["score"] == "failed"
    assert {states[name] for name in ("by_exit_code", "verify", "announce")} == {"upstream_failed"}
    assert len(site.calls()) == 1
    assert not (out / "_batchsent/config.json").exists(), "DIR is still free for other settings"


def test_a_container_is_started_as_the_setting_says(site: Site, tmp_path: Path) -> None:
    site.add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    docker = tmp_path / "bin/docker"
    docker.parent.mkdir()
    # Does what the image's entry point does, outside.
    lines = f'echo "$*" >> {tmp_path}/docker-calls; while [ "$1" != batchsent ]; do shift; done; shift'
    docker.write_text(f'#!/bin/sh\n{lines}\nexec {site.root}/.venv/bin/batchsent "$@"\n', encoding="utf-8")
    docker.chmod(0o755)
    settings = json.loads(site.environment["AIRFLOW_VAR_BATCHSENT"]) | {"runs_in": "container"}
    site = site.with_settings(**settings)
    site.environment["PATH"] = f"{docker.parent}:{site.environment['PATH']}"
    code, output = site.test()
    assert code == 0, output[-3000:]
    calls = (tmp_path / "docker-calls").read_text(encoding="utf-8").splitlines()
    volume = f"--volume {site.root}:{site.root} --workdir {site.root}"
    prefix = f"run --rm --init --gpus all {volume} batchsent"
    assert [call.startswith(f"{prefix} {command} ") for call, command in zip(calls, ("score", "verify"), strict=True)]


def test_two_airflows_at_the_same_day_publish_it_once(make_site: Callable[[str], Site]) -> None:
    sites = [make_site("first"), make_site("second")]
    out = sites[0].add_dump("2026-02-01", EXAMPLES / "shop-2026-11-01.csv")
    lock = out / "_batchsent/lock"
    lock.parent.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        processes = []
        with lock.open("w") as held:  # as a third one would, until both have met it
            fcntl.flock(held, fcntl.LOCK_EX)
            for site in sites:
                site.environment["AIRFLOW__CORE__MAX_TASK_RETRY_DELAY"] = "30"  # so that neither gives up
                processes.append(site.start("dags", "test", "score_reviews", "2026-02-02T10:00"))
                stack.callback(end, processes[-1])
            wait_for(lambda: all(len(site.calls()) >= 2 for site in sites))
        for process in processes:
            output, _ = process.communicate(timeout=900)
            assert process.returncode == 0, output[-3000:]
            assert "exit code 75: error: another run" in output
    assert (out / "_SUCCESS").exists()
    assert [len(site.events()) for site in sites] == [1, 1]


def test_a_back_fill_starts_what_is_downstream_and_somebody_decides_about_drift(
    site: Site, score: Callable[..., RunReport], reviews: Callable[[int], list[str]]
) -> None:
    days = ["2026-02-01", "2026-02-02", "2026-02-03"]
    usual, longer = reviews(60), [" ".join(reviews(10))] * 60
    for day, texts in zip(days, (usual, longer, longer), strict=True):
        site.add_dump(day, write_csv(site.root / f"{day}.csv", texts))
    site.answer("score", days[0], 75)
    accepted = site.root / "accepted"
    score(write_csv(site.root / "accepted.csv", usual), output=accepted)
    site = site.with_settings(gate=f"--baseline {accepted}/_batchsent/manifest.json --max-drift 0.25")
    page = (ROOT / "docs/airflow.md").read_text(encoding="utf-8")
    (downstream,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (site.home / "dags/downstream.py").write_text(downstream, encoding="utf-8")
    with serving(site) as (site, ask):
        (command,) = re.findall(r"^airflow (backfill create [^#\n]*)", page, re.MULTILINE)
        wait_for(lambda: len(site.query("SELECT * FROM dag")) == 2)
        code, output = site.run(*command.replace("2026-11-0", "2026-02-0").split())
        assert code == 0, output[-3000:]
        runs = {day: f"backfill__2026-02-0{index + 2}T03:15:00+00:00" for index, day in enumerate(days)}
        place = "/api/v2/dags/score_reviews/dagRuns/{}/taskInstances/ask_about_drift/-1/hitlDetails"
        for day, answer in zip(days[1:], ("Approve", "Reject"), strict=True):
            wait_for(lambda day=day: site.states(runs[day]).get("ask_about_drift") == "awaiting_input")  # type: ignore[misc]
            question = ask("GET", place.format(runs[day]))
            assert question["subject"] == f"The reviews of {day} have drifted. Publish them all the same?"
            assert question["body"].startswith(f"error: the predictions have moved from {accepted}/_batchsent/manifest")
            # Airflow 3.3 takes a task for one that went astray, if its scheduler hears only after the answer that the
            # process which asked has ended.
            ended = f"Received executor event with state success .*'ask_about_drift', run_id='{re.escape(runs[day])}'"
            wait_for(lambda ended=ended: re.search(ended, (site.home / "scheduler.log").read_text()))  # type: ignore[misc]
            ask("PATCH", place.format(runs[day]), {"chosen_options": [answer], "params_input": {}})
        states = "SELECT state FROM dag_run WHERE run_id LIKE 'backfill%' ORDER BY run_id"
        wait_for(lambda: {state for (state,) in site.query(states)} <= {"success", "failed"})
        assert [state for (state,) in site.query(states)] == ["success", "success", "failed"]
        wait_for(lambda: downstream_days(site) == days[:2])
    assert sorted(event["day"] for event in site.events()) == days[:2]
    assert [(site.root / "scored" / day / "_SUCCESS").exists() for day in days] == [True, True, False]
    asked = sorted(words.split(" --")[0] for _, words in site.calls() if words.startswith(("publish", "verify")))
    assert [words.split()[0] + " " + words[-10:] for words in asked] == [
        f"publish {days[1]}",
        f"verify {days[0]}",
        f"verify {days[1]}",
    ]
    rejected = site.states(runs[days[2]])
    assert (rejected["ask_about_drift"], rejected["verify"]) == ("failed", "upstream_failed")


def downstream_days(site: Site) -> list[str]:
    """The days that the DAG downstream has printed."""
    logs = site.home.glob("logs/dag_id=use_scored_reviews/**/*.log")
    return sorted(day for log in logs for day in re.findall(r"(2026-02-\d\d) is in ", log.read_text(encoding="utf-8")))


@contextlib.contextmanager
def serving(site: Site) -> Iterator[tuple[Site, Callable[..., Any]]]:
    """A scheduler, a DAG processor and an API server, and how that is asked."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site.environment.update(
        AIRFLOW__API__HOST="127.0.0.1",
        AIRFLOW__API__PORT=str(port),
        AIRFLOW__API_AUTH__JWT_SECRET="a secret that the processes of this test share" * 2,
        AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
        AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/",
        AIRFLOW__CORE__PARALLELISM="4",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
    )
    with contextlib.ExitStack() as stack:
        for name in ("api-server", "scheduler", "dag-processor"):
            log = stack.enter_context((site.home / f"{name}.log").open("w"))
            process = subprocess.Popen(
                [AIRFLOW, name], env=site.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
            stack.callback(end, process)

        def ask(method: str, place: str, given: dict[str, Any] | None = None) -> Any:
            headers = {"Content-Type": "application/json"}
            if place.startswith("/api"):
                headers["Authorization"] = f"Bearer {ask('GET', '/auth/token')['access_token']}"
            data = None if given is None else json.dumps(given).encode()
            url = f"http://127.0.0.1:{port}{place.replace('+', '%2B')}"
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers, method=method), timeout=30
            ) as answer:
                return json.load(answer)

        def is_up() -> bool:
            with contextlib.suppress(OSError):
                health = ask("GET", "/api/v2/monitor/health")
                return bool(health["scheduler"]["status"] == health["dag_processor"]["status"] == "healthy")
            return False

        wait_for(is_up)
        yield site, ask


def end(process: subprocess.Popen[Any]) -> None:
    """End a process with all that it started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    """Until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.5)
