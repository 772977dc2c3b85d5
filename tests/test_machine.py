"""What this machine has, against what the machine is made to say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from batchsent import machine
from batchsent.errors import UsageError

FILES = {"cpu.max": "/sys/fs/cgroup/cpu.max", "cpuinfo": "/proc/cpuinfo", "meminfo": "/proc/meminfo"}


@pytest.fixture(autouse=True)
def _uncached() -> Iterator[None]:
    machine.cpu_flags.cache_clear()
    yield
    machine.cpu_flags.cache_clear()


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with the contents that the kernel's files are to have; what is not given is not there."""

    def make(**contents: str) -> None:
        redirected = {}
        for name, path in FILES.items():
            content = contents.get(name.replace(".", "_"))
            redirected[path] = tmp_path / name
            if content is not None:
                redirected[path].write_text(content, encoding="utf-8")
        monkeypatch.setattr(machine, "Path", lambda path: redirected[path])

    return make


def _cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(count)))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
        ("nonsense", 8),
        ("1 2 3", 8),
        (None, 8),
    ],
)
def test_cores_are_the_affinity_less_the_quota(
    says: Any, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    _cores(monkeypatch, 8)
    says(**({} if quota is None else {"cpu_max": quota}))
    assert machine.available_cores() == cores


def test_cores_follow_the_affinity(says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    says()
    _cores(monkeypatch, 3)
    assert machine.available_cores() == 3


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        ("processor : 0\nflags\t\t: fpu sse2 avx512f avx512_bf16\n", True),
        ("flags : fpu amx_bf16\n\nflags : fpu\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("flags : fpu my_bf16\nbugs : amx_bf16\n", False),
        ("", False),
        (None, False),
    ],
)
def test_native_bf16(says: Any, cpuinfo: str | None, native: bool) -> None:
    says(**({} if cpuinfo is None else {"cpuinfo": cpuinfo}))
    assert machine.has_native_bf16() is native
    assert machine.choose_precision("auto", "cpu") == ("bf16" if native else "fp32")


@pytest.mark.parametrize(
    ("vendor", "flags", "faster"),
    [
        ("GenuineIntel", "avx512f avx512_bf16", True),  # Cooper Lake
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16 amx_bf16", True),  # Sapphire Rapids and later
        ("GenuineIntel", "avx512f avx512_bf16 avx512_fp16", False),  # the same, with AMX hidden
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx512f avx512_bf16 avx512_fp16", True),
        ("GenuineIntel", "avx512f avx512_fp16", False),
    ],
)
def test_bf16_is_chosen_only_where_it_is_faster(says: Any, vendor: str, flags: str, faster: bool) -> None:
    says(cpuinfo=f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert machine.is_bf16_faster() is faster
    assert machine.choose_precision("auto", "cpu") == ("bf16" if faster else "fp32")


@pytest.mark.parametrize(
    ("cpuinfo", "answer"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni\n", True),
        ("flags : fpu avx2 avx_vnni\n", True),  # Alder Lake, Sierra Forest
        ("Features : fp asimd asimddp\n", True),
        ("flags : fpu avx2\n", False),
        ("", None),
        (None, None),
    ],
)
def test_int8_dot_products(says: Any, cpuinfo: str | None, answer: bool | None) -> None:
    says(**({} if cpuinfo is None else {"cpuinfo": cpuinfo}))
    assert machine.has_int8_dot_products() is answer


@pytest.mark.parametrize(
    ("cpuinfo", "answer"),
    [
        ("flags : fpu avx avx2 fma\n", True),
        ("flags : fpu avx avx2 avx512f\n", False),
        ("flags : fpu avx\n", False),
        ("Features : fp asimd\n", False),
        (None, False),
    ],
)
def test_avx2_is_the_widest(says: Any, cpuinfo: str | None, answer: bool) -> None:
    says(**({} if cpuinfo is None else {"cpuinfo": cpuinfo}))
    assert machine.is_avx2_widest() is answer


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("avx2", "this processor emulates bf16"),
        ("avx512f avx512_bf16", None),
        ("avx512f avx512_bf16 avx512_fp16", "without AMX, this processor's bf16 is slower than its fp32"),
    ],
)
def test_why_bf16_gains_nothing(says: Any, flags: str, told: str | None) -> None:
    says(cpuinfo=f"vendor_id\t: GenuineIntel\nflags\t\t: fpu {flags}\n")
    assert machine.why_not_faster("bf16") == told
    assert machine.why_not_faster("fp32") is None


