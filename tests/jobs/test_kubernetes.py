"""The jobs for Kubernetes are what its API takes, agree with the code and the image, and give no rights away.

No cluster is at hand: what the API server checks beyond its schemas is checked here by its documented rules.
"""

from __future__ import annotations

import copy
import re
import signal
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from batchsent import errors
from batchsent.cli import score
from batchsent.config import ScoreConfig
from batchsent.shares import share_from

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs/kubernetes"
JOBS = ["job", "indexed-job", "cronjob"]
STOP_SECONDS = 10
"""In which a run that is asked to stop has stopped, by the contract."""

Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    found: list[Document] = list(yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
    return found


def job(name: str) -> Document:
    """The spec of the Job in the file, or of the Jobs that its CronJob makes."""
    (document,) = documents(name)
    spec: Document = document["spec"]
    return spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec


def pod(name: str) -> Document:
    spec: Document = job(name)["template"]["spec"]
    return spec


def container(name: str) -> Document:
    (only,) = pod(name)["containers"]
    found: Document = only
    return found


# --- what the API takes


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", [*JOBS, "volumes"])
def test_every_field_is_one_of_the_api(name: str, version: str) -> None:
    for document in documents(name):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_field_that_the_api_does_not_have_is_noticed() -> None:
    (document,) = documents("cronjob")
    document = copy.deepcopy(document)
    template = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    template["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.29", strict=True)


@pytest.mark.parametrize("name", JOBS)
def test_the_failure_policy_keeps_the_rules_of_the_api(name: str) -> None:
    spec = job(name)
    assert pod(name)["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    for rule in spec["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        if "onExitCodes" in rule:
            values = rule["onExitCodes"]["values"]
            assert values == sorted(set(values))
            assert 0 not in values
            assert rule["onExitCodes"]["containerName"] == container(name)["name"]
        if rule["action"] == "FailIndex":
            assert spec["completionMode"] == "Indexed"
            assert "backoffLimitPerIndex" in spec


# --- what becomes of a pod


def action(name: str, exit_code: int, *, is_disrupted: bool = False) -> str:
    """What the Job does about a pod that ended so: that of the first rule that fits, else it is counted."""
    for rule in job(name)["podFailurePolicy"]["rules"]:
        if "onPodConditions" in rule:
            fits = is_disrupted and {"type": "DisruptionTarget", "status": "True"} in rule["onPodConditions"]
        else:
            assert rule["onExitCodes"]["operator"] == "In"
            fits = exit_code in rule["onExitCodes"]["values"]
        if fits:
            return str(rule["action"])
    return "Count"


def named_codes(name: str) -> list[int]:
    rules = job(name)["podFailurePolicy"]["rules"]
    return [code for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])]


