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


def untold(_message: str) -> None:
    """Whoever does not ask what is measured next."""


@pytest.mark.parametrize("has_int8", [True, False])
def test_every_engine_and_budget_is_tried_and_the_best_with_fewer_threads(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, has_int8: bool
) -> None:
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(tuning, "has_int8_dot_products", lambda: has_int8)
    path = write_csv(tmp_path / "r.csv", ["good film", "", "bad " * 30, "good film"] * 50)
    told = list[str]()
    found = tune(config_of(path, model=str(tiny_model), precision="fp32"), lambda: None, told.append)
    assert (found.text_count, found.token_count) == (2, 4 + 32), "each text once"
    assert found.chosen_by_auto.backend == "openvino"
    engines = [("openvino", "fp32"), ("torch", "fp32"), *([("openvino", "int8")] if has_int8 else [])]
    expected = []
    for engine in engines:
        both = [t for t in found.trials if (t.backend, t.precision, t.threads) == (*engine, 2)]
        best = max(both, key=lambda trial: trial.tokens_per_second).batch_tokens
        expected += [(*engine, 2, 256), (*engine, 2, 1_024), (*engine, 1, best)]
    assert [(t.backend, t.precision, t.threads, t.batch_tokens) for t in found.trials] == expected
    assert told[:2] == ["measuring openvino, fp32, threads: 2", "measuring openvino, fp32, threads: 1"]
    assert all(trial.tokens_per_second > 0 for trial in found.trials)
    fastest = found.fastest("fp32")
    assert fastest is not None
    assert fastest.tokens_per_second == max(t.tokens_per_second for t in found.trials if t.precision == "fp32")


def test_so_many_tokens_are_enough(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "CPU_SAMPLE_TOKENS", 50)
    path = write_csv(tmp_path / "r.csv", [f"good {'bad ' * n}" for n in range(100)])
    found = tune(config_of(path, model=str(tiny_model), backend="torch"), lambda: None, untold)
    assert 50 <= found.token_count < 80


def test_a_large_model_is_measured_once(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ROUNDS", 3)
    monkeypatch.setattr(tuning, "PATIENCE_SECONDS", 0.0)
    passes = list[float]()

    def forward_seconds(_model: Any, _batches: Any) -> float:
        passes.append(1.0)
        return passes[-1]

    monkeypatch.setattr(tuning, "forward_seconds", forward_seconds)
    path = write_csv(tmp_path / "r.csv", ["good film"])
    found = tune(config_of(path, model=str(tiny_model), backend="torch", threads=1), lambda: None, untold)
    assert len(found.trials) == 2
    assert len(passes) == 2 * len(found.trials), "once to warm up, and once"


def test_without_a_text_there_is_nothing_to_measure(tmp_path: Path, tiny_model: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["", "", ""])
    with pytest.raises(InputError, match="no text"):
        tune(config_of(path, model=str(tiny_model), backend="torch"), lambda: None, untold)


def test_a_signal_ends_it(tmp_path: Path, tiny_model: Path) -> None:
    def stopped() -> None:
        raise StoppedError(15)

    path = write_csv(tmp_path / "r.csv", ["good film"])
    with pytest.raises(StoppedError):
        tune(config_of(path, model=str(tiny_model), backend="torch"), stopped, untold)


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
