"""Options that contradict each other are refused before anything is read; settings are compared by what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchsent.errors import SettingsChangedError, UsageError
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.training.recipe import FinetuneConfig
from batchsent.training.settings import Settings, Sources, require_same, settle


def config_of(**options: Any) -> FinetuneConfig:
    return FinetuneConfig(**({"inputs": ("r.csv",), "output": "o", "label_column": "label"} | options))


def settings_of(base: Path, recorded: Settings | None = None, **options: Any) -> Settings:
    source = resolve_model(str(base), None, sha256_of)
    return settle(config_of(**options), Sources({"r.csv": "00" * 32}, {}, source), "cpu", recorded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ()}, "no INPUT"),
        ({"output": ""}, "no output directory"),
        ({"label_column": None}, "no label column"),
        ({"lora_rank": 4, "freeze_encoder": True}, "nothing to adapt"),
        ({"multi_label": True, "label_smoothing": 0.1}, "--label-smoothing with --multi-label"),
        ({"multi_label": True, "map": ("1=A",)}, "--map with --multi-label"),
        ({"learning_rate": (0.0,)}, "--learning-rate is 0, with which"),
        ({"learning_rate": (1e-4, 1e-4)}, "--learning-rate names a value twice"),
        ({"batch_size": (8, 8)}, "--batch-size names a value twice"),
        ({"batch_size": (0,)}, "--batch-size is 0; expected at least 1"),
        ({"batch_size": (8.5,)}, "--batch-size is 8.5; expected a whole number"),
        ({"batch_size": 8}, "--batch-size is 8; expected a tuple"),
        ({"learning_rate": ("a",)}, "--learning-rate is 'a'; expected a number"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": 1.5}, "--epochs is 1.5; expected a whole number"),
        ({"validation_share": 0.95}, "--validation-share is 0.95"),
        ({"precision": "int8"}, "--precision is 'int8'"),
        ({"device": "tpu"}, "--device is 'tpu'"),
        ({"map": (1,)}, "--map is"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config_of(**options)


@pytest.mark.parametrize(("options", "rate"), [({}, 5e-5), ({"lora_rank": 8}, 5e-4), ({"freeze_encoder": True}, 1e-3)])
def test_the_learning_rate_goes_by_what_is_trained(base: Path, options: dict[str, Any], rate: float) -> None:
    settings = settings_of(base, **options)
    assert (settings.learning_rate, settings.batch_size, settings.max_length) == ((rate,), (32,), 128)


def test_settings_survive_their_file(base: Path) -> None:
    settings = settings_of(base, map=("1=A", "2=B"), batch_size=(8, 16))
    assert Settings.from_json(settings.to_json()) == settings
    with pytest.raises(ValueError, match="not these settings"):
        Settings.from_json(settings.to_json().replace(b'"seed": 42', b'"seed": 43'))


def test_what_is_left_to_auto_is_as_it_was_recorded(base: Path) -> None:
    recorded = replace(settings_of(base), threads=7, precision="fp32")
    again = settings_of(base, recorded)
    assert (again.threads, again.precision) == (7, "fp32")
    assert settings_of(base, recorded, threads=3).threads == 3


def test_a_change_names_what_differs(base: Path, tmp_path: Path) -> None:
    recorded = settings_of(base)
    changed = replace(
        recorded, seed=1, learning_rate=(1e-4, 1e-3), input_files={"r.csv": "11" * 32, "s.csv": "22" * 32}
    )
    with pytest.raises(SettingsChangedError) as raised:
        require_same(changed, recorded, tmp_path)
    assert "seed: 42 → 1" in str(raised.value)
    assert "learning-rate: 5e-05 → 0.0001,0.001" in str(raised.value)
    assert "input-files: r.csv (00000000) → r.csv (11111111), s.csv (22222222)" in str(raised.value)
    require_same(replace(recorded, base_model="moved"), recorded, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "precision fp16 on the CPU"),
        ({"max_length": 129}, "--max-length 129; expected at most 128"),
    ],
)
def test_what_the_machine_or_the_model_cannot_is_refused(base: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_of(base, **options)
