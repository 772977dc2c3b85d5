"""The command, end to end; what is wrong is one line and exit 2."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from batchsent.cli import finetune, main
from batchsent.options import option_fields, option_name
from batchsent.training.recipe import FinetuneConfig
from support import WORDS, make_bert, rows, write_csv

ROOT = Path(__file__).parents[2]
QUICK = ("--device", "cpu", "--threads", "1", "--precision", "fp32", "--epochs", "1", "--max-length", "16")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    texts = [
        f"{a} {b} {'good' if i % 2 else 'bad'}" for i, (a, b) in enumerate((a, b) for a in WORDS[:8] for b in WORDS[:8])
    ]
    return write_csv(tmp_path / "r.csv", texts, stars=[5 if i % 2 else 1 for i in range(len(texts))])


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_train_then_score(reviews: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, scored = str(tmp_path / "model"), str(tmp_path / "scored")
    command = ["finetune", str(reviews), "--output", model, "--base-model", str(tiny_model), "--label-column", "stars"]
    command += ["--map", "1,2=NEGATIVE", "--map", "4,5=POSITIVE", "--batch-size", "8", "--batch-size", "16", *QUICK]
    assert run(*command) == 0
    out, err = capsys.readouterr()
    assert "tried  learning rate  batch size  accuracy" in out
    assert "(kept)" in out
    assert f"next  batchsent score INPUT --output scored --model {model} --max-length 16" in out
    assert "58 texts to train on, 6 to validate with; labels: NEGATIVE, POSITIVE" in err
    assert "validation accuracy" in err
    assert run(*command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (
        run("score", str(reviews), "--output", scored, "--model", model, "--device", "cpu", "--max-length", "16") == 0
    )
    assert {row["label"] for row in rows(tmp_path / "scored/r.parquet")} <= {"NEGATIVE", "POSITIVE"}


def test_options_are_those_of_the_config() -> None:
    found = {parameter.opts[0] for parameter in finetune.command.params}
    assert found == {f"--{option_name(f.name)}" for f in option_fields(FinetuneConfig)} | {
        "inputs",
        "--output",
        "--config",
    }
    for definition in option_fields(FinetuneConfig):
        assert definition.metadata["help"].endswith((".", ")")), definition.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "o"), "no label column was given"),
        (("--label-column", "stars"), "no output directory was given"),
        (("--label-column", "stars", "--output", "o", "--batch-size", "x"), "'x' is not a valid integer"),
        (("--label-column", "stars", "--output", "o", "--learning-rate", "-1"), "--learning-rate is -1.0"),
    ],
)
def test_a_wrong_command_is_one_line(
    reviews: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("finetune", str(reviews), *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_the_recipe_is_one(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ROOT / "jobs/finetune-imdb.toml"
    names = {option_name(f.name) for f in option_fields(FinetuneConfig)} | {"input", "output"}
    assert set(tomllib.loads(recipe.read_text(encoding="utf-8"))) <= names
    made: list[FinetuneConfig] = []

    def stand_in(config: FinetuneConfig, **_: object) -> None:
        made.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("batchsent.training.run.finetune", stand_in)
    assert run("finetune", "--config", str(recipe), "--seed", "7") == 130
    [config] = made
    assert (config.limit, config.max_length, config.learning_rate, config.seed) == (4000, 128, (1e-4,), 7)
    job = tmp_path / "job.toml"
    for line, message in (
        ("learning-rate = 1e-4", "a list of numbers"),
        ("batch-size = [1.5]", "a list of numbers"),
        ("epoch = 3", "did you mean 'epochs'?"),
        ("map = [1]", "a list of strings"),
        ("lora-rank = 2.5", "a whole number"),
    ):
        job.write_text(f"{line}\n")
        assert run("finetune", str(reviews), "--output", "o", "--label-column", "stars", "--config", str(job)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.process
def test_a_signal_ends_a_real_process_within_seconds(reviews: Path, tmp_path: Path) -> None:
    base = make_bert(tmp_path / "base")
    command = [sys.executable, "-m", "batchsent", "finetune", str(reviews), "--output", str(tmp_path / "model")]
    command += ["--base-model", str(base), "--label-column", "stars", *QUICK, "--epochs", "2000", "--patience", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "validation accuracy" in line:
            break
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert time.monotonic() - asked < 10
    assert "run the same command again to resume" in err
    assert list((tmp_path / "model/_finetune/runs").glob("*/checkpoint-*/trainer_state.json"))
