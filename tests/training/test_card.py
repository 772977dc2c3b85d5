"""A card says what a model was made of, and no text; pictures are the same bytes for the same numbers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from batchsent.reporting.drawing import drawn
from batchsent.training.grid import Point, Result, best_of, result_of
from batchsent.training.pictures import curves, heat_map
from trainings import Train


def result(rate: float = 1e-4, size: int = 16, accuracy: float = 0.8, loss: float = 0.5) -> Result:
    history: list[dict[str, Any]] = [
        {"step": 5, "epoch": 0.5, "loss": 0.7},
        {"step": 10, "epoch": 1.0, "eval_loss": loss + 0.1, "eval_accuracy": accuracy - 0.1, "eval_runtime": 1.0},
        {"step": 20, "epoch": 2.0, "eval_loss": loss, "eval_accuracy": accuracy, "eval_counts": [[1, 0], [0, 1]]},
        {"step": 20, "elapsed_seconds": 3.0},
    ]
    return result_of(Point(rate, size), history, None, multi_label=False)


def test_a_result_is_the_best_evaluation_and_survives_its_file() -> None:
    found = result()
    assert (found.step, found.epoch, found.seconds, found.checkpoint) == (20, 2.0, 3.0, "checkpoint-20")
    assert found.metrics == {"loss": 0.5, "accuracy": 0.8, "counts": [[1, 0], [0, 1]]}
    assert Result.from_json(found.to_json()) == found


def test_of_equal_results_the_one_with_the_lower_loss_is_the_best() -> None:
    results = [result(loss=0.5), result(size=32, loss=0.4), result(size=8, accuracy=0.9, loss=float("nan"))]
    assert best_of(results, multi_label=False) is results[1]
    assert best_of(results[:1], multi_label=False) is results[0]


def test_pictures_are_the_same_for_the_same_numbers() -> None:
    grid = [result(rate, size, rate * size) for rate in (1e-4, 1e-3) for size in (8, 16)]
    for make in (partial(curves, result(), multi_label=False), partial(heat_map, grid, multi_label=False)):
        for form, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
            first, second = drawn(make(), form), drawn(make(), form)
            assert first == second
            assert first.startswith(start)
    svg = drawn(heat_map(grid, multi_label=False), "svg").decode()
    assert "0.0160" in svg
    assert "batch size" in svg


def test_a_card_says_what_was_done_and_no_text(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    finished = train()
    card = (tmp_path / "model/README.md").read_text()
    settings = finished.settings
    for found in (
        settings.data_sha256,
        settings.fingerprint,
        settings.input_files["reviews.csv"],
        settings.base_files["model.safetensors"],
        f"{finished.summary['metrics']['accuracy']:.4f}",
        "128 (",
        "1 thread",
        "transformers 5",
        "--max-length 32",
        "![learning curves](curves.svg)",
    ):
        assert found in card, found
    assert str(tmp_path) not in card
    for line in reviews_csv.read_text().splitlines()[1:]:
        assert line.rpartition(",")[0] not in card


def test_names_from_outside_do_not_break_the_tables(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "a|b`c.csv"
    path.write_bytes(reviews_csv.read_bytes())
    train(path, map=("NEGATIVE=no|`way`", "POSITIVE=yes"), epochs=1)
    card = (tmp_path / "model/README.md").read_text()
    assert "`a\\|b'c.csv`" in card
    assert "`no\\|'way'`" in card
