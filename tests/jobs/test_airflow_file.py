"""The DAG file without Airflow, which stand-ins replace: what it asks of batchsent, and what its exit codes lead to.

``test_airflow.py`` runs it in Airflow.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import click
import pytest

from batchsent.cli import COMMANDS, cli, score
from batchsent.config import ScoreConfig

ROOT = Path(__file__).parents[2]
DAG_FILE = ROOT / "jobs/airflow/score_reviews.py"
QUARTER_PAST_THREE = datetime(2026, 11, 1, 3, 15, tzinfo=UTC)


class Retried(Exception):  # noqa: N818 - named after what follows
    """Stands in for AirflowException."""


class Failed(Retried):
    """Stands in for AirflowFailException."""


class Operator:
    """Stands in for BaseOperator."""

    def __init__(self, **_: Any) -> None:
        self.log = self.output = MagicMock()


class Dag:
    """What the DAG file defines."""

    def __init__(self, sdk: MagicMock) -> None:
        self.variable = sdk.Variable
        specification = importlib.util.spec_from_file_location("score_reviews", DAG_FILE)
        assert specification is not None
        assert specification.loader is not None
        self.module: Any = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.module)

    def settings(self, start: datetime | None = QUARTER_PAST_THREE, **changes: Any) -> dict[str, str]:
        """The settings of a run whose data interval begins there, where the Airflow variable holds ``changes``."""
        self.variable.get.return_value = changes
        found: dict[str, str] = self.module.settings_of({"data_interval_start": start})
        return found

    def command(self, task_id: str, **changes: Any) -> list[str]:
        """The words after ``batchsent``."""
        words: list[str] = getattr(self.module, task_id).arguments(self.settings(**changes))
        return words

    def execute(self, task_id: str, **changes: Any) -> tuple[int, str]:
        """One run of an operator: what it returns, and its message."""
        self.variable.get.return_value = changes
        instance = MagicMock()
        code = getattr(self.module, task_id).execute({"data_interval_start": QUARTER_PAST_THREE, "ti": instance})
        return code, dict(call.args for call in instance.xcom_push.call_args_list)["message"]


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> Dag:
    """The DAG file with stand-ins for all that it imports of Airflow."""
    sdk, exceptions = MagicMock(BaseOperator=Operator), MagicMock(AirflowException=Retried, AirflowFailException=Failed)
    for name in ("", ".providers", ".providers.standard", ".providers.standard.operators"):
        monkeypatch.setitem(sys.modules, f"airflow{name}", MagicMock())
    monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.hitl", MagicMock())
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, "airflow.sdk.exceptions", exceptions)
    return Dag(sdk)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Makes a stand-in for batchsent of these lines of shell; returns how it is started."""

    def make(lines: str) -> str:
        path = tmp_path / "stand-in"
        path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make


def test_nothing_runs_when_it_is_parsed_but_definitions() -> None:
    tree = ast.parse(DAG_FILE.read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body[1:]}  # without the docstring
    assert kinds == {ast.ImportFrom, ast.Import, ast.Assign, ast.FunctionDef, ast.ClassDef, ast.With}
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    called = {ast.unparse(node.func) for part in outside for node in ast.walk(part) if isinstance(node, ast.Call)}
    assert not called & {"open", "print", "glob", "Variable.get", "settings_of", "subprocess.Popen", "Path"}


