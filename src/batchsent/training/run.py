"""``batchsent finetune``, whole.

    INPUT → labelled texts → split → examples → a training for each learning rate and batch size → the best → DIR

:func:`finetune` is that line as code.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.digests import DigestCache
from batchsent.errors import IncompleteError, InputError, LockedError, ShardError, UsageError
from batchsent.machine import choose_device
from batchsent.models.resolution import ModelSource, require_unchanged, resolve_model
from batchsent.records import Shard
from batchsent.stages.planner import local_path, plan_shards
from batchsent.stop import StopSignal
from batchsent.storage import LocalStore
from batchsent.training import publishing
from batchsent.training.card import Facts, card, device_name
from batchsent.training.grid import Point, Result, best_of, csv_of, points
from batchsent.training.recipe import FinetuneConfig
from batchsent.training.settings import Settings, Sources, settle
from batchsent.training.showing import Showing
from batchsent.training.split import require_every_label
from batchsent.training.texts import Texts, gather

if TYPE_CHECKING:
    from batchsent.training.trainer import Material

log = logging.getLogger(__name__)

_WEIGHT_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Finished:
    """What DIR holds now."""

    settings: Settings
    labels: tuple[str, ...]
    results: list[Result]
    """Of every training of the grid; empty where there was nothing to do."""
    best: Result | None
    summary: dict[str, Any]
    """Counts and metrics of the published model."""


def finetune(config: FinetuneConfig, *, stop: StopSignal | None = None) -> Finished:
    """Train what ``config`` asks for into its output; go on where an earlier run was stopped.

    Raises BatchsentError, StoppedError among them.
    """
    stop = stop or StopSignal()
    store = LocalStore(local_path(config.output, "--output"), publishing.INTERNAL)
    shards = plan_shards(config.inputs, store.root)
    validation = plan_shards(config.validation, store.root)
    store.create()
    try:
        with store.lock():
            return _Finetuning(config, store, shards, validation, stop).run()
    except LockedError:
        raise LockedError(
            f"another run trains in {store.root}", "one run at a time", "wait for it, or choose another --output"
        ) from None


class _Finetuning:
    """One run on a DIR that is locked."""

    def __init__(
        self,
        config: FinetuneConfig,
        store: LocalStore,
        shards: list[Shard],
        validation: list[Shard],
        stop: StopSignal,
    ) -> None:
        self._config, self._store, self._stop = config, store, stop
        self._shards, self._validation = shards, validation
        self._digests = DigestCache(store, stop.check)
        self._device = _device(config.device)

    def run(self) -> Finished:
        """The line at the top of this module."""
        from batchsent.models.pretrained import quiet
        from batchsent.training.base import require_base

        self._store.remove_orphans()
        source = resolve_model(self._config.base_model, self._config.revision, self._digests.of_model)
        require_base(source.name, source.directory)
        recorded = publishing.recorded_settings(self._store)
        settings = settle(self._config, self._sources(source), self._device, recorded)
        if recorded == settings and (done := publishing.published_result(self._store, settings)):
            self._clear()
            return Finished(settings, tuple(done["summary"]["labels"]), [], None, done["summary"])
        # Nothing in DIR has changed yet: a wrong column must not make it that of wrong settings.
        texts = gather(settings, self._shards, self._validation, self._digest, self._stop.check)
        publishing.adopt(self._store, settings, recorded, restart=self._config.restart)
        material, left_out = self._material(settings, source, texts)
        require_unchanged(source.directory, source.files, self._digests.of_model)
        with quiet():
            results = self._train_all(material)
            return self._publish(material, results, left_out)

    # --- what it is made of

    def _sources(self, source: ModelSource) -> Sources:
        training, validation = (
            {shard.name: self._digest(shard.path).sha256 for shard in shards}
            for shards in (self._shards, self._validation)
        )
        return Sources(training, validation, source)

    def _digest(self, path: str) -> Any:
        try:
            return self._digests.digest(path)
        except ShardError as error:
            raise InputError(*error.args) from error

    def _material(self, settings: Settings, source: ModelSource, texts: Texts) -> tuple[Material, dict[str, int]]:
        """What every training of the grid has. Returns also how many texts were left out, by reason."""
        from batchsent.training.examples import examples_of
        from batchsent.training.trainer import Material

        training, validation = examples_of(texts, source.directory, settings, self._stop.check)
        blank = len(texts.training[0]) + len(texts.validation[0]) - len(training) - len(validation)
        require_every_label(texts.labels, training.targets, validation.targets)
        log.info(
            "%s texts to train on, %s to validate with; labels: %s",
            f"{len(training):,}",
            f"{len(validation):,}",
            ", ".join(texts.labels[:20]) + (", …" if len(texts.labels) > 20 else ""),
        )
        material = Material(settings, source.directory, texts.labels, training, validation, self._device)
        left_out = texts.left_out | {"without text": texts.left_out.get("without text", 0) + blank}
        if any(left_out.values()):
            log.info("left out: %s", ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count))
        return material, left_out

    # --- training

    def _train_all(self, material: Material) -> list[Result]:
        settings = material.settings
        showing = Showing(self._config.progress)
        results: list[Result] = []
        for point in points(settings.learning_rate, settings.batch_size):
            self._stop.check()
            results.append(self._train(material, point, showing))
            if not self._config.keep_checkpoints:
                self._keep_only(best_of(results, settings.multi_label), results)
        return results

    def _train(self, material: Material, point: Point, showing: Showing) -> Result:
        """Train, unless an earlier run has done it."""
        from batchsent.training.trainer import train

        name = f"{publishing.RUNS}/{point.name}/result.json"
        try:
            return Result.from_json(self._store.read_bytes(name) or b"")
        except (ValueError, TypeError, KeyError):
            pass
        result = train(material, point, self._folder(point), self._stop, showing)
        self._store.publish_bytes(name, result.to_json())
        return result

    def _folder(self, point: Point) -> Path:
        return self._store.path(f"{publishing.RUNS}/{point.name}")

    def _keep_only(self, best: Result, results: list[Result]) -> None:
        """Of finished trainings only the weights of the best so far are needed."""
        for result in results:
            for checkpoint in self._folder(result.point).glob("checkpoint-*"):
                if result is not best or checkpoint.name != result.checkpoint:
                    shutil.rmtree(checkpoint)

    # --- publishing

    def _publish(self, material: Material, results: list[Result], left_out: dict[str, int]) -> Finished:
        """The best model into DIR, with its card and pictures."""
        from batchsent.training.pictures import pictures

        settings, best = material.settings, best_of(results, material.settings.multi_label)
        if not best.is_finite:
            raise IncompleteError(
                "the training diverged: its loss is not finite",
                "a model that computes numbers",
                "lower --learning-rate",
            )
        facts = Facts(
            labels=material.labels,
            training_targets=material.training.targets,
            validation_targets=material.validation.targets,
            left_out=left_out,
            parameter_counts=self._save(material, best),
            device=device_name(material.device, settings.threads),
        )
        pages = {"README.md": card(settings, facts, results, best), **pictures(results, best, settings.multi_label)}
        if len(results) > 1:
            pages["grid.csv"] = csv_of(results, settings.multi_label)
        summary = {
            "labels": list(material.labels),
            "training_count": len(material.training),
            "validation_count": len(material.validation),
            "metrics": best.metrics,
            "seconds": sum(result.seconds for result in results),
        }
        publishing.publish(self._store, settings, material.base, pages, summary)
        self._clear()
        return Finished(settings, material.labels, results, best, summary)

    def _save(self, material: Material, best: Result) -> tuple[int, int]:
        """The model in its best state, as it is to be published. Returns (parameters that were trained, all)."""
        import torch

        from batchsent.training.base import take_weights
        from batchsent.training.trainer import build

        trainable = build(material)
        parameter_counts = trainable.parameter_counts()
        take_weights(trainable.model, self._folder(best.point) / best.checkpoint)
        self._store.remove_tree(publishing.MODEL)
        weight_type = getattr(torch, _WEIGHT_TYPES[material.settings.weights])
        trainable.merge().to(weight_type).save_pretrained(self._store.path(publishing.MODEL))
        return parameter_counts

    def _clear(self) -> None:
        """What led to the published model is not needed any more."""
        if not self._config.keep_checkpoints:
            self._store.remove_tree(publishing.RUNS)


def _device(asked: str) -> str:
    device = choose_device(asked)
    if device not in ("cpu", "cuda:0"):
        raise UsageError(
            f"--device {asked}",
            "cuda, the first that is visible",
            f"set CUDA_VISIBLE_DEVICES={device[5:]}, pass --device cuda",
        )
    return device
