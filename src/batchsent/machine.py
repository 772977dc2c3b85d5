"""What this machine has: processors, what they compute natively, devices. Imports torch only to ask for a GPU."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from batchsent.errors import UsageError


def available_cores() -> int:
    """Processors that this process may use: its affinity, less what a container's quota takes away."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them (x86 'flags', Arm 'Features'); empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, []))


def cpu_model() -> str:
    """The processor's name, for people."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def has_native_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX or Arm's BF16)."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def is_bf16_faster() -> bool:
    """Whether the CPU multiplies bfloat16 faster than float32, so that less precision buys something.

    Not so on Intel's from Sapphire Rapids on (they are the ones with AVX-512 FP16) where a virtual machine hides AMX:
    their AVX-512 instruction for bfloat16 has half the rate of float32's. docs/benchmarks.md has the measurement.
    """
    if not has_native_bf16():
        return False
    flags = cpu_flags()
    return bool(flags & {"amx_bf16", "bf16"}) or not (_is_intel() and "avx512_fp16" in flags)


def has_int8_dot_products() -> bool | None:
    """Whether the CPU adds up products of 8-bit integers by one instruction (x86's VNNI or AMX, Arm's dot products).

    Without it they are added up in 16 bits, where they may overflow, and no faster than float32 (docs/decisions/0017).
    None where the system does not say.
    """
    flags = cpu_flags()
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}) if flags else None


def is_avx2_widest() -> bool:
    """Whether this is an x86 CPU with AVX2 and without AVX-512."""
    return "avx2" in cpu_flags() and "avx512f" not in cpu_flags()


def why_not_faster(precision: str) -> str | None:
    """Why this CPU computes ``precision`` no faster than fp32; None where it does, or nothing is known."""
    if precision == "bf16" and not has_native_bf16():
        return "this processor emulates bf16"
    if precision == "bf16" and not is_bf16_faster():
        return "without AMX, this processor's bf16 is slower than its fp32"
    return None


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def choose_device(asked: str, local_rank: int | None = None) -> str:
    """'cpu' or 'cuda:N' for ``--device``; N is ``local_rank`` unless it is asked for.

    Raises UsageError if what was asked for by name is not there.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto" and not count:
        return "cpu"
    named = asked.partition(":")[2]
    index = int(named or local_rank or 0)
    if index >= count:
        of_rank = "" if named or local_rank is None else f" for LOCAL_RANK {local_rank}"
        found = f"{count or 'no'} CUDA device{'s' * (count != 1)}"
        raise UsageError(
            f"--device {asked}{of_rank}, and torch {torch.__version__} finds {found}",
            f"at least {index + 1}",
            "see 'batchsent doctor', or pass --device cpu",
        )
    return f"cuda:{index}"


def choose_precision(asked: str, device: str, task: str = "sequence-classification") -> str:
    """The precision for ``--precision`` on ``device``; it may still be one that cannot be had there."""
    if asked != "auto":
        return asked
    if device != "cpu":
        if task != "text-to-text":
            return "fp16"
        return "bf16" if _has_bf16_on_cuda() else "fp32"
    return "bf16" if is_bf16_faster() else "fp32"


def _has_bf16_on_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def require_precision(precision: str, device: str, backend: str, task: str = "sequence-classification") -> None:
    """Raise UsageError if ``backend`` cannot compute in ``precision`` on ``device``, or not what ``task`` needs."""
    if task == "text-to-text" and precision in ("fp16", "fp16-weights"):
        raise UsageError(f"precision {precision} for a T5 model, which overflows in it", "bf16 or fp32", "choose one")
    if precision == "int8" and (device != "cpu" or backend != "openvino"):
        raise UsageError(
            f"precision int8 with {backend} on {device}", "openvino on the CPU for int8", "see 'batchsent doctor'"
        )
    if precision == "int8" and has_int8_dot_products() is False:
        raise UsageError(
            "precision int8 on a processor without dot products of 8-bit integers (VNNI), "
            "where it is slower than fp32 and sums may overflow",
            "fp32 there",
            "choose it",
        )
    if device == "cpu" and precision in ("fp16", "fp16-weights"):
        raise UsageError(
            f"precision {precision} on the CPU",
            "fp32 or bf16 there, or a CUDA device",
            "see 'batchsent doctor'",
        )
    if backend == "openvino" and precision == "bf16" and not has_native_bf16():
        raise UsageError(
            "precision bf16 with openvino on a CPU that does not have it natively, which would compute fp32",
            "fp32 or int8",
            "choose one, or --backend torch",
        )
    if device != "cpu" and precision == "bf16":
        import torch

        if not _has_bf16_on_cuda():
            raise UsageError(
                f"precision bf16 on {torch.cuda.get_device_name(device)}",
                "a GPU of compute capability 8.0 or later",
                "choose fp16",
            )


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, as Linux estimates it."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def peak_memory_bytes(process: int | str = "self") -> int:
    """The most that a process has had in memory so far, as Linux keeps it; 0 where nobody does."""
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