def kinds(root: type[errors.BatchsentError]) -> Iterator[type[errors.BatchsentError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("name", JOBS)
def test_the_failure_policy_knows_every_exit_code_once(name: str) -> None:
    by_signal = {errors.StoppedError(number).exit_code for number in (signal.SIGINT, signal.SIGTERM)}
    codes = {kind.exit_code for kind in kinds(errors.BatchsentError)} | by_signal
    assert sorted(named_codes(name)) == sorted(codes)
    for code in by_signal:
        assert action(name, code) == "Ignore"
    for kind in kinds(errors.BatchsentError):
        if not issubclass(kind, errors.StoppedError):
            assert (action(name, kind.exit_code) == "Count") == kind.retryable, kind


@pytest.mark.parametrize("name", JOBS)
def test_a_pod_that_had_to_make_room_is_replaced_however_it_ended(name: str) -> None:
    for code in (0, 1, 3, 75, 137, 143):
        assert action(name, code, is_disrupted=True) == "Ignore"


@pytest.mark.parametrize("name", JOBS)
def test_a_pod_without_memory_is_tried_again_but_not_for_ever(name: str) -> None:
    assert action(name, 137) == "Count"
    (limit,) = (value for key, value in job(name).items() if key in ("backoffLimit", "backoffLimitPerIndex"))
    assert 1 <= limit <= 20


def test_a_shard_that_one_rank_cannot_read_does_not_stop_the_others() -> None:
    assert action("indexed-job", errors.IncompleteError.exit_code) == "FailIndex"
    assert action("indexed-job", errors.UsageError.exit_code) == "FailJob"
    assert action("job", errors.IncompleteError.exit_code) == "FailJob"


@pytest.mark.parametrize("name", JOBS)
def test_there_is_time_for_a_clean_stop(name: str) -> None:
    assert pod(name)["terminationGracePeriodSeconds"] >= 2 * STOP_SECONDS


# --- what runs


@pytest.mark.parametrize("name", JOBS)
def test_the_command_is_one_of_this_version(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = container(name)["args"]
    assert command == "score"
    assert "command" not in container(name), "the image's entry point"
    configs: list[ScoreConfig] = []
    monkeypatch.setattr(score, "run", configs.append)
    score.command.main(arguments, standalone_mode=False)
    (config,) = configs
    assert config.device == "cuda", "no GPU is an error, not a night on the CPU"
    assert container(name)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert config.log_format == "json"
    (data,) = (mount["mountPath"] for mount in container(name)["volumeMounts"] if mount["name"] == "data")
    for place in (*config.inputs, config.output):
        assert PurePosixPath(data) in PurePosixPath(place).parents


def test_each_pod_of_the_indexed_job_is_a_rank_of_its_own() -> None:
    spec = job("indexed-job")
    (variable,) = container("indexed-job")["env"]
    shares = [
        share_from({variable["name"]: variable["value"], "JOB_COMPLETION_INDEX": str(index)})
        for index in range(spec["completions"])
    ]
    assert [share.rank for share in shares] == list(range(spec["completions"]))
    assert {share.world_size for share in shares} == {spec["completions"]}
    assert 1 <= spec["parallelism"] <= spec["completions"]


def test_nights_do_not_overlap_and_do_not_hang_for_ever() -> None:
    (cron,) = documents("cronjob")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron["spec"]["schedule"]), "once a day"
    assert job("cronjob")["activeDeadlineSeconds"] < 24 * 60 * 60


# --- what it may


def instructions(word: str) -> list[str]:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [line.removeprefix(word).strip() for line in lines if line.startswith(word + " ")]


@pytest.mark.parametrize("name", JOBS)
def test_it_runs_as_the_user_of_the_image(name: str) -> None:
    context = pod(name)["securityContext"]
    uid = int(instructions("USER")[-1])
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == uid


@pytest.mark.parametrize("name", JOBS)
def test_it_has_no_rights(name: str) -> None:
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [key for key in pod(name) if key.startswith("host")]
    assert not [volume for volume in pod(name)["volumes"] if "hostPath" in volume]


@pytest.mark.parametrize("name", JOBS)
def test_what_is_written_has_a_volume(name: str) -> None:
    mounted = {mount["mountPath"]: mount for mount in container(name)["volumeMounts"]}
    caches = re.findall(r"(?:HF_HOME|XDG_CACHE_HOME)=(\S+)", "\n".join(instructions("ENV")))
    assert {*caches, *instructions("WORKDIR")[-1:], "/tmp"} == set(mounted)
    assert not any(mount.get("readOnly") for mount in mounted.values())
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    assert {mount["name"] for mount in mounted.values()} == set(volumes)
    assert volumes["tmp"]["emptyDir"]["sizeLimit"]
    claims = {document["metadata"]["name"] for document in documents("volumes")}
    asked = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if volume["name"] != "tmp"}
    assert asked == claims


def test_ranks_on_several_nodes_can_share_the_volumes() -> None:
    for document in documents("volumes"):
        assert document["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_pods_of_the_jobs_are_alike() -> None:
    first, *others = (copy.deepcopy(job(name)["template"]) for name in JOBS)
    for other in others:
        other["spec"]["containers"][0].pop("env", None)
        assert other == first
