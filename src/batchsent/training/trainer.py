"""One training: a base model and examples → checkpoints, the best of them, and its history. By transformers' Trainer.

    DIR/_finetune/runs/<name>/checkpoint-<step>/    what the Trainer saves; the latest and the best are kept
    DIR/_finetune/runs/<name>/result.json           when it is over

The Trainer draws its random numbers from the process. Whatever could depend on when they are drawn (the order of the
texts, windows of long ones) is drawn from the seed and the epoch instead, and what remains (dropout) is restored from
the checkpoint: a training that goes on gives the same weights as one that was never interrupted.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments, set_seed

from batchsent.errors import UsageError
from batchsent.models.torch_classifier import leave_out_cudnn_attention
from batchsent.stop import StopSignal
from batchsent.training.base import Trainable, load_base
from batchsent.training.callbacks import Conductor, Reporter, Schedule
from batchsent.training.checkpoints import is_over, latest_checkpoint, state_of
from batchsent.training.examples import Examples, LengthGroupedOrder, collate
from batchsent.training.grid import Point, Result, result_of
from batchsent.training.metrics import choosing_metric, measure
from batchsent.training.settings import Settings
from batchsent.training.showing import Showing

log = logging.getLogger(__name__)

_KEPT_CHECKPOINTS = 2
"""The latest and the best."""
_POINTS_OF_A_CURVE = 100
_EVALUATION_BATCH_SIZE = 32


@dataclass(frozen=True)
class Material:
    """What is the same in every training of a grid."""

    settings: Settings
    base: Path
    labels: tuple[str, ...]
    training: Examples
    validation: Examples
    device: str


def build(material: Material) -> Trainable:
    """The model as it is before its first step."""
    settings = material.settings
    set_seed(settings.seed)  # the new head is drawn here
    return load_base(
        material.base,
        material.labels,
        multi_label=settings.multi_label,
        method=settings.method,
        lora_rank=settings.lora_rank,
    )


def train(material: Material, point: Point, folder: Path, stop: StopSignal, showing: Showing) -> Result:
    """Train in ``folder`` from its latest checkpoint on, or from the beginning.

    Raises StoppedError after a checkpoint if a signal came, UsageError if the device has too little memory.
    """
    settings = material.settings
    torch.set_num_threads(settings.threads)
    if material.device != "cpu":
        leave_out_cudnn_attention()
    schedule = _schedule(material, point)
    checkpoint = latest_checkpoint(folder)
    state = state_of(checkpoint) if checkpoint else None
    if state and is_over(state, schedule.step_count, settings.patience):
        return result_of(point, state["log_history"], None, settings.multi_label)
    trainable = build(material)
    order = LengthGroupedOrder(material.training.lengths, point.batch_size, settings.seed)
    conductor = Conductor(schedule, stop, [order, material.training])
    trainer = _trainer(material, point, folder, trainable, order, schedule, conductor)
    trainer.add_callback(Reporter(showing, conductor, settings.multi_label))
    _announce(trainable, point, schedule, checkpoint)
    showing.start(point.title, state["global_step"] if state else 0, schedule.step_count)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{material.device} has too little memory for batches of {point.batch_size} texts of "
            f"{settings.max_length} tokens",
            "a batch that fits",
            "pass a smaller --batch-size and a larger --accumulate, or --gradient-checkpointing",
        ) from error
    finally:
        showing.stop()
    return result_of(point, trainer.state.log_history, conductor.seconds(), settings.multi_label)


def _schedule(material: Material, point: Point) -> Schedule:
    settings = material.settings
    batch_count = math.ceil(len(material.training) / point.batch_size)
    return Schedule(math.ceil(batch_count / settings.accumulate), settings.epochs, settings.evaluations_per_epoch)


def _announce(trainable: Trainable, point: Point, schedule: Schedule, checkpoint: Path | None) -> None:
    trained, whole = trainable.parameter_counts()
    log.info(
        "training %s of %s parameters%s: %s, %d steps%s",
        f"{trained:,}",
        f"{whole:,}",
        " (new head)" if trainable.has_new_head else "",
        point.title,
        schedule.step_count,
        f", from {checkpoint.name} on" if checkpoint else "",
    )


class _Trainer(Trainer):
    """The library's, with an order of its texts that does not depend on when it is drawn."""

    order: LengthGroupedOrder

    def get_train_dataloader(self) -> Any:
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self._train_batch_size,
            sampler=self.order,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


def _trainer(
    material: Material,
    point: Point,
    folder: Path,
    trainable: Trainable,
    order: LengthGroupedOrder,
    schedule: Schedule,
    conductor: Conductor,
) -> _Trainer:
    settings, label_count = material.settings, len(material.labels)
    callbacks = [conductor]
    trainer = _Trainer(
        model=trainable.model,
        args=_arguments(material, point, folder, schedule),
        data_collator=partial(collate, pad_token_id=trainable.pad_token_id, label_count=label_count),
        train_dataset=material.training,
        eval_dataset=material.validation,
        compute_loss_func=partial(_loss, multi_label=settings.multi_label, smoothing=settings.label_smoothing),
        compute_metrics=partial(_metrics, multi_label=settings.multi_label),
        callbacks=callbacks,  # type: ignore[arg-type]
    )
    trainer.order = order
    trainer.remove_callback(PrinterCallback)
    if settings.patience:
        trainer.add_callback(EarlyStoppingCallback(settings.patience))
    conductor.conduct(trainer)
    return trainer


def _arguments(material: Material, point: Point, folder: Path, schedule: Schedule) -> TrainingArguments:
    settings = material.settings
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=point.batch_size,
        per_device_eval_batch_size=_EVALUATION_BATCH_SIZE,
        gradient_accumulation_steps=settings.accumulate,
        num_train_epochs=settings.epochs,
        learning_rate=point.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(settings.warmup_share * schedule.step_count),
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=settings.seed,
        use_cpu=material.device == "cpu",
        # When to evaluate and save is the Conductor's to say; these only have to agree with each other.
        eval_strategy="steps",
        eval_steps=schedule.step_count,
        save_strategy="steps",
        save_steps=schedule.step_count,
        save_total_limit=_KEPT_CHECKPOINTS,
        load_best_model_at_end=True,
        metric_for_best_model=choosing_metric(settings.multi_label),
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, schedule.step_count // _POINTS_OF_A_CURVE),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=material.device != "cpu",
        disable_tqdm=True,
        log_level="error",
        report_to="none",
        label_names=["labels"],
        **_checkpointing(settings.gradient_checkpointing),
    )
    if material.device != "cpu":
        arguments._n_gpu = 1  # the Trainer would spread each batch over every GPU that it sees
    return arguments


def _checkpointing(is_asked: bool) -> dict[str, Any]:
    # transformers 5 renamed it on its way.
    name = (
        "activation_checkpointing"
        if hasattr(TrainingArguments, "activation_checkpointing")
        else "gradient_checkpointing"
    )
    return {name: True, f"{name}_kwargs": {"use_reentrant": False}} if is_asked else {}


def _loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, *, multi_label: bool, smoothing: float
) -> torch.Tensor:
    """The mean over the texts of one step of the optimizer, however many forward passes these are spread over.

    (The heads' own loss is the mean over a pass, which the Trainer would add up as if it were a share of that.)
    """
    logits = outputs["logits"].float()
    if multi_label:
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    else:
        total = torch.nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def _metrics(prediction: Any, *, multi_label: bool) -> dict[str, Any]:
    logits = prediction.predictions
    logits = logits[0] if isinstance(logits, tuple) else logits  # some models have more to say than that
    return measure(logits, prediction.label_ids, multi_label=multi_label)
