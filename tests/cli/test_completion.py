"""Tab: in a real bash, and by what every shell's script asks and is answered."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchsent.cli import COMMANDS

from .conftest import Run, is_one_error

SHELLS = ["bash", "zsh", "fish"]
HEAVY = ["torch", "transformers", "pyarrow", "polars", "numpy", "tokenizers", "huggingface_hub"]
_SECONDS = 30


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a 'batchsent' for the PATH, and some files."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub/models--google--flan-t5-small").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/batchsent"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchsent "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "work/my-dumps").mkdir(parents=True)
    (tmp_path / "work/my-reviews.csv").touch()
    return tmp_path


def environment(here: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", "INPUTRC": os.devnull}


# --- the script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(run: Run, shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert f"_BATCHSENT_COMPLETE={shell}_complete" in out


def test_the_scripts_are_programs_of_the_shells_that_are_here(run: Run, tmp_path: Path) -> None:
    here = [shell for shell in SHELLS if shutil.which(shell)]
    assert "bash" in here
    for shell in here:
        script = tmp_path / shell
        script.write_text(run("completion", shell)[1], encoding="utf-8")
        done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), shell


@pytest.mark.parametrize("arguments", [["tcsh"], ["powershell"], []])
def test_another_shell_is_one_line_that_names_those_that_there_are(run: Run, arguments: list[str]) -> None:
    code, out, err = run("completion", *arguments)
    assert (code, out) == (2, "")
    assert is_one_error(err)
    assert "bash, zsh, fish" in err


# --- a real bash, typed into


@pytest.fixture
def typed(here: Path) -> Callable[[str], str]:
    """What the command line has become after these keys."""
    script = subprocess.run(
        [here / "bin/batchsent", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    start = here / "bashrc"
    start.write_text(f"{script}\nPS1='READY> '\nbind 'set enable-bracketed-paste off'\n", encoding="utf-8")

    def type_it(keys: str) -> str:
        ours, theirs = pty.openpty()
        command = ["bash", "--noprofile", "--rcfile", str(start), "-i"]
        process = subprocess.Popen(
            command,
            cwd=here / "work",
            env=environment(here),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            _read_until(ours, "READY> ")
            # To the beginning of the line and to its end: the line becomes an argument.
            os.write(ours, f"{keys}\x01printf '[%s]\\n' '\x05'\r".encode())
            return _read_until(ours, r"\n\[(.*?)\]\r?\n")[1]
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    return type_it


def _read_until(descriptor: int, pattern: str) -> re.Match[str]:
    seen, deadline = "", time.monotonic() + _SECONDS
    while (found := re.search(pattern, seen)) is None:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 0.1)[0]:
            seen += os.read(descriptor, 4096).decode("utf-8", "replace")
    return found


@pytest.mark.process
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("batchsent sta\t", "batchsent status "),
        ("batchsent models sh\t", "batchsent models show "),
        ("batchsent score --text\t", "batchsent score --text-column "),
        ("batchsent score --precision fp32\t", "batchsent score --precision fp32 "),
        ("batchsent score --long-text w\t", "batchsent score --long-text window "),
        ("batchsent score --long-text=w\t", "batchsent score --long-text=window "),
        ("batchsent score --long-text=window --aud\t", "batchsent score --long-text=window --audit "),
        ("batchsent completion=\t", "batchsent completion="),
        ("batchsent score my-r\t", "batchsent score my-reviews.csv "),
        ("batchsent score my-reviews.csv --output my-\t", "batchsent score my-reviews.csv --output my-dumps/"),
        ("batchsent status my-\t", "batchsent status my-dumps/"),
        ("batchsent score --model emb\t", "batchsent score --model embedded "),
        ("batchsent score --model goo\t", "batchsent score --model google/flan-t5-small "),
        ("batchsent score --model my\t", "batchsent score --model my-dumps/"),
        ("batchsent completion f\t", "batchsent completion fish "),
        ("batchsent score --debug --text-c\t", "batchsent score --debug --text-column "),
    ],
)
def test_tab_in_bash(typed: Callable[[str], str], keys: str, line: str) -> None:
    assert typed(keys) == line


# --- what the scripts ask, and are answered


def answered(here: Path, shell: str, words: list[str]) -> list[tuple[str, str]]:
    """(kind, value) of each answer; ``words`` after 'batchsent', the last one incomplete."""
    asked = {"_BATCHSENT_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(["batchsent", *words])}
    asked["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words))
    done = subprocess.run(
        [here / "bin/batchsent"],
        env=environment(here) | asked,
        cwd=here / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines() if done.stdout.strip() else []
    if shell == "zsh":  # three lines each
        return list(zip(lines[::3], (value.replace("\\:", ":") for value in lines[1::3]), strict=True))
    pairs = [line.partition("\t")[0].partition(",") for line in lines]
    return [(kind, value) for kind, _, value in pairs]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], [("plain", name) for name in COMMANDS]),
        (["ver"], [("plain", "verify")]),
        (["score", "--win"], [("plain", "--window-overlap"), ("plain", "--window-aggregate")]),
        (["score", "--window-aggregate", "m"], [("plain", "mean"), ("plain", "max")]),
        (["score", "--threads", "a"], [("plain", "auto")]),
        (["score", "--device", "c"], [("plain", "cpu"), ("plain", "cuda")]),
        (["score", "dump"], [("file", "dump")]),
        (["score", "a.csv", "dump"], [("file", "dump")]),
        (["score", "--output", "x"], [("dir", "x")]),
        (["score", "--config", "x"], [("file", "x")]),
        (["score", "--calibration", "x"], [("file", "x")]),
        (["score", "--config", "no-such.toml", "--model", "x"], [("dir", "x")]),
        (["finetune", "--base-model", "emb"], [("dir", "emb"), ("plain", "embedded")]),
        (["models", "show", "goo"], [("dir", "goo"), ("plain", "google/flan-t5-small")]),
        (["init", "--output", "x"], [("file", "x")]),
        (["verify", "x"], [("dir", "x")]),
        (["doctor", "--tune", "x"], [("file", "x")]),
        (["nope", "x"], []),
    ],
)
def test_what_is_answered(here: Path, shell: str, words: list[str], expected: list[tuple[str, str]]) -> None:
    found = answered(here, shell, words)
    # zsh's script passes over an empty word, and then takes the rest for something else: folders come last there.
    assert found == (sorted(expected, key=lambda item: item[0] != "plain") if shell == "zsh" else expected)


@pytest.mark.parametrize(
    ("shell", "value"), [("bash", "window"), ("zsh", "--long-text=window"), ("fish", "--long-text=window")]
)
def test_an_option_that_is_one_word_with_its_value(here: Path, shell: str, value: str) -> None:
    words = ["score", "--long-text", "=", "w"] if shell == "bash" else ["score", "--long-text=w"]
    assert answered(here, shell, words) == [("plain", value)]


@pytest.mark.parametrize("words", ["", "score --", "score --precision ", "score --config job.toml --", "evaluate --"])
def test_tab_loads_nothing_heavy(tmp_path: Path, words: str) -> None:
    (tmp_path / "job.toml").write_text('model = "embedded"', encoding="utf-8")
    program = (
        "import atexit, json, sys\n"
        f"atexit.register(lambda: print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr))\n"
        "from batchsent.cli import main\nmain()"
    )
    asked = {"_BATCHSENT_COMPLETE": "bash_complete", "COMP_WORDS": f"batchsent {words}"}
    asked["COMP_CWORD"] = str(len(f"batchsent {words}".split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | asked,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout
    assert json.loads(done.stderr) == []
