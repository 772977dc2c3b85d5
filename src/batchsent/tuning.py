"""``batchsent doctor --tune``: which token budget and how many threads are fastest here, for this input.

Nothing uses what it finds by itself: the settings of a run follow from fixed rules, never from a clock, so that two
runs give the same bytes. What is found goes into a job file, by whoever asked.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.config import ScoreConfig
from batchsent.errors import InputError
from batchsent.identity import Identity
from batchsent.machine import choose_device, has_int8_dot_products
from batchsent.models.graphs import calibration_version
from batchsent.models.loading import prompt_of
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.plan.sample import read_request
from batchsent.preparation import inspect_shards
from batchsent.records import EncodedPart, EncodedTexts, TokenBatch
from batchsent.resolve import resolve
from batchsent.schema import TEXT
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess

if TYPE_CHECKING:
    from batchsent.stages.classifier import Model
    from batchsent.stages.encoder import Encoder

CPU_BUDGETS = (256, 512, 1_024, 2_048, 4_096)
CUDA_BUDGETS = (8_448, 16_896, 33_792, 67_584, 135_168)
CPU_SAMPLE_TOKENS = 16_384
"""The texts are the first of the input."""
CUDA_SAMPLE_TOKENS = 2_000_000
ROUNDS = 3
PATIENCE_SECONDS = 60.0
"""After which an engine has had rounds enough, if it has had one: a large model takes minutes for each."""
_READ_ROWS = 2_048


@dataclass(frozen=True)
class Trial:
    """One way to compute, and how fast it was."""

    backend: str
    precision: str
    threads: int
    batch_tokens: int
    tokens_per_second: float
    """Padding not counted; the median of the rounds."""


@dataclass(frozen=True)
class Tuning:
    """What was tried, in the order in which it was."""

    text_count: int
    token_count: int
    trials: list[Trial]
    chosen_by_auto: Identity

    def fastest(self, precision: str) -> Trial | None:
        """Of one precision."""
        tried = [trial for trial in self.trials if trial.precision == precision]
        return max(tried, key=lambda trial: trial.tokens_per_second, default=None)


def tune(config: ScoreConfig, check: Callable[[], None], tell: Callable[[str], None]) -> Tuning:
    """Try every budget with each backend on all threads, and the fastest of them on half as many.

    ``check`` is called in between, and may raise; ``tell`` hears what is measured next. Raises InputError if the input
    has no text that can be scored.
    """
    from batchsent.models.loading import load_model
    from batchsent.stages.batcher import batch_part
    from batchsent.stages.encoder import Encoder

    device = choose_device(config.device)
    source = resolve_model(config.model, config.revision, sha256_of)
    identity = resolve(config, source, device, check)
    encoder = Encoder(source.directory, identity.max_length, prompt=prompt_of(identity))
    wanted = CPU_SAMPLE_TOKENS if device == "cpu" else CUDA_SAMPLE_TOKENS
    texts = _sample(config, identity, encoder, wanted, check)
    budgets = CPU_BUDGETS if device == "cpu" else CUDA_BUDGETS
    cut = partial(batch_part, texts, special_token_count=encoder.special_token_count, batching=identity.batching)

    def measured(setting: Identity, budgets: Sequence[int]) -> list[Trial]:
        threads = f", threads: {setting.threads}" if device == "cpu" else ""
        tell(f"measuring {setting.backend}, {setting.precision}{threads}")
        model = load_model(setting, source.directory, device, check)
        return _trials(setting, model, {budget: cut(batch_tokens=budget) for budget in budgets}, check)

    trials = list[Trial]()
    for setting in _engines(identity, device):
        tried = measured(setting, budgets)
        if setting.threads > 1 and device == "cpu":
            best = max(tried, key=lambda trial: trial.tokens_per_second)
            tried += measured(replace(setting, threads=setting.threads // 2), [best.batch_tokens])
        trials += tried
    return Tuning(len(texts.ids), sum(len(ids) for ids in texts.ids), trials, identity)


def _engines(identity: Identity, device: str) -> Iterator[Identity]:
    """What a model is loaded for: what ``auto`` chooses, torch beside OpenVINO, int8."""
    if device != "cpu":
        yield identity
        return
    engines = [(identity.backend, identity.precision)]
    if identity.backend == "openvino" and identity.precision != "int8":
        engines.append(("torch", identity.precision))
        if has_int8_dot_products() is not False:
            engines.append(("openvino", "int8"))
    for backend, precision in engines:
        calibration = calibration_version() if precision == "int8" else None
        yield replace(identity, backend=backend, precision=precision, calibration_texts=calibration)


def _trials(setting: Identity, model: Model, parts: dict[int, EncodedPart], check: Callable[[], None]) -> list[Trial]:
    """Every budget, the budgets in turn, after a round that warms up."""
    seconds: dict[int, list[float]] = {budget: [] for budget in parts}
    began = time.perf_counter()
    for round_index in range(ROUNDS + 1):
        for budget, part in parts.items():
            check()
            taken = forward_seconds(model, part.batches)
            if round_index:
                seconds[budget].append(taken)
        if round_index and time.perf_counter() - began > PATIENCE_SECONDS:
            break
    return [
        Trial(
            setting.backend,
            setting.precision,
            setting.threads,
            budget,
            int(part.lengths.sum()) / statistics.median(seconds[budget]),
        )
        for budget, part in parts.items()
    ]


def forward_seconds(model: Model, batches: Iterable[TokenBatch]) -> float:
    """Bare forward passes over ``batches``, as many in flight as in a run."""
    in_flight: deque[Callable[[], Any]] = deque()
    began = time.perf_counter()
    for batch in batches:
        in_flight.append(model.start(batch))
        while len(in_flight) > model.in_flight:
            in_flight.popleft()()
    while in_flight:
        in_flight.popleft()()
    return time.perf_counter() - began


def _sample(
    config: ScoreConfig, identity: Identity, encoder: Encoder, token_count: int, check: Callable[[], None]
) -> EncodedTexts:
    """The first distinct texts of the input, until they have so many tokens."""
    shards = plan_shards(config.inputs, Path(os.devnull))
    with ReaderProcess(check) as reader:
        inspections = inspect_shards(reader, shards, config)
        for inspection in inspections:
            if inspection.error is not None:
                continue
            request = replace(read_request(inspection.shard, config, identity), kept=(), rows_per_part=_READ_ROWS)
            for part in reader.read(request):
                texts = encoder.encode(part.records.column(TEXT))
                if texts.ids:
                    return _first(texts, token_count)
    raise InputError("no text in what was given", "texts to measure with", "name an input that has some")


def _first(texts: EncodedTexts, token_count: int) -> EncodedTexts:
    kept, tokens = 0, 0
    while kept < len(texts.ids) and tokens < token_count:
        tokens += len(texts.ids[kept])
        kept += 1
    return replace(
        texts, ids=texts.ids[:kept], window_counts=texts.window_counts[:kept], truncated=texts.truncated[:kept]
    )
