"""Where does the time of a forward pass go: matrix products, attention, the rest, copies, or a device that waits?

    python benchmarks/pass_profile.py [--model distilbert] [--passes 20] [--device cpu]

batchsent's engine on texts of IMDb's lengths, watched by torch's profiler: what runs on the device, by kind, and what
the host does to begin a pass. On a CPU the two are one.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.profiler import ProfilerActivity, profile

from batchsent.engines.encoding import make_encode
from batchsent.models.loading import load_model
from batchsent.records import TokenBatch
from batchsent.stages.classifier import Model, Pending
from common import save
from contenders import Task
from contenders.engine import COMPILED, identity_of, source_of
from contenders.material import MODELS, texts_of
from contenders.plain_torch import device_name
from contenders.worker import in_a_process

GPU_WAYS = (
    ("fp16", "padded"),
    ("fp16", "packed"),
    ("fp16", COMPILED),
    ("fp16-weights", "packed"),
    ("fp16-weights", COMPILED),
)
CPU_WAYS = (("fp32", "torch"),)
REPEATS = 3

KINDS = (
    ("joined by the compiler", r"^triton_|^cpp_fused_"),
    ("copies", r"memcpy|memset|copy"),
    ("attention", r"flash|fmha|attention"),
    ("matrix products", r"gemm|nvjet|cutlass|addmm|::mm$|::linear$|splitk"),
)
"""What the names of kernels, or of operators on a CPU, tell; tried in this order.

The compiler names a kernel after all that it has joined in it.
"""
OTHERS = "everything else"


def main() -> None:
    """One way after the other, each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", choices=MODELS, default="distilbert")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    device = arguments.device
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        directory = MODELS[arguments.model](Path(folder, "model"))
        for precision, variant in CPU_WAYS if device == "cpu" else GPU_WAYS:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/compiled {precision}"  # nothing was compiled before
            task = Task(directory, precision, device, torch.get_num_threads(), Path(folder), variant)
            row = in_a_process(measured, task, arguments.passes, log=task.log)
            if variant == COMPILED:
                row["first_seconds_again"] = in_a_process(first_pass, task, log=task.log)
            rows.append(row)
            found = {"model": arguments.model, "gpu": None if device == "cpu" else device_name(device), "rows": rows}
            # After every way, so that what was measured is not lost.
            save(f"pass_profile_{device}", found, folder=arguments.results)


def measured(task: Task, pass_count: int) -> dict[str, Any]:
    """All passes timed, the median of a few times; then watched by torch's profiler.

    That comes last: every launch of a process takes longer once it was watched.
    """
    model, batches = _loaded(task, pass_count)
    first_seconds, _ = _run(model, batches[:1])
    _run(model, batches)  # kernels are loaded and chosen, memory is there
    seconds, starting = sorted(_run(model, batches) for _ in range(REPEATS))[REPEATS // 2]
    is_on_cpu = task.device == "cpu"
    activities = [ProfilerActivity.CPU, *([] if is_on_cpu else [ProfilerActivity.CUDA])]
    with profile(activities=activities) as profiler:
        _run(model, batches)
    by_kind, by_name = _device_seconds(profiler, is_on_cpu=is_on_cpu)
    return {
        "precision": task.precision,
        "variant": task.variant,
        "passes": len(batches),
        "tokens": sum(len(batch.token_ids) for batch in batches),
        "seconds": seconds,
        "starting_seconds": starting,
        "first_seconds": first_seconds,
        "first_seconds_again": None,
        "device_seconds": by_kind,
        "longest": dict(by_name.most_common(12)),
        "host_longest": _host_seconds(profiler),
    }


def first_pass(task: Task) -> float:
    """Seconds of the first pass of a process, where another one has compiled it before."""
    model, batches = _loaded(task, 1)
    seconds, _ = _run(model, batches)
    return seconds


def _loaded(task: Task, pass_count: int) -> tuple[Model, Sequence[TokenBatch]]:
    source = source_of(task.model)
    identity = identity_of(task, source)
    model = load_model(identity, source.directory, task.device)
    # As many texts as the passes take if each had but 200 tokens.
    texts = texts_of(None, "text", pass_count * identity.batch_tokens // 200)
    part = make_encode(source.directory, identity)(pa.chunked_array([texts]))
    batches = (part if task.device == "cpu" else part.pin_memory()).batches
    # The longest texts come first: some of every length.
    chosen = np.linspace(0, len(batches) - 1, min(pass_count, len(batches))).round().astype(int)
    return model, [batches[index] for index in chosen]


def _run(model: Model, batches: Sequence[TokenBatch]) -> tuple[float, float]:
    """(seconds of all passes, seconds that the host took to begin them), with as many in flight as the job has."""
    in_flight: deque[Pending] = deque()
    starting, began = 0.0, time.perf_counter()
    for batch in batches:
        before = time.perf_counter()
        in_flight.append(model.start(batch))
        starting += time.perf_counter() - before
        while len(in_flight) > model.in_flight:
            in_flight.popleft()()
    while in_flight:
        in_flight.popleft()()
    return time.perf_counter() - began, starting


def _device_seconds(profiler: profile, *, is_on_cpu: bool) -> tuple[dict[str, float], Counter[str]]:
    """By kind and by name: of what runs on the device, or of the operators on a CPU."""
    by_kind, by_name = Counter[str]({kind: 0.0 for kind, _ in KINDS}), Counter[str]()
    for event in profiler.key_averages():
        if is_on_cpu or event.device_type.name == "CUDA":
            seconds = (event.self_cpu_time_total if is_on_cpu else event.self_device_time_total) / 1e6
            by_kind[kind_of(event.key)] += seconds
            by_name[event.key[:80]] += seconds
    return dict(by_kind), by_name


def kind_of(name: str) -> str:
    """What a kernel or operator of that name does."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, name, re.IGNORECASE)), OTHERS)


def _host_seconds(profiler: profile) -> dict[str, float]:
    """The calls on the host that take longest by themselves; among them those that wait for the device."""
    found = Counter[str]()
    for event in profiler.key_averages():
        if event.device_type.name == "CPU":
            found[event.key[:80]] += event.self_cpu_time_total / 1e6
    return dict(found.most_common(12))


if __name__ == "__main__":
    main()
