"""``batchsent plan``, whole: from INPUT to what ``score`` would do with it.

    INPUT → planner → footers → what DIR holds → some parts → reader → encoder, batcher → some passes → forecast

The order is that of a run, and so are the functions; nothing is written to DIR, and no lock is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from batchsent import machine
from batchsent.checkpoint import is_published, load_manifest
from batchsent.config import NOWHERE, ScoreConfig
from batchsent.digests import DigestCache
from batchsent.directory import HashFile, adopt, decide, require_free_names
from batchsent.drift import DriftGate
from batchsent.errors import SettingsChangedError, UsageError
from batchsent.identity import Identity
from batchsent.models.resolution import sha256_of
from batchsent.plan.kept import KeptWork, Remainder, fresh_remainder
from batchsent.plan.remembered import plan_key
from batchsent.plan.results import Between, Kept, Plan
from batchsent.plan.setup import Setup
from batchsent.preparation import inspect_shards, needed_bytes, require_space
from batchsent.records import Inspection
from batchsent.reporting.metrics import metrics_path
from batchsent.scoring import LoadModel, device_and_model, tokenizer_count
from batchsent.shares import ALONE
from batchsent.stages.planner import place, plan_shards
from batchsent.stages.reader import ReaderProcess
from batchsent.stores import Store, open_store

_LONG_DECISION_SECONDS = 5.0
"""A model was converted or fetched meanwhile, which a run will find done."""


def make_plan(
    config: ScoreConfig, check: Callable[[], None] = lambda: None, *, load_model: LoadModel | None = None
) -> Plan:
    """What ``score`` would do with ``config``, how long it would take, and how sure that is.

    An ``output`` of :data:`NOWHERE` is a new one. ``check`` is called in between, and may raise; ``load_model`` stands
    in for the real model in tests. Raises what ``score`` would raise before it scores.
    """
    began, load = time.perf_counter(), os.getloadavg()[0]
    store = None if config.output == NOWHERE else _existing(open_store(place(config.output, "--output")))
    shards = plan_shards(config.inputs, NOWHERE if store is None else store.root)
    drift_gate = DriftGate.of(config)
    if config.metrics_file is not None:
        metrics_path(config.metrics_file, ALONE)
    digests = None if store is None else DigestCache(store, check)
    hash_file = sha256_of if digests is None else digests.of_model
    recorded = None if store is None else _recorded(store, config, hash_file)
    with ReaderProcess(check) as reader:
        inspections = inspect_shards(reader, shards, config)
        prepared = time.perf_counter() - began
        input_bytes = sum(shard.size_bytes for shard in shards)
        decide_now = partial(decide, config, hash_file, check, input_bytes=input_bytes)
        identity, decided = (recorded, 0.0) if recorded is not None else _decided(decide_now, config.device)
        began = time.perf_counter()
        if drift_gate is not None:
            drift_gate.require_labels(identity.labels)
        device, source = device_and_model(identity, config, hash_file)
        prepared += decided + time.perf_counter() - began
        kept = None
        if store is not None and digests is not None:
            kept = KeptWork(store, identity, digests, check)
            new = [inspection for inspection in inspections if inspection.shard.name not in kept.listed]
            require_free_names(store, [inspection.shard for inspection in new])
            require_space(store, identity, new)
        setup = Setup(config, identity, device, source, check, load_model)
        work = _Work(setup, store, inspections, kept if recorded is not None else None)
        plan = work.settings(prepared, load)
        if all(remainder.is_finished for remainder in work.remainders):
            return plan
        return work.forecast(plan, reader)


def _recorded(store: Store, config: ScoreConfig, hash_file: HashFile) -> Identity | None:
    """The settings in DIR; None if it has none, or a run would discard them."""
    try:
        return adopt(store, replace(config, restart=False), hash_file)
    except SettingsChangedError:
        if not config.restart:
            raise
        return None


def _existing(store: Store) -> Store:
    """``store``, unless something is there that cannot become DIR; nothing is made to find out."""
    root = store.root
    if isinstance(root, Path):
        folder = next(folder for folder in (root, *root.parents) if folder.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(
                f"{root} cannot be written",
                "a directory that this user may write",
                "choose another --output or change its permissions",
            )
    return store


def _decided(decide_now: Callable[[], Identity], device: str) -> tuple[Identity, float]:
    """The settings, and the seconds that a run needs to come to them."""
    began = time.perf_counter()
    # Most of what deciding takes, and nothing that a run finds done.
    import torch  # noqa: F401
    from transformers import AutoConfig, AutoTokenizer  # noqa: F401

    imported, began = time.perf_counter() - began, time.perf_counter()
    identity, decided = decide_now(), time.perf_counter() - began
    if not device.startswith("cuda") and decided > _LONG_DECISION_SECONDS:
        began = time.perf_counter()
        identity, decided = decide_now(), time.perf_counter() - began
    return identity, imported + decided


class _Work:
    """All that a run knows before it scores, and what it would make of it."""

    def __init__(self, setup: Setup, store: Store | None, inspections: list[Inspection], kept: KeptWork | None) -> None:
        """``kept`` is the look into what an earlier run has left; None where there was none."""
        self._setup, self._store, self._inspections, self._kept = setup, store, inspections, kept
        identity = setup.identity
        readable = [inspection for inspection in inspections if inspection.error is None]
        if kept is None:
            self.remainders = [fresh_remainder(inspection, identity, is_hashed=False) for inspection in readable]
        else:
            self.remainders = list(kept.remainders(readable))

    def settings(self, prepared_seconds: float, load: float) -> Plan:
        """The plan as far as nothing has to be tried for it; it took so long to come to here.

        ``load`` is how busy the machine was before.
        """
        setup, identity = self._setup, self._setup.identity
        shards = [inspection.shard for inspection in self._inspections]
        return Plan(
            key=plan_key(identity, setup.config, setup.device, shards),
            model=identity.model,
            backend=identity.backend,
            precision=identity.precision,
            batching=identity.batching,
            device=setup.device,
            threads=identity.threads,
            batch_tokens=identity.batch_tokens,
            rows_per_part=identity.rows_per_part,
            max_length=identity.max_length,
            shard_count=len(shards),
            input_bytes=sum(shard.size_bytes for shard in shards),
            kept=_kept(self.remainders, is_begun=self._kept is not None),
            seconds=Between(prepared_seconds, prepared_seconds, prepared_seconds),
            startup_seconds=prepared_seconds,
            failed_shards={i.shard.name: i.error for i in self._inspections if i.error is not None},
            is_published=self._is_published(),
            is_held=self._store is not None and self._store.has_locks and self._store.is_locked(),
            output_bytes=needed_bytes(identity, [r.inspection for r in self.remainders if not r.is_finished]),
            free_bytes=None if self._store is None or not self._store.has_locks else self._store.free_bytes(),
            load=load,
            cores=machine.available_cores(),
            replicas=self._replicas(),
            audit=setup.config.audit,
        )

    def _is_published(self) -> bool:
        if self._store is None or self._kept is None:
            return False
        manifest = load_manifest(self._store) if is_published(self._store) else None
        names = {inspection.shard.name for inspection in self._inspections}
        return manifest is not None and self._kept.listed == names and manifest.has_audit_of(self._setup.config.audit)

    def _replicas(self) -> tuple[int, ...]:
        """How many were asked for: one number, or the fewest and the most."""
        fewest, most = self._setup.config.replica_range()
        return () if most is None else tuple(sorted({fewest, most}))

    def forecast(self, plan: Plan, reader: ReaderProcess) -> Plan:
        """``plan`` with all that has to be tried."""
        from batchsent.plan.forecast import Forecast, Machine, expected_seconds
        from batchsent.plan.measured import measure
        from batchsent.plan.places import choose_places

        setup = self._setup
        places = choose_places(self.remainders, setup.identity)
        measured = measure(places, reader, setup)
        forecast = Forecast(measured.parts, self.remainders, measured.passes)
        sample = forecast.sample()
        hash_seconds = _unhashed_bytes(self.remainders) / measured.hashed_bytes_per_second
        stages = forecast.stage_seconds(measured.commits, hash_seconds)
        here = Machine(
            machine.available_cores(),
            setup.device != "cpu",
            setup.identity.threads,
            tokenizer_count(setup.config, setup.device),
        )
        startup = plan.startup_seconds + measured.startup_seconds
        return replace(
            plan,
            texts=forecast.texts(sample),
            seconds=expected_seconds(stages, startup, here, sample),
            startup_seconds=startup,
            stage_seconds=stages,
            failed_shards=plan.failed_shards | measured.failures,
            memory=measured.memory,
            sample=sample,
        )


def _kept(remainders: list[Remainder], *, is_begun: bool) -> Kept:
    return Kept(
        shard_count=sum(remainder.is_finished for remainder in remainders),
        record_count=sum(remainder.kept_rows for remainder in remainders),
        size_bytes=sum(remainder.kept_bytes for remainder in remainders),
        assumed_shard_count=sum(remainder.is_assumed for remainder in remainders),
        unknown_bytes=_unhashed_bytes([r for r in remainders if not r.is_finished]) if is_begun else 0,
    )


def _unhashed_bytes(remainders: list[Remainder]) -> int:
    """Of shards that a run will hash first; an object is known without that."""
    return sum(r.shard.size_bytes for r in remainders if not r.is_hashed and not r.shard.version)
