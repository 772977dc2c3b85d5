"""The job for a cluster asks for options that there are; KubeRay itself is not at hand to try it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from batchsent.cli import score
from batchsent.config import ScoreConfig

JOB = Path(__file__).parents[2] / "jobs/ray/rayjob.yaml"


def test_the_command_of_the_ray_job(monkeypatch: pytest.MonkeyPatch) -> None:
    job = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    program, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("batchsent", "score")
    configs: list[ScoreConfig] = []
    monkeypatch.setattr(score, "run", configs.append)
    score.command.main(arguments, standalone_mode=False)
    (config,) = configs
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert config.engine == "ray"
    assert config.replica_range() == (workers["minReplicas"], workers["maxReplicas"]), "a GPU a worker"
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