def asked(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> ScoreConfig:
    """What these words ask of ``batchsent``, the first being ``score``."""
    configs: list[ScoreConfig] = []
    monkeypatch.setattr(score, "run", configs.append)
    assert arguments[0] == "score"
    score.command.main(arguments[1:], standalone_mode=False)
    (config,) = configs
    return config


def test_it_asks_for_options_that_score_has(dag: Dag, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dag.module.SETTINGS["options"].replace("{root}", str(ROOT))  # the job file of the repository
    config = asked(dag.command("score", options=options), monkeypatch)
    assert config.inputs == ("/srv/reviews/dumps/2026-11-01",)
    assert config.output == "/srv/reviews/scored/2026-11-01"
    assert config.device == "cuda", "the job file's"


def test_it_runs_commands_that_there_are(dag: Dag, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dag.command("verify") == ["verify", "/srv/reviews/scored/2026-11-01"]
    assert "verify" in COMMANDS
    command, directory, option = dag.command("publish")
    assert (command, directory) == ("publish", "/srv/reviews/scored/2026-11-01")
    (gate,) = re.findall(r'"(--baseline [^"]+)"', DAG_FILE.read_text(encoding="utf-8"))
    gated = dag.command("score", options="", gate=gate)
    publish = cli.get_command(click.Context(cli), command)
    assert publish is not None
    assert option in {name for parameter in publish.params for name in parameter.opts}
    assert asked(gated, monkeypatch).baseline == "/srv/reviews/accepted/manifest.json"


@pytest.mark.parametrize("code", [0, 3, 4])
def test_the_exit_codes_that_the_next_task_looks_at(dag: Dag, program: Callable[[str], str], code: int) -> None:
    host = program(f'echo "error: $*; do something" >&2; echo summary; exit {code}')
    returned, message = dag.execute("score", host=host, root="/")
    assert returned == code
    assert message.startswith("error: score //dumps/2026-11-01 --output //scored/2026-11-01"), "not the last line"


@pytest.mark.parametrize("ending", ["exit 75", "exit 130", "exit 137", "exit 143", "kill -9 $$", "kill -15 $$"])
@pytest.mark.parametrize("task_id", ["score", "publish", "verify"])
def test_what_is_temporary_is_retried(dag: Dag, program: Callable[[str], str], task_id: str, ending: str) -> None:
    with pytest.raises(Retried, match="disk full") as caught:
        dag.execute(task_id, host=program(f"echo 'error: disk full' >&2; {ending}"), root="/")
    assert type(caught.value) is Retried


@pytest.mark.parametrize(
    ("task_id", "code"), [("score", 1), ("score", 2), ("score", 125), ("verify", 3), ("publish", 4)]
)
def test_what_no_retry_helps_fails_at_once(dag: Dag, program: Callable[[str], str], task_id: str, code: int) -> None:
    with pytest.raises(Failed, match=f"exit code {code}: error: a column"):
        dag.execute(task_id, host=program(f"echo 'error: a column' >&2; exit {code}"), root="/")


def test_a_program_that_is_not_there_fails_at_once(dag: Dag, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"batchsent is not there"):
        dag.execute("score", root=str(tmp_path))


def test_a_killed_task_stops_batchsent(dag: Dag, program: Callable[[str], str], tmp_path: Path) -> None:
    host = program("trap 'echo \"error: stopped by SIGTERM\"; exit 143' TERM; echo on; while :; do sleep 0.05; done")
    operator, outcome = dag.module.score, []

    def run() -> None:
        with pytest.raises(Retried, match="stopped by SIGTERM"):
            dag.execute("score", host=host, root=str(tmp_path))
        outcome.append("ended")

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 20
    while not operator.log.info.call_args_list[1:] and time.monotonic() < deadline:
        time.sleep(0.02)  # until its first line was read
    operator.on_kill()
    thread.join(timeout=20)
    assert outcome == ["ended"]


def test_a_container_is_one_setting(dag: Dag) -> None:
    settings = dag.settings(runs_in="container", root="/data/r")
    words = shlex.split(settings[settings["runs_in"]])
    assert words[:4] == ["docker", "run", "--rm", "--init"]
    assert words[-5:] == ["--volume", "/data/r:/data/r", "--workdir", "/data/r", "batchsent"]


def test_the_day_is_that_of_the_time_zone(dag: Dag, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dag.settings()["day"] == "2026-11-01"
    monkeypatch.setattr(dag.module, "TIMEZONE", "Asia/Shanghai")
    evening = datetime(2026, 10, 31, 19, 15, tzinfo=UTC)  # 03:15 of the first of November there
    assert dag.settings(evening)["output"] == "/srv/reviews/scored/2026-11-01"
    assert dag.settings(evening, gate="--baseline {day_before}")["gate"] == "--baseline 2026-10-31"


def test_braces_that_are_not_ours_stay(dag: Dag) -> None:
    command = dag.command("score", options=r"--prompt 'Review: {text}\n{day}'")
    assert command[-2:] == ["--prompt", r"Review: {text}\n2026-11-01"]


@pytest.mark.parametrize("changes", [{"outptu": "x"}, {"options": ["--limit", "3"]}, {"runs_in": "input"}])
def test_a_wrong_variable_fails_at_once(dag: Dag, changes: dict[str, Any]) -> None:
    with pytest.raises(Failed, match=r"the Airflow variable 'batchsent' sets (outptu|options|runs_in)"):
        dag.settings(**changes)


def test_a_run_of_no_day_fails_at_once(dag: Dag) -> None:
    with pytest.raises(Failed, match="no data interval"):
        dag.settings(None)
