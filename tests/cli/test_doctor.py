"""``batchsent doctor``: true lines, a remedy for each problem, and no crash where something is missing."""

from __future__ import annotations

import builtins
import importlib.metadata
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from batchsent import machine
from batchsent.cli import main
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.reporting import doctor


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def fake_torch(*, cuda: str | None, devices: int = 0, warning: str = "") -> Any:
    """As much of torch as the examination asks, on a machine that this is not."""

    def is_available() -> bool:
        if warning:
            warnings.warn(warning, UserWarning, stacklevel=1)
        return devices > 0

    properties = SimpleNamespace(name="NVIDIA Test", total_memory=80 * 10**9, major=9, minor=0)
    return SimpleNamespace(
        __version__="9.9",
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=is_available,
            device_count=lambda: devices,
            get_device_properties=lambda index: properties,
        ),
    )


def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, present: bool) -> None:
    path = tmp_path / "driver"
    if present:
        path.touch()
    monkeypatch.setattr(doctor, "_DRIVER", path)


def test_it_prints_groups_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    for title in ("versions", "processor", "CUDA devices", "what score can use", "models", "disk"):
        assert title in out.splitlines()
    assert re.search(rf"^ +torch +{re.escape(torch.__version__)}$", out, re.MULTILINE)
    assert all(len(line) < 160 for line in out.splitlines())


def test_what_it_says_is_so() -> None:
    found = doctor.examine()
    usable = dict(found.groups["what score can use"])
    default = machine.choose_device("auto")
    assert usable["chosen by auto"] == f"--device {default} --precision {machine.choose_precision('auto', default)}"
    int8 = "" if machine.has_int8_dot_products() is False else ", int8"
    assert usable["precisions on cpu"] == f"fp32, bf16{int8}"
    assert usable["backends"] == "torch, openvino"
    assert dict(found.groups["processor"])["cores"].startswith(f"{machine.available_cores()} may be used")
    assert dict(found.groups["models"])["embedded"].endswith("intact, labels NEGATIVE, POSITIVE")
    versions = dict(found.groups["versions"])
    assert versions["polars"] == importlib.metadata.version("polars")
    assert versions["batchsent"] == importlib.metadata.version("batchsent")


def test_a_library_that_is_missing_is_a_problem_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "polars":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    found = doctor.examine()
    assert dict(found.groups["versions"])["polars"] == "not installed"
    assert found.problems == ["polars is not installed; install it: pip install polars"]


def test_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_torch(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object file")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    found = doctor.examine()
    assert found.groups["CUDA devices"] == [("none", "torch does not work")]
    assert "chosen by auto" not in dict(found.groups["what score can use"])
    assert found.problems[0].startswith("torch cannot be imported (libtorch.so")


@pytest.mark.parametrize("present", [True, False])
def test_a_cpu_build_beside_a_driver_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: bool
) -> None:
    driver(monkeypatch, tmp_path, present=present)
    problems: list[str] = []
    assert doctor.cuda_lines(fake_torch(cuda=None), ["cpu"], problems) == [("none", "torch 9.9 is built without CUDA")]
    assert len(problems) == present
    assert all("install a CUDA build of torch: " in problem for problem in problems)


def test_why_a_cuda_build_finds_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    problems: list[str] = []
    driver(monkeypatch, tmp_path, present=False)
    assert doctor.cuda_lines(fake_torch(cuda="13.0"), [], problems) == [("none", "no NVIDIA driver on this machine")]
    assert problems == []
    driver(monkeypatch, tmp_path, present=True)
    said = "The NVIDIA driver on your system is too old\n(found version 11040)"
    assert doctor.cuda_lines(fake_torch(cuda="13.0", warning=said), [], problems) == [("none", said.splitlines()[0])]
    assert "is too old" in problems[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor.cuda_lines(fake_torch(cuda="13.0"), [], problems) == [("none", "hidden by CUDA_VISIBLE_DEVICES")]
    assert "unset it" in problems[1]


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver(monkeypatch, tmp_path, present=True)
    devices = ["cpu"]
    lines = doctor.cuda_lines(fake_torch(cuda="13.0", devices=2), devices, [])
    assert devices == ["cpu", "cuda:0", "cuda:1"]
    assert lines[1] == ("cuda:1", "NVIDIA Test, 80.0 GB, compute capability 9.0")


def test_the_embedded_model_is_held_against_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(EMBEDDED_DIRECTORY, tmp_path / "embedded"))
    monkeypatch.setattr(doctor, "EMBEDDED_DIRECTORY", copy)
    with (copy / "model.safetensors").open("ab") as handle:
        handle.write(b"!")
    damaged = doctor.examine()
    assert dict(damaged.groups["models"])["embedded"] == "damaged"
    (copy / "model.safetensors").unlink()
    incomplete = doctor.examine()
    assert dict(incomplete.groups["models"])["embedded"] == "incomplete"
    assert all("install batchsent again" in found.problems[0] for found in (damaged, incomplete))


def test_the_hub_cache_and_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    assert dict(doctor.examine().groups["models"])["hub cache"] == f"{cache} (not made yet)"
    (cache / "models--a--b" / "blobs").mkdir(parents=True)
    (cache / "models--a--b" / "blobs" / "1").write_bytes(b"x" * 3_000_000)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    models = dict(doctor.examine().groups["models"])
    assert models["hub cache"] == f"{cache} (1 model, 3.0 MB)"
    assert models["hub offline"].startswith("yes")
