"""``batchsent doctor --tune`` prints lines that a job file takes, of what it has tried."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from batchsent import machine, tuning
from batchsent.cli import main
from batchsent.config import ScoreConfig
from batchsent.errors import InputError, StoppedError
from batchsent.tuning import tune
from support import write_csv


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "CPU_BUDGETS", (256, 1_024))
    monkeypatch.setattr(tuning, "ROUNDS", 1)


def config_of(*inputs: Path, **options: Any) -> ScoreConfig:
    return ScoreConfig(inputs=tuple(map(str, inputs)), output="-", device="cpu", **options)


@pytest.mark.parametrize("has_int8", [True, False])
def test_every_engine_budget_and_thread_count_is_tried(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, has_int8: bool
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(tuning, "available_cores", lambda: 2)
    monkeypatch.setattr(tuning, "has_int8_dot_products", lambda: has_int8)
    path = write_csv(tmp_path / "r.csv", ["good film", "", "bad " * 30, "good film"] * 50)
    found = tune(config_of(path, model=str(tiny_model), precision="fp32"), lambda: None)
    assert (found.text_count, found.token_count) == (2, 4 + 32), "each text once"
    assert found.chosen_by_auto.backend == "openvino"
    tried = [(t.backend, t.precision, t.threads, t.batch_tokens) for t in found.trials]
    engines = [("openvino", "fp32"), ("torch", "fp32"), *([("openvino", "int8")] if has_int8 else [])]
    assert tried == [(*engine, threads, budget) for engine in engines for threads in (2, 1) for budget in (256, 1_024)]
    assert all(trial.tokens_per_second > 0 for trial in found.trials)
    fastest = found.fastest("fp32")
    assert fastest is not None
    assert fastest.tokens_per_second == max(t.tokens_per_second for t in found.trials if t.precision == "fp32")


def test_so_many_tokens_are_enough(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "CPU_SAMPLE_TOKENS", 50)
    path = write_csv(tmp_path / "r.csv", [f"good {'bad ' * n}" for n in range(100)])
    found = tune(config_of(path, model=str(tiny_model), backend="torch"), lambda: None)
    assert 50 <= found.token_count < 80


def test_without_a_text_there_is_nothing_to_measure(tmp_path: Path, tiny_model: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["", "", ""])
    with pytest.raises(InputError, match="no text"):
        tune(config_of(path, model=str(tiny_model), backend="torch"), lambda: None)


def test_a_signal_ends_it(tmp_path: Path, tiny_model: Path) -> None:
    def stopped() -> None:
        raise StoppedError(15)

    path = write_csv(tmp_path / "r.csv", ["good film"])
    with pytest.raises(StoppedError):
        tune(config_of(path, model=str(tiny_model), backend="torch"), stopped)


def test_what_is_printed_is_a_job_file(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "has_int8_dot_products", lambda: True)
    path = write_csv(tmp_path / "r.csv", ["good film", "bad film"])
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--tune", str(path), "--model", str(tiny_model), "--precision", "fp32", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    settings = tomllib.loads(out)
    assert settings.keys() == {"backend", "precision", "threads", "batch-tokens"}
    assert settings["precision"] == "fp32", "int8 has to be chosen"
    assert "# int8 is" in out
    ScoreConfig(inputs=("x",), output="y", **{name.replace("-", "_"): value for name, value in settings.items()})
