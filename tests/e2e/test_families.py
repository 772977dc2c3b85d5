"""Runs with models that write text, with windows, with a temperature: one schema, rejects, resume, settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchsent.calibration import Calibration
from batchsent.errors import SettingsChangedError, UsageError
from batchsent.models.resolution import resolve_model, sha256_of
from batchsent.reporting.run_report import RunReport
from faults.inline import KillAfter, KilledError
from support import published, rows, write_csv
from writers import make_gpt2, make_llama, make_t5

Score = Callable[..., RunReport]
Reviews = Callable[[int], list[str]]


@pytest.fixture(scope="module", params=[make_t5, make_gpt2, make_llama])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = request.param(tmp_path_factory.mktemp("writer") / "model")
    return directory


def settings_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "_batchsent/config.json").read_bytes())
    return found


def test_a_model_that_writes_gives_what_every_model_gives(
    score: Score, tmp_path: Path, reviews: Reviews, writer: Path
) -> None:
    texts = [*reviews(60), " ", "good " * 300]
    path = write_csv(tmp_path / "r.csv", texts, id=list(range(62)))
    score(path, output=tmp_path / "plain", keep=("id",))
    score(path, output=tmp_path / "out", model=str(writer), keep=("id",))
    scored, plain = rows(tmp_path / "out/r.parquet"), rows(tmp_path / "plain/r.parquet")
    assert [list(row) for row in scored] == [list(row) for row in plain]
    assert [row["id"] for row in scored] == [str(i) for i in range(62) if i != 60]
    assert scored[-1]["truncated"]
    for row in scored:
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    [reject] = rows(tmp_path / "out/_batchsent/rejects/r.parquet")
    assert (reject["row_index"], reject["reason"]) == (60, "empty_text")
    settings = settings_of(tmp_path / "out")
    assert (settings["labels"], settings["backend"]) == (["NEGATIVE", "POSITIVE"], "torch")
    assert "{text}" in settings["prompt"]


def test_interrupted_or_not(score: Score, tmp_path: Path, reviews: Reviews, writer: Path) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(80))
    options = {"model": str(writer), "rows_per_part": 30, "calibrate_prompt": True}
    score(path, output=tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        score(path, output=tmp_path / "out", progress=KillAfter(1), **options)
    assert score(path, output=tmp_path / "out", **options).part_count < 3
    assert published(tmp_path / "out") == published(tmp_path / "whole")


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("prompt", "sentiment-zh", "prompt: "),
        ("verbalizer", ("NEGATIVE=awful", "POSITIVE=great"), "verbalizer: NEGATIVE=negative,POSITIVE=positive → "),
        ("calibrate_prompt", True, "calibrate-prompt: False → True"),
        ("task", "sequence-classification", "task: causal → sequence-classification"),
        ("long_text", "window", "long-text: truncate → window"),
    ],
)
def test_settings_of_a_prompt_are_those_of_the_run(
    score: Score, tmp_path: Path, reviews: Reviews, option: str, value: Any, named: str
) -> None:
    model = str(make_gpt2(tmp_path / "m"))
    path = write_csv(tmp_path / "r.csv", reviews(5))
    score(path, output=tmp_path / "out", model=model)
    assert score(path, output=tmp_path / "out", model=model, prompt="sentiment").state == "nothing to do"
    with pytest.raises(SettingsChangedError, match="other settings") as refused:
        score(path, output=tmp_path / "out", model=model, **{option: value})
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"batching": "packed"}, "--batching packed for a"),
        ({"backend": "openvino"}, "--backend openvino for a"),
        ({"precision": "int8"}, "--precision int8 for a"),
        ({"precision": "fp16"}, "precision fp16"),
    ],
)
def test_what_a_model_that_writes_cannot_have(
    score: Score, tmp_path: Path, reviews: Reviews, writer: Path, options: dict[str, Any], found: str
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(3))
    with pytest.raises(UsageError, match=found):
        score(path, output=tmp_path / "out", model=str(writer), **({"backend": "auto"} | options))
    assert not (tmp_path / "out/_batchsent/config.json").exists()


# --- windows


def test_windows_of_a_long_text(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    texts = [*reviews(40), "good film " * 200, "bad"]
    path = write_csv(tmp_path / "r.csv", texts)
    score(path, output=tmp_path / "cut")
    score(path, output=tmp_path / "out", long_text="window", max_length=32)
    scored = rows(tmp_path / "out/r.parquet")
    assert [row["row_index"] for row in scored] == list(range(42))
    assert not any(row["truncated"] for row in scored)
    assert scored[41]["window_count"] == 1
    # 30 of 400 tokens a window, 8 of them shared: the first, 16 more, and the last.
    assert scored[40]["window_count"] == 1 + -(-(400 - 30) // 22)
    settings = settings_of(tmp_path / "out")
    assert (settings["window_overlap"], settings["window_aggregate"]) == (8, "mean")
    short = [i for i, row in enumerate(scored) if row["window_count"] == 1]
    cut = rows(tmp_path / "cut/r.parquet")
    assert len(short) > 10
    np.testing.assert_allclose(
        [list(scored[i]["probabilities"].values()) for i in short],
        [list(cut[i]["probabilities"].values()) for i in short],
        atol=1e-5,
    )


def test_the_largest_of_the_windows(score: Score, tmp_path: Path) -> None:
    text = "good " * 30 + "bad " * 30
    path = write_csv(tmp_path / "r.csv", [text, "good " * 30, "bad " * 30])
    options: dict[str, Any] = {"long_text": "window", "max_length": 32, "window_overlap": 0}
    score(path, output=tmp_path / "max", window_aggregate="max", **options)
    score(path, output=tmp_path / "mean", window_aggregate="mean", **options)
    for name, combine in (("max", np.max), ("mean", np.mean)):
        whole, *parts = ([*row["probabilities"].values()] for row in rows(tmp_path / name / "r.parquet"))
        wanted = combine(np.array(parts), axis=0)
        np.testing.assert_allclose(whole, wanted / wanted.sum(), atol=1e-5)


def test_windows_interrupted_or_not(score: Score, tmp_path: Path, reviews: Reviews) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(160))
    options: dict[str, Any] = {"long_text": "window", "max_length": 16, "rows_per_part": 50}
    score(path, output=tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        score(path, output=tmp_path / "out", progress=KillAfter(2), **options)
    score(path, output=tmp_path / "out", **options)
    assert published(tmp_path / "out") == published(tmp_path / "whole")


def test_windows_need_to_be_asked_for(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["x"])
    with pytest.raises(UsageError, match="--window-overlap with --long-text truncate"):
        score(path, output=tmp_path / "out", window_overlap=4)


# --- temperature


def calibration(path: Path, model: Path, temperature: float, asked: str | None = None) -> str:
    version = resolve_model(str(model), None, sha256_of).version
    path.write_bytes(Calibration(temperature, "tiny", version, asked, 10).to_json())
    return str(path)


def test_a_temperature_moves_probabilities_and_no_label(
    score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(50))
    score(path, output=tmp_path / "plain")
    file = calibration(tmp_path / "calibration.json", tiny_model, 2.5)
    score(path, output=tmp_path / "out", calibration=file)
    plain, found = rows(tmp_path / "plain/r.parquet"), rows(tmp_path / "out/r.parquet")
    assert [row["label"] for row in found] == [row["label"] for row in plain]
    logits = np.log([[*row["probabilities"].values()] for row in plain]) / 2.5
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose([[*row["probabilities"].values()] for row in found], wanted, atol=1e-5)
    assert settings_of(tmp_path / "out")["temperature"] == 2.5
    assert score(path, output=tmp_path / "out", calibration=file).state == "nothing to do"
    with pytest.raises(SettingsChangedError, match=r"temperature 2\.5 → none"):
        score(path, output=tmp_path / "out")


def test_a_temperature_is_for_the_model_that_it_was_fitted_to(
    score: Score, tmp_path: Path, reviews: Reviews, tiny_model: Path
) -> None:
    path = write_csv(tmp_path / "r.csv", reviews(5))
    file = calibration(tmp_path / "calibration.json", make_gpt2(tmp_path / "m"), 2.5)
    with pytest.raises(UsageError, match="was fitted to tiny"):
        score(path, output=tmp_path / "out", calibration=file)


def test_a_temperature_is_for_the_prompt_that_it_was_fitted_with(
    score: Score, tmp_path: Path, reviews: Reviews
) -> None:
    path, model = write_csv(tmp_path / "r.csv", reviews(5)), make_gpt2(tmp_path / "m")
    file = calibration(tmp_path / "calibration.json", model, 2.5, "{text} → bad, good")
    words = ("A=bad", "B=good")
    score(path, output=tmp_path / "out", model=str(model), prompt="{text} ", verbalizer=words)
    with pytest.raises(UsageError, match="was fitted with the prompt"):
        score(path, output=tmp_path / "other", model=str(model), verbalizer=words, calibration=file)
    score(path, output=tmp_path / "same", model=str(model), prompt="{text}", verbalizer=words, calibration=file)
    assert settings_of(tmp_path / "same")["temperature"] == 2.5


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"temperature": 0, "model": "", "model_version": "", "asked": null, "row_count": 1}']
)
def test_what_is_no_calibration_is_refused(score: Score, tmp_path: Path, content: str) -> None:
    path = write_csv(tmp_path / "r.csv", ["x"])
    (tmp_path / "c.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="is not a calibration"):
        score(path, output=tmp_path / "out", calibration=str(tmp_path / "c.json"))


def test_a_calibration_that_is_not_there(score: Score, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["x"])
    with pytest.raises(UsageError, match="cannot be read"):
        score(path, output=tmp_path / "out", calibration=str(tmp_path / "none.json"))
