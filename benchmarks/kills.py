"""Killed with SIGKILL at random moments after the first part and run again: is anything lost or different?

    python benchmarks/kills.py [--kills 20] [--rows 30000]

A random model of BERT's kind, small enough that a run takes seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from common import review_texts, save, write_csv


def main() -> None:
    """Compare the directory after kills with that of a run that nobody interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=30_000)
    arguments = parser.parse_args()
    chooser = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = write_csv(root / "reviews.csv", review_texts(arguments.rows, words=(1, 60)))
        model = _tiny_model(root / "tiny")
        began = time.monotonic()
        if _start(source, model, root / "whole").wait() != 0:
            raise SystemExit("the uninterrupted run failed")
        seconds = time.monotonic() - began
        output, counts = root / "killed", {"kills": 0, "touched_parts": 0, "finished_before_the_kill": 0, "runs": 0}
        differing: set[str] = set()
        while counts["kills"] < arguments.kills:
            _kill_once(source, model, output, chooser, counts)
            if (output / "_SUCCESS").exists():
                differing |= _differences(root / "whole", output)
                shutil.rmtree(output)
        if output.exists():
            if _start(source, model, output).wait() != 0:
                raise SystemExit("the last run failed")
            differing |= _differences(root / "whole", output)
            leftovers = len(list((output / "_batchsent/tmp").iterdir()))
        else:
            leftovers = 0
    save(
        "kills",
        {"rows": arguments.rows, "uninterrupted_seconds": seconds, **counts}
        | {"differing_files": sorted(differing), "temporary_files_left": leftovers},
    )


def _kill_once(source: Path, model: Path, output: Path, chooser: random.Random, counts: dict[str, int]) -> None:
    """Kill a run after it committed a random number of parts more, at a random moment of the next one."""
    before = _parts(output)
    process = _start(source, model, output)
    counts["runs"] += 1
    wanted = len(before) + chooser.randint(1, 4)
    while process.poll() is None and len(_parts(output)) < wanted:
        time.sleep(0.001)
    time.sleep(chooser.random() * 0.2)
    if process.poll() is not None:
        counts["finished_before_the_kill"] += 1
        return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    counts["kills"] += 1
    after = _parts(output)
    if not (output / "_SUCCESS").exists():  # after it, the parts are removed
        counts["touched_parts"] += sum(after.get(path) != stamp for path, stamp in before.items())


def _parts(output: Path) -> dict[str, int]:
    found = {}
    for path in output.glob("_batchsent/parts/*/*.parquet"):
        try:
            found[str(path)] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def _differences(one: Path, other: Path) -> set[str]:
    """Names whose bytes differ, among all that a finished directory promises."""
    private = {"runs", "digests.json", "lock", "tmp"}

    def content(root: Path) -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file())
        names = {path.relative_to(root): path for path in files}
        return {str(name): path.read_bytes() for name, path in names.items() if not private & set(name.parts)}

    first, second = content(one), content(other)
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


def _start(source: Path, model: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "batchsent", "score", str(source), "--output", str(output), "--device", "cpu"]
    command += ["--model", str(model), "--rows-per-part", "500", "--progress", "none"]
    return subprocess.Popen(command, start_new_session=True)


def _tiny_model(directory: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    main()
