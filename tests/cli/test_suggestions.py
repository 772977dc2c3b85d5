"""What is misspelt is met with what may have been meant: one line, exit 2, nothing done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Run, is_one_error

HERE = ["x.csv", "--output", "o"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "x.csv").write_text("id,review,stars\n1,good,5\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["scroe"], r"batchsent has no command 'scroe'; expected one of init, .*; did you mean 'score'\?"),
        (["Score"], r"did you mean 'score'\?"),
        (["zzzzzz"], r"no command 'zzzzzz'; expected one of init, .*; see 'batchsent --help'"),
        (["models", "shwo"], r"batchsent models has no command 'shwo'; expected one of .*; did you mean 'show'\?"),
        (
            ["score", "--modle", "m"],
            r"score has no option --modle; expected one that 'batchsent score --help' lists; did you mean '--model'\?",
        ),
        (["score", "--modle=m"], r"no option --modle; .* did you mean '--model'\?"),
        (["score", "--text_column", "m"], r"did you mean '--text-column'\?"),
        (["--verson"], r"batchsent has no option --verson; .* did you mean '--version'\?"),
        (["evaluate", "x.csv", "--label-colum", "l"], r"batchsent evaluate has no option .* '--label-column'\?"),
        (["models", "show", "embedded", "--txt", "a"], r"batchsent models show has no option .* '--text'\?"),
        (["score", "--zzzzzz"], r"no option --zzzzzz; expected one that 'batchsent score --help' lists; leave it out"),
        (
            ["score", *HERE, "--precision", "fp61"],
            r"--precision is 'fp61'; expected one of auto, fp32, .*; did you mean 'fp16'\?",
        ),
        (["score", *HERE, "--backend", "OpenVino"], r"did you mean 'openvino'\?"),
        (["score", *HERE, "--engine", "zzz"], r"--engine is 'zzz'; expected one of local, ray; choose one"),
        (["score", *HERE, "--config", "job.toml"], r"--batching is 'paded'; expected one of .* mean 'padded'\?"),
        (["completion", "fihs"], r"SHELL is 'fihs'; expected one of bash, zsh, fish; did you mean 'fish'\?"),
        (
            ["score", *HERE, "--text-column", "reveiw"],
            r"column 'reveiw' is not in x.csv \(it has: id, review, stars\); did you mean --text-column 'review'\?",
        ),
        (["score", *HERE, "--text-column", "review", "--keep", "star"], r"did you mean --keep 'stars'\?"),
        (["init", "x.csv", "--text-column", "Reveiw"], r"did you mean --text-column 'review'\?"),
    ],
)
def test_one_line_says_what_may_have_been_meant(run: Run, here: Path, arguments: list[str], line: str) -> None:
    (here / "job.toml").write_text('batching = "paded"', encoding="utf-8")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert is_one_error(err)
    assert re.search(line, err), err
    assert not (here / "o/_batchsent/config.json").exists()


def test_of_very_many_columns_some_are_listed_and_the_nearest_is_found(run: Run, here: Path) -> None:
    names = [f"column_{number}" for number in range(5000)] + ["review"]
    (here / "x.csv").write_text(",".join(names) + "\n", encoding="utf-8")
    _, _, err = run("score", *HERE, "--text-column", "reveiw")
    assert is_one_error(err)
    assert len(err) < 600
    assert "column_19, …); did you mean --text-column 'review'?" in err


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("embeded", 2, "(or did you mean 'embedded'?)"),
        ("./models/tiny-bret", 2, "did you mean 'models/tiny-bert'?"),
        ("./modles/tiny-bert", 2, "did you mean 'models/tiny-bert'?"),
        ("modles/tiny-bret", 2, "(or did you mean 'models/tiny-bert'?)"),
        ("google/flan-t5-smal", 2, "(or did you mean 'google/flan-t5-small'?)"),
        ("flan-t5-smal", 2, "(or did you mean 'google/flan-t5-small'?)"),
        ("./models/other", 2, "./models/other is not a directory; expected 'embedded'"),
        ("zzzzzz", 2, "fetch it once without HF_HUB_OFFLINE\n"),
    ],
)
@pytest.mark.parametrize("command", ["score", "models"])
def test_a_misspelt_model(run: Run, here: Path, command: str, name: str, code: int, says: str) -> None:
    for folder in ("models/tiny-bert", "models/not-a-model"):
        (here / folder).mkdir(parents=True)
    (here / "models/tiny-bert/config.json").touch()
    (here / "hub/models--google--flan-t5-small").mkdir(parents=True)
    options = ["score", *HERE, "--text-column", "review", "--model", name]
    found, out, err = run(*(options if command == "score" else ["models", "show", name]))
    assert (found, out) == (code, "")
    assert is_one_error(err)
    assert says in err
