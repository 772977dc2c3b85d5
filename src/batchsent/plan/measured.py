"""What is tried: some parts are read and tokenized, the model is loaded, some passes are computed, a little written.

In the order in which a run does it, so that seconds and memory are those of its processes.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from batchsent.engines.encoding import make_encoder
from batchsent.identity import Identity
from batchsent.machine import peak_memory_bytes
from batchsent.models import loading
from batchsent.plan.commits import NO_COMMITS, CommitCosts, measure_commits
from batchsent.plan.passes import Batched, PassCosts, batched, measure_passes
from batchsent.plan.places import Place
from batchsent.plan.results import Memory
from batchsent.plan.sample import Stretch, read_stretches
from batchsent.plan.setup import Setup
from batchsent.schema import TEXT
from batchsent.scoring import tokenizer_count
from batchsent.stages.reader import ReaderProcess

if TYPE_CHECKING:
    from batchsent.stages.encoder import Encoder

_HASHED_BYTES = 16 << 20
"""Hashed to see how fast that is."""


@dataclass(frozen=True)
class Measured:
    """What was seen of it."""

    parts: list[Batched]
    passes: PassCosts
    commits: CommitCosts
    startup_seconds: float
    """From settings that are decided to the first pass."""
    memory: Memory
    hashed_bytes_per_second: float
    failures: dict[str, str] = field(default_factory=dict)
    """Shards that could not be read, and why."""


def measure(places: list[Place], reader: ReaderProcess, setup: Setup) -> Measured:
    """Try it with the records at ``places``."""
    identity, device, source, check = setup.identity, setup.device, setup.source, setup.check
    failures: dict[str, str] = {}
    began = time.perf_counter()
    encoder = make_encoder(source.directory, identity)
    made = time.perf_counter() - began
    stretches = []
    for stretch in read_stretches(places, reader, encoder, setup.config, identity, failures):
        check()
        stretches.append(stretch)
    tokenizer_bytes = peak_memory_bytes()
    parts = [batched(stretch, identity, encoder.special_token_count) for stretch in stretches]
    began = time.perf_counter()
    load = setup.load_model or partial(loading.load_model, check=check)
    model = load(identity, source.directory, device)
    loaded = time.perf_counter() - began
    passes = measure_passes(parts, model, identity, check)
    memory = Memory(
        job_bytes=peak_memory_bytes(),
        reader_bytes=peak_memory_bytes(reader.pid),
        tokenizer_bytes=tokenizer_bytes,
        tokenizer_count=tokenizer_count(setup.config, device),
        device_bytes=_device_bytes(device),
    )
    return Measured(
        parts,
        passes,
        _commit_costs(stretches, identity, encoder),
        # The first part is read and tokenized while the model is loaded.
        max(loaded, made + _first_seconds(stretches)),
        memory,
        _hashed_bytes_per_second(),
        failures,
    )


def _first_seconds(stretches: list[Stretch]) -> float:
    """Until the batches of the first part are there."""
    if not stretches:
        return 0.0
    first = stretches[0]
    return first.read_seconds + first.encoded.encode_seconds / first.share_encoded


def _commit_costs(stretches: list[Stretch], identity: Identity, encoder: Encoder) -> CommitCosts:
    if not stretches:
        return NO_COMMITS
    most = max(stretches, key=lambda stretch: stretch.part.records.num_rows)
    return measure_commits(most, identity, lambda part: encoder.encode(part.records.column(TEXT)))


def _device_bytes(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    return torch.cuda.max_memory_reserved(device)


def _hashed_bytes_per_second() -> float:
    data = bytes(_HASHED_BYTES)
    began = time.perf_counter()
    hashlib.sha256(data)
    return len(data) / (time.perf_counter() - began)
