"""A training that was stopped or killed gives the same bytes; accumulation and early stopping do what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from batchsent.errors import StoppedError, UsageError
from batchsent.stop import StopSignal
from batchsent.training import callbacks, checkpoints, trainer
from batchsent.training.callbacks import Conductor, Reporter, Schedule
from batchsent.training.run import Finished
from trainings import CROPPED, Train, make_base


class Killed(BaseException):
    """As a kill, which no code of ours may handle."""


def weights(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def at_step(monkeypatch: pytest.MonkeyPatch, wanted: int, act: Any) -> None:
    """Call ``act`` once, at the end of a step, after what is to be done then was decided."""
    original = Reporter.on_step_end
    left = [act]

    def on_step_end(self: Reporter, args: Any, state: Any, control: Any, **more: Any) -> None:
        original(self, args, state, control, **more)
        if state.global_step == wanted and left:
            left.pop()()

    monkeypatch.setattr(Reporter, "on_step_end", on_step_end)


def kill() -> None:
    raise Killed


@pytest.mark.parametrize(
    ("steps", "count", "due"), [(10, 1, [10]), (10, 2, [5, 10]), (10, 3, [3, 7, 10]), (2, 5, [1, 2]), (1, 1, [1])]
)
def test_evaluations_are_spread_and_end_with_the_epoch(steps: int, count: int, due: list[int]) -> None:
    schedule = Schedule(steps, 2, count)
    assert [step for step in range(1, 2 * steps + 1) if schedule.is_due(step)] == due + [steps + step for step in due]


def test_a_seed_gives_the_same_bytes(train: Train, whole: Path, tmp_path: Path) -> None:
    first, second, other = whole, tmp_path / "b", tmp_path / "c"
    train(output=second)
    train(output=other, seed=1)
    assert weights(first) == weights(second) != weights(other)
    for name in ("curves.svg", "curves.png", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("step", [3, 16, 17, 47], ids=["within", "evaluation due", "next epoch", "last but one"])
def test_a_signal_leaves_a_checkpoint_that_gives_the_same_model(
    train: Train, cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    stop = StopSignal()
    at_step(monkeypatch, step, lambda: stop._handle(15, None))
    with pytest.raises(StoppedError):
        train(output=tmp_path / "stopped", stop=stop, **CROPPED)
    assert not (tmp_path / "stopped/config.json").exists()
    [run] = (tmp_path / "stopped/_finetune/runs").iterdir()
    latest = checkpoints.latest_checkpoint(run)
    assert latest is not None
    assert latest.name == f"checkpoint-{step if step == 16 else step + 1}"
    finished = train(output=tmp_path / "stopped", **CROPPED)
    assert weights(tmp_path / "stopped") == weights(cropped)
    assert_same_history(finished, cropped)


def assert_same_history(finished: Finished, whole: Path) -> None:
    assert finished.best is not None
    expected = json.loads((whole / "_finetune/result.json").read_bytes())["summary"]["metrics"]
    assert finished.best.metrics == expected
    assert finished.best.step > 16, "else nothing was at stake"
    steps = [entry["step"] for entry in finished.best.history if "eval_loss" in entry]
    assert steps == sorted(set(steps)), "each evaluation once"


def test_a_kill_goes_on_from_the_latest_checkpoint(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 23, kill)
    with pytest.raises(Killed):
        train(output=tmp_path / "killed")
    seen: list[int] = []
    original = Conductor.on_train_begin

    def on_train_begin(self: Conductor, args: Any, state: Any, control: Any, **more: Any) -> None:
        seen.append(state.global_step)
        original(self, args, state, control, **more)

    monkeypatch.setattr(Conductor, "on_train_begin", on_train_begin)
    train(output=tmp_path / "killed")
    assert seen == [16]
    assert weights(tmp_path / "killed") == weights(whole)


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_used(tmp_path: Path) -> None:
    for step, state in ((8, '{"global_step": 8}'), (16, '{"global_step"'), (24, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert checkpoints.latest_checkpoint(tmp_path) == tmp_path / "checkpoint-8"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-8"]


def test_checkpoints_come_with_time_where_evaluations_are_rare(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SECONDS", 0.0)
    at_step(monkeypatch, 6, kill)
    with pytest.raises(Killed):
        train(output=tmp_path / "killed")
    [run] = (tmp_path / "killed/_finetune/runs").iterdir()
    assert {path.name for path in run.iterdir()} == {"checkpoint-4", "checkpoint-5"}
    train(output=tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(whole)


def test_accumulated_batches_are_one_step(train: Train, tmp_path: Path) -> None:
    directory = make_base(tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    options: dict[str, Any] = {"base_model": str(directory), "epochs": 1, "limit": 80, "warmup_share": 0.0}
    # One step sees all 64 texts, whichever batches they are in.
    train(output=tmp_path / "at-once", batch_size=(64,), **options)
    train(output=tmp_path / "bit-by-bit", batch_size=(8,), accumulate=8, **options)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("at-once", "bit-by-bit"))
    moved = load_file(directory / "model.safetensors")
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=2e-4), name
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.allclose(one[name], moved[name.removeprefix("bert.")], atol=1e-3)


def test_it_ends_early_and_the_best_is_kept(train: Train, tmp_path: Path) -> None:
    finished = train(epochs=30, patience=2, learning_rate=(5e-3,))
    assert finished.best is not None
    evaluations = [e for e in finished.best.history if "eval_accuracy" in e]
    assert len(evaluations) < 30
    best = max(e["eval_accuracy"] for e in evaluations)
    assert finished.best.metrics["accuracy"] == best
    assert finished.best.step == next(e["step"] for e in evaluations if e["eval_accuracy"] == best)
    assert evaluations[-1]["step"] == finished.best.step + 2 * 16


def test_one_that_had_ended_is_not_trained_further(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": 30, "patience": 1, "learning_rate": (5e-3,)}
    train(output=tmp_path / "whole", **options)
    monkeypatch.setattr(trainer, "result_of", lambda *_: kill())
    with pytest.raises(Killed):
        train(output=tmp_path / "killed", **options)
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "_trainer", lambda *_: kill())
    train(output=tmp_path / "killed", **options)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_too_little_memory_is_said(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trainer._Trainer, "train", exhausted)
    with pytest.raises(UsageError, match=r"cpu has too little memory for batches of 8 .*--accumulate"):
        train()


def test_gradient_checkpointing_changes_nothing_that_counts(train: Train, tmp_path: Path) -> None:
    train(output=tmp_path / "kept", epochs=1)
    train(output=tmp_path / "computed", epochs=1, gradient_checkpointing=True)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "computed"))
    assert all(torch.allclose(tensor, other[name], atol=1e-4) for name, tensor in one.items())


def test_a_frozen_encoder_stays_as_it_was(train: Train, base: Path, tmp_path: Path) -> None:
    train(freeze_encoder=True)
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[f"bert.{name}"])}
    assert set(before) - same == {"pooler.dense.weight", "pooler.dense.bias"}


def test_a_folder_that_moved_goes_on(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 23, kill)
    with pytest.raises(Killed):
        train(output=tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    train(output=tmp_path / "after")
    assert weights(tmp_path / "after") == weights(whole)
