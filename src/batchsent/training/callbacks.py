"""What happens between the steps of a training: evaluations, checkpoints, progress, a stop that was asked for."""

from __future__ import annotations

import logging
import time
from typing import Any

from transformers import TrainerCallback

from batchsent.errors import StoppedError
from batchsent.reporting.progress import spoken_seconds
from batchsent.stop import StopSignal
from batchsent.training.checkpoints import is_evaluated
from batchsent.training.grid import SECONDS
from batchsent.training.metrics import choosing_metric
from batchsent.training.showing import Showing

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0
"""Between two checkpoints at most: what a kill costs where evaluations are rare."""


class Schedule:
    """After which steps a model is evaluated: as often in each epoch, the last time at its end."""

    def __init__(self, steps_per_epoch: int, epochs: int, evaluations_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.step_count = steps_per_epoch * epochs
        count = min(evaluations_per_epoch, steps_per_epoch)
        self._ends = frozenset(round(index * steps_per_epoch / count) for index in range(1, count + 1))

    def is_due(self, step: int) -> bool:
        """Whether there is an evaluation after ``step`` steps."""
        return (step - 1) % self.steps_per_epoch + 1 in self._ends


class Conductor(TrainerCallback):
    """Decides what the ``Trainer`` does after a step, and ends it where it can be resumed."""

    def __init__(self, schedule: Schedule, stop: StopSignal, epoch_holders: list[Any]) -> None:
        self._schedule, self._stop, self._epoch_holders = schedule, stop, epoch_holders
        self._trainer: Any = None
        self._began = self._saved_at = time.monotonic()
        self._earlier_seconds = 0.0
        self._is_over = self._is_catching_up = False

    def conduct(self, trainer: Any) -> None:
        """``trainer`` is the one to be decided for."""
        self._trainer = trainer

    def on_train_begin(self, *given: Any, **_: Any) -> None:
        """Go on as the checkpoint was left: with the evaluation that a signal may have kept it from."""
        _, state, control = given
        self._began = self._saved_at = time.monotonic()
        self._earlier_seconds = max((entry[SECONDS] for entry in state.log_history if SECONDS in entry), default=0.0)
        step = state.global_step
        if step and self._schedule.is_due(step) and not is_evaluated(state.log_history, step):
            # As the Trainer does after a step; it has no other way to have it done.
            self._is_catching_up = True
            self._trainer._determine_best_metric(self._trainer.evaluate(), None)
            self._is_catching_up = False
            self._is_over = control.should_training_stop

    def on_epoch_begin(self, *given: Any, **_: Any) -> None:
        """Tell whoever draws at random which epoch it is."""
        _, state, _ = given
        for holder in self._epoch_holders:
            holder.epoch = state.global_step // self._schedule.steps_per_epoch

    def on_step_end(self, *given: Any, **_: Any) -> None:
        """Evaluate and save when it is time; save when a signal came."""
        _, state, control = given
        if self._is_over:  # found out before this step, which the Trainer takes all the same
            control.should_evaluate = control.should_save = control.should_log = False
            return
        now = time.monotonic()
        if self._schedule.is_due(state.global_step):
            control.should_evaluate = control.should_save = True
        elif self._is_stopped() or now - self._saved_at > CHECKPOINT_SECONDS:
            control.should_save = True
        if control.should_save:
            self._saved_at = now
            state.log_history.append({"step": state.global_step, SECONDS: self.seconds()})

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """Leave an evaluation when a signal came; the checkpoint says that it is to be done."""
        if self._is_stopped():
            if not self._is_catching_up:  # else there is that checkpoint, with random numbers that are not restored yet
                self._trainer._save_checkpoint(self._trainer.model, trial=None)
            self._stop.check()

    def on_save(self, *given: Any, **_: Any) -> None:
        """A checkpoint is there: the place to end at, unless the training has ended anyway."""
        _, _, control = given
        if not control.should_training_stop:
            self._stop.check()

    def seconds(self) -> float:
        """How long the training has taken, earlier runs included."""
        return self._earlier_seconds + time.monotonic() - self._began

    def _is_stopped(self) -> bool:
        try:
            self._stop.check()
        except StoppedError:
            return True
        return False


class Reporter(TrainerCallback):
    """Shows how far the training is, and what each evaluation finds."""

    def __init__(self, showing: Showing, conductor: Conductor, multi_label: bool) -> None:
        self._showing, self._conductor = showing, conductor
        self._metric = choosing_metric(multi_label)
        self._loss = float("nan")

    def on_log(self, *_: Any, **more: Any) -> None:
        """A mean of the training loss is known."""
        self._loss = more["logs"].get("loss", self._loss)

    def on_step_end(self, *given: Any, **_: Any) -> None:
        """A step further."""
        _, state, _ = given
        self._showing.step(state.global_step, state.max_steps, state.epoch, self._loss)

    def on_evaluate(self, *given: Any, **more: Any) -> None:
        """An evaluation is done."""
        (_, state, _), metrics = given, more["metrics"]
        log.info(
            "epoch %.2f: validation %s %.4f, loss %.4f (%s)",
            state.epoch,
            self._metric.replace("_", " "),
            metrics[f"eval_{self._metric}"],
            metrics["eval_loss"],
            spoken_seconds(self._conductor.seconds()),
        )
