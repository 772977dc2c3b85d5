"""The loop that stands in the documentation learns too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from support import write_csv
from trainings import labelled

LOOP = Path(__file__).parents[2] / "examples/training_loop.py"


def test_the_loop_learns(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specification = importlib.util.spec_from_file_location("training_loop", LOOP)
    assert specification is not None
    assert specification.loader is not None
    loop = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loop)
    texts, labels = labelled(200)
    model, accuracy = loop.train(texts, labels, str(base), epochs=4, batch_size=8, learning_rate=3e-3)
    assert accuracy > 0.9
    assert model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    path = write_csv(tmp_path / "r.csv", texts, label=labels)
    monkeypatch.setattr(sys, "argv", ["training_loop.py", str(path), "--base", str(base), "--limit", "40"])
    loop.main()
    assert "epoch 2: accuracy" in capsys.readouterr().out
