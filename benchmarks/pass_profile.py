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
    ("copies", r"memcpy|memset|copy"),
    ("attention", r"flash|fmha|attention"),
    ("matrix products", r"gemm|nvjet|cutlass|addmm|::mm$|::linear$|splitk"),
)
"""What the names of kernels, or of operators on a CPU, tell; tried in this order."""
OTHERS = "everything else"


def main() -> None:
    """Every way timed, then every way watched."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", choices=MODELS, default="distilbert")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    device = arguments.device
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{folder}/compiled"  # as if nothing had been compiled here before
        directory = MODELS[arguments.model](Path(folder, "model"))
        ways = [
            _Way(Task(directory, precision, device, torch.get_num_threads(), Path(folder), variant), arguments.passes)
            for precision, variant in (CPU_WAYS if device == "cpu" else GPU_WAYS)
        ]
        rows = list[dict[str, Any]]()
        for way, timed in zip(ways, [way.timed() for way in ways], strict=True):
            rows.append(timed | way.watched())
            found = {"model": arguments.model, "gpu": None if device == "cpu" else device_name(device), "rows": rows}
            # After every way, so that what was measured is not lost.
            save(f"pass_profile_{device}", found, folder=arguments.results)


class _Way:
    """A loaded model and its batches."""

    def __init__(self, task: Task, pass_count: int) -> None:
        self._task = task
        source = source_of(task.model)
        identity = identity_of(task, source)
        self._model = load_model(identity, source.directory, task.device)
        # As many texts as the passes take if each had but 200 tokens.
        texts = texts_of(None, "text", pass_count * identity.batch_tokens // 200)
        part = make_encode(source.directory, identity)(pa.chunked_array([texts]))
        batches = (part if task.device == "cpu" else part.pin_memory()).batches
        self._batches = batches[:: max(1, len(batches) // pass_count)][:pass_count]  # of all lengths

    def timed(self) -> dict[str, Any]:
        """All passes, the median of a few times; and what the first pass of all takes, with its compilation."""
        first_seconds, _ = _run(self._model, self._batches[:1])
        again = in_a_process(first_pass, self._task, log=self._task.log) if self._task.variant == COMPILED else None
        _run(self._model, self._batches)  # kernels are loaded and chosen, memory is there
        seconds, starting = sorted(_run(self._model, self._batches) for _ in range(REPEATS))[REPEATS // 2]
        return {
            "precision": self._task.precision,
            "variant": self._task.variant,
            "passes": len(self._batches),
            "tokens": sum(len(batch.token_ids) for batch in self._batches),
            "seconds": seconds,
            "starting_seconds": starting,
            "first_seconds": first_seconds,
            "first_seconds_again": again,
        }

    def watched(self) -> dict[str, Any]:
        """By torch's profiler. Every launch of this process takes longer from then on: nothing is timed afterwards."""
        is_on_cpu = self._task.device == "cpu"
        activities = [ProfilerActivity.CPU, *([] if is_on_cpu else [ProfilerActivity.CUDA])]
        with profile(activities=activities) as profiler:
            _run(self._model, self._batches)
        by_kind, by_name = _device_seconds(profiler, is_on_cpu=is_on_cpu)
        return {
            "device_seconds": by_kind,
            "longest": dict(by_name.most_common(12)),
            "host_longest": _host_seconds(profiler),
        }


def first_pass(task: Task) -> float:
    """Seconds of the first pass of a process, where another one has compiled it before."""
    way = _Way(task, 1)
    seconds, _ = _run(way._model, way._batches)
    return seconds


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
            kind = next((kind for kind, pattern in KINDS if re.search(pattern, event.key, re.IGNORECASE)), OTHERS)
            by_kind[kind] += seconds
            by_name[event.key[:80]] += seconds
    return dict(by_kind), by_name


def _host_seconds(profiler: profile) -> dict[str, float]:
    """The calls on the host that take longest by themselves; among them those that wait for the device."""
    found = Counter[str]()
    for event in profiler.key_averages():
        if event.device_type.name == "CPU":
            found[event.key[:80]] += event.self_cpu_time_total / 1e6
    return dict(found.most_common(12))


if __name__ == "__main__":
    main()
