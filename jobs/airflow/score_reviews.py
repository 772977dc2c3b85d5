"""Score each day's reviews: a DAG for Airflow 3.1 or newer, to copy into a DAG folder. docs/airflow.md says more.

    wait_for_dump ─▶ score ─▶ by_exit_code ─┬─ 0 ────────────────────────────▶ verify ─▶ announce
                                            ├─ 4 ─▶ ask_about_drift ─▶ publish ─▶┘
                                            └─ 3 ─▶ look_at_shards

Every day has its own output directory, and batchsent may be run on it again at any moment: what is scored is kept, what
is published stays as it is, and a second run at the same time ends with 75. So each task may be retried, cleared or
back-filled. No setting, file or variable is read while Airflow parses this file.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from glob import glob
from pathlib import Path
from typing import IO, Any, cast
from zoneinfo import ZoneInfo

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    CronDataIntervalTimetable,
    Metadata,
    PokeReturnValue,
    TriggerRule,
    Variable,
    get_current_context,
    task,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# The Airflow variable "batchsent", a JSON object, replaces any of these without a change to this file. They are not
# parameters of a run, because whoever may start one should not choose what is executed.
SETTINGS = {
    # Holds the rest. batchsent starts there. The workers, and the container, see it under this path.
    "root": "/srv/reviews",
    # How batchsent is started: "host" or "container".
    "runs_in": "host",
    "host": "{root}/.venv/bin/batchsent",
    "container": "docker run --rm --init --gpus all --volume {root}:{root} --workdir {root} batchsent",
    # The dump of a day: a folder or a pattern, and the file that whoever makes it writes last ("": it has none).
    "input": "{root}/dumps/{day}",
    "complete": "{root}/dumps/{day}/_SUCCESS",
    "output": "{root}/scored/{day}",
    # More options of `batchsent score`.
    "options": "--config {root}/jobs/reviews.toml --progress log",
    # The drift gate ("": none): "--baseline {root}/accepted/manifest.json --max-drift 0.25", with the manifest of a day
    # that somebody looked at, or that of "{root}/scored/{day_before}/_batchsent/manifest.json".
    "gate": "",
}

# At 03:15 the day before is scored.
SCHEDULE = "15 3 * * *"
TIMEZONE = "UTC"
START_DATE = datetime(2026, 1, 1, tzinfo=UTC)

# What is temporary is tried again after 5 minutes, then 10, 20, 40 and 80; Airflow spreads that up to twice as long.
RETRIES = {"retries": 5, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": 2.0}
# Then the run fails.
DUMP_TIMEOUT = timedelta(hours=6)
ANSWER_TIMEOUT = timedelta(days=3)

# What other DAGs are scheduled on.
SCORED_REVIEWS = Asset("scored_reviews")

# Exit codes: finished, but somebody has to look; worth another try, as is 137, of a container that was killed.
INCOMPLETE, DRIFTED = 3, 4
TEMPORARY = {75, 130, 137, 143}


def settings_of(context: Any) -> dict[str, str]:
    """SETTINGS as they are for the day of this run."""
    changes = Variable.get("batchsent", default={}, deserialize_json=True)
    wrong = [name for name, value in changes.items() if name not in SETTINGS or not isinstance(value, str)]
    settings: dict[str, str] = SETTINGS | changes
    if wrong or settings["runs_in"] not in ("host", "container"):
        raise AirflowFailException(
            f"the Airflow variable 'batchsent' sets {', '.join(wrong) or 'runs_in'} to what it cannot be; "
            f"expected texts for any of {', '.join(SETTINGS)}, runs_in being host or container; mend the variable"
        )
    if context.get("data_interval_start") is None:
        raise AirflowFailException(
            "this run has no data interval; expected that of a day; trigger it with a logical date"
        )
    day = context["data_interval_start"].astimezone(ZoneInfo(TIMEZONE)).date()
    places = {"{root}": settings["root"], "{day}": str(day), "{day_before}": str(day - timedelta(days=1))}
    for name in settings:
        for place, value in places.items():
            settings[name] = settings[name].replace(place, value)
    return settings | {"day": str(day)}


class BatchsentOperator(BaseOperator):
    """Run batchsent for a day. Returns its exit code; the XComs "day" and "message", its closing line, tell the rest.

    What is temporary is retried. Any other exit code than 0 fails the task at once, unless it is ``for_a_person``.
    """

    def __init__(
        self,
        *,
        arguments: Callable[[dict[str, str]], list[str]],
        for_a_person: tuple[int, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**RETRIES, **kwargs)
        self.arguments = arguments
        self.for_a_person = for_a_person
        self.process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> int:
        """One run of the command."""
        settings = settings_of(context)
        command = [*shlex.split(settings[settings["runs_in"]]), *self.arguments(settings)]
        try:
            code, message = self._run(command, settings["root"])
        except FileNotFoundError as error:
            raise AirflowFailException(f"{error.filename} is not there; expected batchsent; see SETTINGS") from error
        context["ti"].xcom_push("day", settings["day"])
        context["ti"].xcom_push("message", message)
        if code == 0 or code in self.for_a_person:
            return code
        retry = code in TEMPORARY or code < 0  # below 0: killed, for want of memory for instance
        raise (AirflowException if retry else AirflowFailException)(f"exit code {code}: {message}")

    def _run(self, command: list[str], directory: str) -> tuple[int, str]:
        self.log.info("%s", shlex.join(command))
        # A session of its own: what is sent to the worker's processes must not reach batchsent's.
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        message = ""
        with cast("IO[str]", self.process.stdout) as lines:
            for line in lines:
                self.log.info("%s", line.rstrip())
                if line.startswith("error: ") or not message.startswith("error: "):
                    message = line.strip()  # the error, or else the last line
        return self.process.wait(), message

    def on_kill(self) -> None:
        """The task was marked, cleared or timed out, or its worker ends: batchsent stops at a clean point."""
        if self.process is not None:
            self.process.terminate()


@task.sensor(mode="reschedule", poke_interval=300, timeout=DUMP_TIMEOUT.total_seconds(), **RETRIES)
def wait_for_dump() -> PokeReturnValue:
    """Until the day's dump is there. The XCom is the number of its files and of their bytes."""
    settings = settings_of(get_current_context())
    found = [Path(path) for path in glob(settings["input"])]  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = [file for path in found for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    shards = [file for file in files if not file.name.startswith(("_", "."))]
    is_there = Path(settings["complete"]).exists() if settings["complete"] else bool(shards)
    print(f"{'there' if is_there else 'not there yet'}: {len(shards)} files in {settings['input']}")
    return PokeReturnValue(is_there, {"files": len(shards), "bytes": sum(file.stat().st_size for file in shards)})


@task.branch
def by_exit_code(code: int) -> str:
    """The task that follows `batchsent score`."""
    return {0: "verify", INCOMPLETE: "look_at_shards", DRIFTED: "ask_about_drift"}[code]


@task
def look_at_shards(message: str) -> None:
    """Fails, so that somebody sees it: nothing that batchsent could do again would help."""
    raise AirflowFailException(f"{message.removeprefix('error: ')}; then clear the task 'score' of this run")


@task(outlets=[SCORED_REVIEWS])
def announce(verified: str) -> Iterator[Metadata]:
    """Updates the asset: DAGs that are scheduled on it start, and find the day and its directory in the event."""
    settings = settings_of(get_current_context())
    yield Metadata(SCORED_REVIEWS, {"day": settings["day"], "directory": settings["output"], "verified": verified})


with DAG(
    dag_id="score_reviews",
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone=TIMEZONE),
    start_date=START_DATE,
    catchup=False,
    doc_md=__doc__,
    tags=["reviews"],
):
    score = BatchsentOperator(
        task_id="score",
        arguments=lambda settings: [
            *("score", settings["input"], "--output", settings["output"]),
            *shlex.split(f"{settings['options']} {settings['gate']}"),
        ],
        for_a_person=(INCOMPLETE, DRIFTED),
        max_active_tis_per_dag=1,  # of several days one after the other has the GPU
    )
    ask_about_drift = ApprovalOperator(
        task_id="ask_about_drift",
        subject="The reviews of {{ ti.xcom_pull('score', key='day') }} have drifted. Publish them all the same?",
        body="{{ ti.xcom_pull('score', key='message') }}",
        response_timeout=ANSWER_TIMEOUT,
        fail_on_reject=True,
    )
    publish = BatchsentOperator(
        task_id="publish", arguments=lambda settings: ["publish", settings["output"], "--accept-drift"]
    )
    # Reads every byte of the day again: seconds, beside what scoring takes.
    verify = BatchsentOperator(
        task_id="verify",
        arguments=lambda settings: ["verify", settings["output"]],
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    branch = by_exit_code(score.output)
    wait_for_dump() >> score
    branch >> [verify, ask_about_drift, look_at_shards(score.output["message"])]
    ask_about_drift >> publish >> verify >> announce(verify.output["message"])