@pytest.mark.parametrize("vnni", [True, False])
def test_int8_is_refused_where_its_sums_overflow(says: Any, vnni: bool) -> None:
    says(cpuinfo=f"flags : fpu avx2 {'avx_vnni' if vnni else ''}\n")
    if vnni:
        machine.require_precision("int8", "cpu", "openvino")
    else:
        with pytest.raises(UsageError, match="without dot products of 8-bit integers"):
            machine.require_precision("int8", "cpu", "openvino")


@pytest.mark.parametrize(
    ("meminfo", "free"),
    [("MemTotal: 9 kB\nMemAvailable:   2048 kB\n", 2 << 20), ("MemTotal: 9 kB\n", None), (None, None)],
)
def test_free_memory(says: Any, meminfo: str | None, free: int | None) -> None:
    says(**({} if meminfo is None else {"meminfo": meminfo}))
    assert machine.free_memory_bytes() == free


def test_this_machine_answers() -> None:
    assert machine.available_cores() >= 1
    assert (machine.free_memory_bytes() or 0) > 1 << 20


def _gpus(monkeypatch: pytest.MonkeyPatch, count: int, *, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Imitated GPU at {device}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)


@pytest.mark.parametrize(
    ("asked", "count", "device"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_device(monkeypatch: pytest.MonkeyPatch, asked: str, count: int, device: str) -> None:
    _gpus(monkeypatch, count)
    assert machine.choose_device(asked) == device


@pytest.mark.parametrize(
    ("asked", "count", "device"),
    [("auto", 4, "cuda:2"), ("cuda", 4, "cuda:2"), ("cuda:0", 4, "cuda:0"), ("cpu", 4, "cpu"), ("auto", 0, "cpu")],
)
def test_device_of_a_rank(monkeypatch: pytest.MonkeyPatch, asked: str, count: int, device: str) -> None:
    _gpus(monkeypatch, count)
    assert machine.choose_device(asked, local_rank=2) == device


def test_more_ranks_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 2)
    with pytest.raises(
        UsageError, match=r"--device auto for LOCAL_RANK 2, and torch .* finds 2 CUDA devices.* least 3"
    ):
        machine.choose_device("auto", local_rank=2)


@pytest.mark.parametrize(
    ("asked", "count", "finds"),
    [("cuda", 0, "no CUDA devices"), ("cuda:1", 1, "1 CUDA device;"), ("cuda:7", 2, "2 CUDA devices")],
)
def test_a_device_that_is_not_there_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, asked: str, count: int, finds: str
) -> None:
    _gpus(monkeypatch, count)
    with pytest.raises(UsageError, match=f"--device {asked}.* finds {finds}"):
        machine.choose_device(asked)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_asked_for_by_name(precision: str) -> None:
    assert machine.choose_precision(precision, "cpu") == precision


@pytest.mark.parametrize("precision", ["fp16", "fp16-weights"])
def test_fp16_is_not_for_the_cpu(precision: str) -> None:
    with pytest.raises(UsageError, match=f"{precision} on the CPU"):
        machine.require_precision(precision, "cpu", "torch")
    machine.require_precision(precision, "cuda:0", "torch")


@pytest.mark.parametrize(("backend", "device"), [("torch", "cpu"), ("torch", "cuda:0"), ("openvino", "cuda:0")])
def test_int8_is_for_openvino_on_the_cpu(backend: str, device: str) -> None:
    with pytest.raises(UsageError, match=f"int8 with {backend} on {device}"):
        machine.require_precision("int8", device, backend)


def test_auto_is_fp16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 1)
    assert machine.choose_precision("auto", "cuda:0") == "fp16"


def test_bf16_is_never_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 1, bf16=False)
    with pytest.raises(UsageError, match="bf16 on Imitated GPU at cuda:0"):
        machine.require_precision("bf16", "cuda:0", "torch")
    _gpus(monkeypatch, 1)
    machine.require_precision("bf16", "cuda:0", "torch")
