"""Real processes: killed, interrupted, misused. What cron sees."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import batchsent
from batchsent.reporting.run_report import RunReport
from support import cache_model, published, rows, write_csv

pytestmark = pytest.mark.process

Reviews = Callable[[int], list[str]]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tiny_model: Path) -> Start:
    """Start ``batchsent score`` with the tiny model in a process group of its own."""

    def run(*arguments: str | Path) -> subprocess.Popen[str]:
        options = ["--model", tiny_model, "--precision", "fp32", "--rows-per-part", "100"]
        options += ["--device", "cpu", "--backend", "torch"]
        command = [sys.executable, "-m", "batchsent", "score", *map(str, options), *map(str, arguments)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return run


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr."""
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def wait_for_parts(output: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many parts are committed, or the process is over."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if sum(1 for _ in output.glob("_batchsent/parts/*/*.parquet")) >= count:
            return
        time.sleep(0.002)


def test_killed_at_random_moments_and_run_again(start: Start, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "r.csv", reviews(6000), id=list(range(6000)))
    assert finish(start(source, "--output", tmp_path / "whole", "--keep", "id"))[0] == 0
    out, chooser = tmp_path / "out", random.Random(7)
    for _ in range(3):
        process = start(source, "--output", out, "--keep", "id")
        before = sum(1 for _ in out.glob("_batchsent/parts/*/*.parquet"))
        wait_for_parts(out, before + chooser.randint(1, 15), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert finish(start(source, "--output", out, "--keep", "id"))[0] == 0
    assert published(out) == published(tmp_path / "whole")
    assert not list((out / "_batchsent/tmp").iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_stops_at_a_clean_point(
    start: Start, tmp_path: Path, reviews: Reviews, number: signal.Signals, code: int, to_group: bool
) -> None:
    source, out = write_csv(tmp_path / "r.csv", reviews(20_000)), tmp_path / "out"
    process = start(source, "--output", out)
    wait_for_parts(out, 2, process)
    began = time.monotonic()
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    found, errors = finish(process)
    assert time.monotonic() - began < 10
    assert found == code, errors
    assert f"stopped by {number.name}" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    record = json.loads(max(out.glob("_batchsent/runs/*.json")).read_bytes())
    assert record["state"] == "stopped"
    assert record["part_count"] >= 2
    assert not (out / "_SUCCESS").exists()


def test_a_killed_job_leaves_no_process(start: Start, tmp_path: Path, reviews: Reviews) -> None:
    source, out = write_csv(tmp_path / "r.csv", reviews(20_000)), tmp_path / "out"
    process = start(source, "--output", out)
    wait_for_parts(out, 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2, "a reader and a tokenizer"
    process.kill()  # it alone, as the kernel's out-of-memory killer does
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize("role", ["reader", "tokenizer"])
def test_a_killed_helper_is_temporary(start: Start, tmp_path: Path, reviews: Reviews, role: str) -> None:
    # Parts whose batches are more than a pipe holds: the tokenizer dies with half of them sent.
    source, out = write_csv(tmp_path / "r.csv", reviews(20_000)), tmp_path / "out"
    process = start(source, "--output", out, "--rows-per-part", "1000", "--workers", "2")
    wait_for_parts(out, 2, process)
    children = psutil.Process(process.pid).children(recursive=True)
    readers = [child for child in children if any("stages.reader" in word for word in child.cmdline())]
    victim = readers[0] if role == "reader" else next(child for child in children if child not in readers)
    victim.kill()
    code, errors = finish(process)
    assert code == 75, errors
    assert f"a {role} process was killed" in errors or f"the {role} was killed" in errors
    assert "Traceback" not in errors


def test_nothing_is_imported_from_the_folder_of_the_data(start: Start, tmp_path: Path, tiny_model: Path) -> None:
    write_csv(tmp_path / "r.csv", ["good"])
    (tmp_path / "csv.py").write_text("raise SystemExit('imported from the data folder')", encoding="utf-8")
    code = "from batchsent.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, "score", "r.csv", "--output", "out", "--model", str(tiny_model)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "| true"])
def test_nobody_listens(tmp_path: Path, tiny_model: Path, redirection: str) -> None:
    write_csv(tmp_path / "r.csv", ["good"])
    line = f"{sys.executable} -m batchsent score r.csv --output out --model {tiny_model} {redirection}"
    result = subprocess.run(
        ["bash", "-c", line + "; exit ${PIPESTATUS[0]}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/_SUCCESS").exists()
    assert "Exception ignored" not in result.stderr


def test_a_model_of_the_hub_from_its_cache(tmp_path: Path, tiny_model: Path) -> None:
    commit, cache = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    cache_model(cache, "distilbert/distilbert-base-uncased-finetuned-sst-2-english", commit, tiny_model)
    write_csv(tmp_path / "r.csv", ["good film", "bad film"])
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    bare = "distilbert-base-uncased-finetuned-sst-2-english"
    for name, state in ((bare, "published"), (f"distilbert/{bare}", "nothing to do")):
        command = [sys.executable, "-m", "batchsent", "score", "r.csv", "--output", "out", "--model", name]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert state in result.stdout
    config = json.loads((tmp_path / "out/_batchsent/config.json").read_bytes())
    assert (config["model"], config["revision"]) == (f"distilbert/{bare}", commit)


def test_json_log_lines(start: Start, tmp_path: Path, reviews: Reviews) -> None:
    source = write_csv(tmp_path / "r.csv", reviews(300))
    process = start(source, "--output", tmp_path / "out", "--log-format", "json", "--progress", "log")
    code, errors = finish(process)
    assert code == 0
    entries = [json.loads(line) for line in errors.splitlines()]
    record = json.loads(next(tmp_path.glob("out/_batchsent/runs/*")).read_bytes())
    assert {entry["run_id"] for entry in entries} == {record["run_id"]}
    assert entries[0]["message"].startswith("scoring 1 shard with tiny-bert by torch on cpu: precision fp32")
    assert entries[-1]["summary"]["record_count"] == 300


def test_nothing_to_do_loads_no_model(start: Start, tmp_path: Path, tiny_model: Path) -> None:
    source, out = write_csv(tmp_path / "r.csv", ["good"]), tmp_path / "out"
    assert finish(start(source, "--output", out))[0] == 0
    code = (
        "import sys; from batchsent.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'\n"
    )
    options = ("--model", str(tiny_model), "--precision", "fp32", "--rows-per-part", "100")
    again = [sys.executable, "-c", code, "score", str(source), "--output", str(out), *options]
    result = subprocess.run(again, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.csv"], 2, "missing.csv does not exist"),
        (["r.csv", "--text-column", "txt"], 2, "column 'txt' is not in r.csv (it has: text, id); did you mean"),
        (["r.csv", "--model", "./no-such-model"], 2, "./no-such-model is not a directory"),
        (["r.csv", "--device", "cuda:9"], 2, "--device cuda:9"),
        (["r.csv", "--metrics-file", "none/m.prom"], 2, "--metrics-file none/m.prom: none is not a directory"),
        (["r.csv", "--config", "bad.toml"], 2, "bad.toml is not TOML"),
        (["r.csv", "--no-such-option"], 2, "has no option --no-such-option"),
        (["broken.parquet"], 3, "1 of 1 shards failed (broken.parquet is not readable as Parquet"),
        (["abfs://bucket/key.csv"], 2, "INPUT is a abfs:// URI; expected a path on this machine"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    write_csv(tmp_path / "r.csv", ["good"], id=[1])
    (tmp_path / "bad.toml").write_text("text-column = [", encoding="utf-8")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    command = [sys.executable, "-m", "batchsent", "score", "--output", "out", "--progress", "none", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.stderr


def test_a_file_that_kills_its_parser_fails_alone(
    score: Callable[..., RunReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "in/a.csv", ["good"] * 10)
    (tmp_path / "in/b.jsonl").write_text('{"text": "bad"}\n', encoding="utf-8")
    write_csv(tmp_path / "in/c.csv", ["fine"] * 10)
    # The reader is a fresh interpreter, so a module that is found first there stands for a crash in native code.
    fault = tmp_path / "fault"
    fault.mkdir()
    (fault / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if any('batchsent.stages.reader' in word for word in sys.orig_argv):\n"
        "    import batchsent.stages.reader.shards as shards\n"
        "    read = shards.read_jsonlines\n"
        "    def crash(*a, **k): os.kill(os.getpid(), 11)\n"
        "    shards.read_jsonlines = crash\n",
        encoding="utf-8",
    )
    root = Path(batchsent.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{fault}:{root}")
    with pytest.raises(
        Exception, match=r"1 of 3 shards failed \(reading b\.jsonl killed the reader \(signal SIGSEGV\)"
    ):
        score(tmp_path / "in", output=tmp_path / "out")
    assert len(rows(tmp_path / "out/a.parquet")) == len(rows(tmp_path / "out/c.parquet")) == 10
