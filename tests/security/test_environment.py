"""What is around a run: the network, the file system, the container, the versions of the libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from support import write_csv

from .conftest import Cli

ROOT = Path(__file__).parents[2]

FLOORS = {"pyarrow": "26.0.0", "torch": "2.10", "transformers": "5.3", "filelock": "3.20.3"}
"""Older releases have published advisories."""


# --- network


@pytest.mark.parametrize("model", ["embedded", "directory"])
def test_a_model_of_this_machine_opens_no_connection(
    cli: Cli, tmp_path: Path, tiny_model: Path, no_network: list[Any], model: str
) -> None:
    source = write_csv(tmp_path / "a.csv", ["good film"])
    name = "embedded" if model == "embedded" else tiny_model
    for command in (
        ["score", source, "--output", tmp_path / "out", "--model", name],
        ["status", tmp_path / "out"],
        ["verify", tmp_path / "out"],
        ["models", "show", name],
        ["models", "lock", name],
        ["doctor"],
    ):
        assert cli(*command)[0] == 0
    assert no_network == []


# --- file system


@pytest.mark.process
def test_nothing_is_written_outside_dir(tmp_path: Path, tiny_model: Path) -> None:
    places = {name: tmp_path / name for name in ("home", "tmp", "work", "hub", "cache")}
    for place in places.values():
        place.mkdir()
    source = write_csv(tmp_path / "in/a.csv", ["good film", "", "bad film"])
    environment = os.environ | {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "HF_HOME": str(places["hub"]),
        "XDG_CACHE_HOME": str(places["cache"]),
        "PYTHONPATH": str(ROOT / "src"),
    }
    before = {path: path.stat().st_mtime_ns for path in [*(tmp_path / "in").rglob("*"), *tiny_model.rglob("*")]}
    command = [sys.executable, "-m", "batchsent", "score", str(source), "--output", str(tmp_path / "out")]
    result = subprocess.run(
        [*command, "--model", str(tiny_model)],
        cwd=places["work"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    left = {path.relative_to(tmp_path).as_posix() for place in places.values() for path in place.rglob("*")}
    # torch makes an empty folder for compiled code, of which there is none; converted models are kept in the cache.
    allowed = r"tmp/torchinductor_[^/]+|cache/batchsent(/_batchsent(/tmp)?|/[0-9a-f]{64}\.(xml|bin|sha256))?"
    assert not [name for name in left if not re.fullmatch(allowed, name)]


# --- container


def instructions() -> list[str]:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_container_runs_as_a_numeric_user_who_is_not_root() -> None:
    # Numeric, so that a cluster can check that it is not root.
    users = [line.split()[1] for line in instructions() if line.startswith("USER ")]
    assert users
    assert users[-1].isdecimal()
    assert int(users[-1]) >= 1000
    last = max(index for index, line in enumerate(instructions()) if line.startswith("USER "))
    assert not [line for line in instructions()[last:] if line.startswith(("RUN ", "COPY ", "ADD "))]


def test_the_container_holds_no_secret_and_gives_no_rights() -> None:
    text = "\n".join(instructions())
    assert not re.search(r"(?i)(TOKEN|PASSWORD|SECRET|KEY)\s*=", text)
    assert not re.search(r"sudo|setcap|chmod\s+(\S*[ugo]\+s|[2467]\d{3}\s|777)|--privileged", text)
    assert "ADD " not in text


# --- versions


def test_no_library_may_be_older_than_its_last_advisory() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {need.name: need for need in map(Requirement, project["dependencies"])}
    for name, floor in FLOORS.items():
        (lowest,) = [part.version for part in required[name].specifier if part.operator == ">="]
        assert Version(lowest) >= Version(floor), name


def test_what_is_pinned_is_what_is_asked_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {need.name.lower().replace("_", "-"): need for need in map(Requirement, filter(_is_pin, lines))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needs = [
        *project["project"]["dependencies"],
        *(n for group in project["dependency-groups"].values() for n in group),
    ]
    for need in map(Requirement, needs):
        (pin,) = pinned[need.name.lower()].specifier
        assert pin.operator == "=="
        assert need.specifier.contains(pin.version), need


def _is_pin(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def test_an_audit_that_cannot_look_a_package_up_fails() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = [line for line in makefile.splitlines() if line.startswith("\t$(BIN)/pip-audit")]
    assert "--strict" in line
    assert "--requirement constraints.txt" in line
    assert "||" not in line
    assert "audit" not in (ROOT / ".ci/run").read_text(encoding="utf-8")
