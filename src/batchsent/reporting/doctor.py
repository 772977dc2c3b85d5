"""What this machine can do: versions, processor, GPUs, models, space; and what is wrong, with a remedy.

Everything is asked of the machine. What is missing or broken is a line, never a crash.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batchsent import machine
from batchsent.config import ScoreConfig
from batchsent.errors import BatchsentError, UsageError
from batchsent.models.cache import cache_directory
from batchsent.models.openvino import is_installed, require_backend
from batchsent.models.resolution import EMBEDDED_DIRECTORY, read_model_config
from batchsent.options import AUTO, option_fields
from batchsent.reporting.run_report import library_versions
from batchsent.storage import hash_stream

_DRIVER = Path("/proc/driver/nvidia/version")
_CUDA_TORCH = "see https://pytorch.org/get-started/locally for the 'pip install' line of a CUDA build"


@dataclass
class Examination:
    """Groups of (name, value) lines, and a line with a remedy for each problem."""

    groups: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def examine() -> Examination:
    """Look at everything. Writes nothing; asks no network."""
    found = Examination()
    torch = _import_torch(found.problems)
    devices = ["cpu"]
    found.groups["versions"] = _versions(found.problems)
    found.groups["processor"] = _processor()
    found.groups["CUDA devices"] = cuda_lines(torch, devices, found.problems)
    found.groups["what score can use"] = _choices(torch, devices)
    found.groups["models"] = _models(found.problems)
    found.groups["disk"] = [("free here", f"{_size(shutil.disk_usage('.').free)} in {Path.cwd()}")]
    found.groups["to install for more"] = _extras(torch)
    return found


def _import_torch(problems: list[str]) -> Any:
    """The torch module; None if it does not work."""
    try:
        import torch
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported ({_one_line(error)}); install it again: pip install torch")
        return None
    return torch


# --- versions


def _versions(problems: list[str]) -> list[tuple[str, str]]:
    own = library_versions().get("batchsent", "run from its sources, without an installation")
    lines = [("batchsent", own), ("python", f"{platform.python_version()} ({sys.executable})")]
    lines.append(("system", f"{platform.system()} {platform.release()} {platform.machine()}"))
    for name in _libraries():
        try:
            lines.append((name, version(name)))
        except PackageNotFoundError:
            lines.append((name, "not installed"))
            problems.append(f"{name} is not installed; install it: pip install {name}")
    return lines


def _libraries() -> list[str]:
    """What the package says that it needs, and what decides the numbers."""
    names = set(library_versions()) - {"python", "batchsent"}
    with contextlib.suppress(PackageNotFoundError):
        names |= {_required_name(line) for line in requires("batchsent") or [] if "extra ==" not in line}
    return sorted(names)


def _required_name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


# --- processor


def _processor() -> list[tuple[str, str]]:
    free = machine.free_memory_bytes()
    return [
        ("model", machine.cpu_model()),
        ("cores", f"{machine.available_cores()} may be used, of {os.cpu_count()}"),
        ("native bf16", _native_bf16()),
        ("int8 products", _int8_products()),
        ("memory free", "not known on this system" if free is None else _size(free)),
    ]


def _native_bf16() -> str:
    answer, reason = "yes" if machine.has_native_bf16() else "no", machine.why_not_faster("bf16")
    return answer if reason is None else f"{answer} ({reason})"


def _int8_products() -> str:
    match machine.has_int8_dot_products():
        case None:
            return "not known on this system"
        case True:
            return "yes"
        case _:
            return "no (without VNNI, int8 is slower than fp32 and may overflow)"


# --- CUDA


def cuda_lines(torch: Any, devices: list[str], problems: list[str]) -> list[tuple[str, str]]:
    """A line a CUDA device; ``devices`` gets their names. Without one, why there is none."""
    if torch is None:
        return [("none", "torch does not work")]
    if torch.version.cuda is None:
        if _DRIVER.exists():
            problems.append(
                f"an NVIDIA driver is here, but torch {torch.__version__} is built without CUDA; "
                f"install a CUDA build of torch: {_CUDA_TORCH}"
            )
        return [("none", f"torch {torch.__version__} is built without CUDA")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return [("none", _why_no_device(torch, [str(warning.message) for warning in caught], problems))]
    lines = []
    for index in range(count):
        properties = torch.cuda.get_device_properties(index)
        devices.append(f"cuda:{index}")
        capability = f"compute capability {properties.major}.{properties.minor}"
        lines.append((f"cuda:{index}", f"{properties.name}, {_size(properties.total_memory)}, {capability}"))
    return lines


def _why_no_device(torch: Any, said: list[str], problems: list[str]) -> str:
    if not _DRIVER.exists():
        return "no NVIDIA driver on this machine"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        problems.append(f"CUDA_VISIBLE_DEVICES is {hidden!r} and hides every GPU; unset it")
        return "hidden by CUDA_VISIBLE_DEVICES"
    reason = _one_line(said[0]) if said else f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no device"
    problems.append(f"an NVIDIA driver is here, but no GPU can be used ({reason}); see what 'nvidia-smi' says")
    return reason


# --- options


def _choices(torch: Any, devices: list[str]) -> list[tuple[str, str]]:
    backends = ["torch", *(["openvino"] if is_installed() else [])]
    lines = [
        (f"precisions on {device}", ", ".join(p for p in _offered("precision") if _can(p, device, backends)))
        for device in devices
    ]
    lines.append(("backends", ", ".join(backends)))
    if torch is not None:
        default = machine.choose_device(AUTO)
        lines.append(("chosen by auto", f"--device {default} --precision {machine.choose_precision(AUTO, default)}"))
    return lines


def _offered(option: str) -> list[str]:
    """What an option of ``score`` may be set to."""
    definition = next(f for f in option_fields(ScoreConfig) if f.name == option)
    return [choice for choice in definition.metadata["choices"] if choice != AUTO]


def _can(precision: str, device: str, backends: list[str]) -> bool:
    for backend in backends:
        with contextlib.suppress(UsageError):
            require_backend(backend, device)
            machine.require_precision(precision, device, backend)
            return True
    return False


# --- models


def _models(problems: list[str]) -> list[tuple[str, str]]:
    return [("embedded", _embedded(problems)), *_hub_cache(problems), ("converted", _converted())]


def _embedded(problems: list[str]) -> str:
    """The model in the package, held against the hash that its model card names."""
    weights = EMBEDDED_DIRECTORY / "model.safetensors"
    remedy = "install batchsent again: pip install --force-reinstall batchsent"
    try:
        with weights.open("rb") as stream:
            sha256 = hash_stream(stream)
        card = (EMBEDDED_DIRECTORY / "README.md").read_text(encoding="utf-8")
        labels = ", ".join(read_model_config(EMBEDDED_DIRECTORY)["id2label"].values())
    except (OSError, KeyError, BatchsentError) as error:
        problems.append(f"the embedded model is incomplete ({_one_line(error)}); {remedy}")
        return "incomplete"
    if f"`{sha256}`" not in card:
        problems.append(f"{weights} is damaged: its SHA-256 is not the one in its model card; {remedy}")
        return "damaged"
    return f"{_size(weights.stat().st_size)}, intact, labels {labels}"


def _hub_cache(problems: list[str]) -> list[tuple[str, str]]:
    try:
        from huggingface_hub import constants
    except ImportError as error:
        problems.append(f"huggingface-hub cannot be imported ({_one_line(error)}); pip install huggingface-hub")
        return []
    cache = Path(constants.HF_HUB_CACHE)
    # Blobs are what takes the space; one folder a model, so looking is cheap.
    blobs = [path.stat().st_size for path in cache.glob("models--*/blobs/*") if path.is_file()]
    count = len(list(cache.glob("models--*")))
    holds = f"{count} model{'s' * (count != 1)}, {_size(sum(blobs))}" if cache.is_dir() else "not made yet"
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        problems.append(f"the hub cache {cache} cannot be written; set HF_HOME to a folder of yours")
    offline = "yes (HF_HUB_OFFLINE): only models in the cache" if constants.HF_HUB_OFFLINE else "no"
    return [("hub cache", f"{cache} ({holds})"), ("hub offline", offline)]


def _converted() -> str:
    """Where the models that OpenVINO runs are kept."""
    folder = cache_directory()
    graphs = list(folder.glob("*.xml"))
    size_bytes = sum(path.stat().st_size for path in folder.glob("*.bin"))
    return f"{folder} ({len(graphs)} model{'s' * (len(graphs) != 1)}, {_size(size_bytes)})"


# --- extras


def _extras(torch: Any) -> list[tuple[str, str]]:
    lines = []
    if torch is not None and torch.version.cuda is None:
        lines.append(("NVIDIA GPUs", f"a CUDA build of torch; {_CUDA_TORCH}"))
    if not is_installed():
        lines.append(("faster on the CPU", "openvino, and int8 with it: pip install 'batchsent[openvino]'"))
    for scheme, module, extra in (("s3://", "s3fs", "s3"), ("gs://", "gcsfs", "gcs")):
        if find_spec(module) is None:
            lines.append((scheme, f"{module}, for inputs, outputs and models there: pip install 'batchsent[{extra}]'"))
    return lines or [("nothing", "all that this version can use is here")]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _one_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
