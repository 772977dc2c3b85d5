"""From labelled texts to a directory that score loads; what cannot be right is refused, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.config import ScoreConfig
from batchsent.errors import (
    IncompleteError,
    InputError,
    LockedError,
    ModelError,
    SettingsChangedError,
    StoppedError,
    UsageError,
)
from batchsent.job import run_job
from batchsent.stop import StopSignal
from batchsent.storage import LocalStore
from batchsent.training import publishing, run
from support import write_csv
from trainings import Train, labelled
from writers import make_gpt2, make_llama


def scored(path: Path, model: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    """What ``batchsent score`` makes of ``path`` with a trained model."""
    defaults: dict[str, Any] = {"precision": "fp32", "threads": 1, "device": "cpu", "backend": "torch"}
    run_job(
        ScoreConfig(
            inputs=(str(path),), output=str(output), model=str(model), keep=("label=true",), **(defaults | options)
        )
    )
    rows: list[dict[str, Any]] = pl.read_parquet(output / f"{path.stem}.parquet").to_dicts()
    return rows


def test_what_was_learnt_is_what_score_says(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    finished = train(epochs=4)
    assert finished.best is not None
    assert finished.best.metrics["accuracy"] > 0.9
    fresh_texts, fresh_labels = labelled(100, seed=9)
    fresh = write_csv(tmp_path / "fresh.csv", fresh_texts, label=fresh_labels)
    rows = scored(fresh, tmp_path / "model", tmp_path / "scored", max_length=32)
    assert sum(row["label"] == row["true"] for row in rows) >= 90
    assert set(rows[0]["probabilities"]) == {"NEGATIVE", "POSITIVE"}
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"README.md", "curves.svg", "curves.png"}
    assert not (tmp_path / "model/_finetune/runs").exists()


def test_labels_may_be_numbers_that_a_map_names(train: Train, tmp_path: Path) -> None:
    texts, labels = labelled(100)
    stars = [1 if label == "NEGATIVE" else 5 for label in labels]
    stars[:10] = [3] * 10
    table = pa.table({"body": texts, "stars": pa.array(stars, pa.int8())})
    pq.write_table(table, tmp_path / "r.parquet")
    options: dict[str, Any] = {"text_column": "body", "label_column": "stars", "epochs": 1}
    finished = train(tmp_path / "r.parquet", map=("1,2=NO", "4,5=YES"), **options)
    assert (finished.labels, finished.summary["training_count"]) == (("NO", "YES"), 72)
    assert "10 not named by --map" in (tmp_path / "model/README.md").read_text()
    whole = train(tmp_path / "r.parquet", output=tmp_path / "whole", **options)
    assert whole.labels == ("1", "3", "5")
    assert json.loads((tmp_path / "whole/config.json").read_bytes())["id2label"] == {"0": "1", "1": "3", "2": "5"}


def test_records_without_text_or_label_and_repeated_texts_are_left_out(train: Train, tmp_path: Path) -> None:
    texts, labels = labelled(60)
    rows: list[dict[str, Any]] = [{"text": t, "label": x} for t, x in zip(texts, labels, strict=True)]
    rows += [{"text": " ", "label": "POSITIVE"}, {"text": "good day", "label": None}, {"text": "bad day"}, rows[0]]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "r.jsonl").write_text("\n".join([*lines, "{oops"]))
    finished = train(tmp_path / "r.jsonl", epochs=1)
    assert finished.summary["training_count"] + finished.summary["validation_count"] == 60
    card = (tmp_path / "model/README.md").read_text()
    for found in ("1 without text", "2 without label", "1 repeated", "1 malformed"):
        assert found in card


def test_a_text_may_have_several_labels(train: Train, tmp_path: Path) -> None:
    texts, labels = labelled(160)
    lists = [["good"] * (x == "POSITIVE") + ["film"] * ("film" in t) for t, x in zip(texts, labels, strict=True)]
    pq.write_table(pa.table({"text": texts, "label": pa.array(lists, pa.list_(pa.string()))}), tmp_path / "r.parquet")
    finished = train(tmp_path / "r.parquet", multi_label=True, epochs=8)
    assert finished.labels == ("film", "good")
    assert finished.best is not None
    assert finished.best.metrics["f1_micro"] > 0.85
    config = json.loads((tmp_path / "model/config.json").read_bytes())
    assert config["problem_type"] == "multi_label_classification"
    both = write_csv(tmp_path / "fresh.csv", ["a great film", "an awful day"], label=["", ""])
    rows = scored(both, tmp_path / "model", tmp_path / "scored", max_length=32)
    assert rows[0]["probabilities"]["film"] > 0.5 > rows[1]["probabilities"]["film"]
    assert rows[0]["probabilities"]["good"] > 0.5 > rows[1]["probabilities"]["good"]


def test_every_pair_of_a_grid_is_trained_and_the_best_is_kept(train: Train, tmp_path: Path) -> None:
    finished = train(learning_rate=(1e-7, 3e-3), batch_size=(8, 16), epochs=3)
    assert len(finished.results) == 4
    assert finished.best is not None
    assert finished.best.point.learning_rate == 3e-3
    assert finished.best.metrics["accuracy"] == max(r.metrics["accuracy"] for r in finished.results)
    table = pl.read_csv(tmp_path / "model/grid.csv")
    assert table.columns == ["learning_rate", "batch_size", "accuracy", "loss", "epoch", "seconds"]
    assert table.height == 4
    assert (tmp_path / "model/grid.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "model/grid.png").read_bytes().startswith(b"\x89PNG")
    card = (tmp_path / "model/README.md").read_text()
    assert "## What was tried" in card
    alone = train(output=tmp_path / "alone", learning_rate=(3e-3,), batch_size=(finished.best.point.batch_size,))
    assert alone.best is not None
    assert (tmp_path / "alone/model.safetensors").read_bytes() == (tmp_path / "model/model.safetensors").read_bytes()


def test_a_grid_goes_on_with_what_is_left(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"learning_rate": (1e-3, 2e-3, 3e-3), "epochs": 1}
    stop = StopSignal()
    original = LocalStore.publish_bytes

    def publish_bytes(self: LocalStore, name: str, data: bytes, *, replace: bool = True) -> Any:
        if name.endswith("batch-8/result.json") and "0.002" in name:
            stop._handle(2, None)
        return original(self, name, data, replace=replace)

    monkeypatch.setattr(LocalStore, "publish_bytes", publish_bytes)
    with pytest.raises(StoppedError) as raised:
        train(stop=stop, **options)
    assert raised.value.exit_code == 130
    monkeypatch.undo()
    runs = tmp_path / "model/_finetune/runs"
    assert {path.name for path in runs.iterdir()} == {"lr-0.001_batch-8", "lr-0.002_batch-8"}
    assert len(list(runs.glob("*/checkpoint-*"))) == 1, "the weights of the better one"
    assert len(train(**options).results) == 3


def test_with_nothing_to_do_it_does_nothing(train: Train, tmp_path: Path) -> None:
    train()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir() if path.is_file()}
    again = train()
    assert again.results == []
    assert again.summary["metrics"]["accuracy"] > 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir() if path.is_file()}


def test_a_model_that_is_damaged_is_trained_again(train: Train, tmp_path: Path) -> None:
    train()
    weights = (tmp_path / "model/model.safetensors").read_bytes()
    (tmp_path / "model/model.safetensors").write_bytes(weights[:-1] + b"?")
    assert train().results
    assert (tmp_path / "model/model.safetensors").read_bytes() == weights


def test_other_settings_are_refused_until_told_to_restart(train: Train, tmp_path: Path) -> None:
    train(epochs=1)
    with pytest.raises(SettingsChangedError, match=r"epochs: 1 → 2.*--restart"):
        train(epochs=2)
    assert (tmp_path / "model/config.json").exists()
    finished = train(epochs=2, restart=True)
    assert (finished.settings.epochs, len(finished.results)) == (2, 1)


def test_other_data_is_noticed(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(reviews_csv.read_bytes())
    train(path, epochs=1)
    path.write_bytes(reviews_csv.read_bytes() + b"a fine day,POSITIVE\n")
    with pytest.raises(SettingsChangedError, match=r"input-files: reviews\.csv"):
        train(path, epochs=1)


def test_checkpoints_are_left_if_asked_for(train: Train, tmp_path: Path) -> None:
    train(keep_checkpoints=True)
    assert list((tmp_path / "model/_finetune/runs").glob("*/checkpoint-*/model.safetensors"))


def test_validation_texts_may_be_given(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    texts, labels = labelled(20, seed=5)
    known = reviews_csv.read_text().splitlines()[1].rpartition(",")[0]
    held = write_csv(tmp_path / "held.csv", [*texts, known, "so so"], label=[*labels, "POSITIVE", "MIXED"])
    finished = train(validation=(str(held),), epochs=1)
    assert (finished.summary["training_count"], finished.summary["validation_count"]) == (160, 20)
    card = (tmp_path / "model/README.md").read_text()
    assert "1 repeated" in card
    assert "1 of other labels" in card


def test_a_limit_is_a_sample(train: Train) -> None:
    finished = train(limit=60, epochs=1)
    assert finished.summary["training_count"] + finished.summary["validation_count"] == 60


@pytest.mark.parametrize("make", [make_gpt2, make_llama])
def test_decoders_learn_too(train: Train, reviews_csv: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    directory = make(tmp_path / "decoder")
    train(base_model=str(directory), learning_rate=(5e-3,), epochs=6)
    rows = scored(reviews_csv, tmp_path / "model", tmp_path / "scored", max_length=32)
    assert sum(row["label"] == row["true"] for row in rows) > 0.85 * len(rows)


def test_adapters_are_merged_into_a_model_that_score_loads(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    finished = train(lora_rank=8, learning_rate=(1e-2,), epochs=4)
    assert finished.best is not None
    assert finished.best.metrics["accuracy"] > 0.85
    assert not (tmp_path / "model/adapter_config.json").exists()
    rows = scored(reviews_csv, tmp_path / "model", tmp_path / "scored", max_length=32)
    assert sum(row["label"] == row["true"] for row in rows) > 0.85 * len(rows)
    assert "LoRA adapters of rank 8" in (tmp_path / "model/README.md").read_text()


def test_weights_may_be_saved_in_half_the_bytes(train: Train, reviews_csv: Path, tmp_path: Path) -> None:
    train(epochs=1)
    train(output=tmp_path / "half", weights="fp16", epochs=1)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("model", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert scored(reviews_csv, tmp_path / "half", tmp_path / "scored", max_length=32)


def test_bf16_is_autocast(train: Train, tmp_path: Path) -> None:
    finished = train(precision="bf16", epochs=1)
    assert finished.settings.precision == "bf16"
    assert json.loads((tmp_path / "model/config.json").read_bytes())["dtype"] == "float32"


# --- refusals


def refusal_of(call: Callable[[], object], kind: type[Exception], output: Path) -> str:
    with pytest.raises(kind) as raised:
        call()
    assert not (output / "_finetune/config.json").exists(), "nothing was begun"
    return str(raised.value)


def test_wrong_columns_are_refused(train: Train, tmp_path: Path) -> None:
    out = tmp_path / "model"
    message = refusal_of(lambda: train(label_column="lable"), InputError, out)
    assert "column 'lable' is not in reviews.csv" in message
    assert "--label-column" in message
    assert "'body'" in refusal_of(lambda: train(text_column="body"), InputError, out)


def test_a_column_of_texts_as_labels_is_refused_without_quoting_them(train: Train, tmp_path: Path) -> None:
    texts, _ = labelled(1_100)
    path = write_csv(tmp_path / "r.csv", texts)
    message = refusal_of(lambda: train(path, label_column="text"), InputError, tmp_path / "model")
    assert "1,100 different values" in message


def test_one_label_is_refused(train: Train, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [f"good {i}" for i in range(20)], label=["POSITIVE"] * 20)
    assert "every text has the label POSITIVE" in refusal_of(lambda: train(path), InputError, tmp_path / "model")


def test_a_label_with_one_text_is_refused(train: Train, tmp_path: Path) -> None:
    texts, labels = labelled(40)
    path = write_csv(tmp_path / "r.csv", [*texts, "so so"], label=[*labels, "MIXED"])
    message = refusal_of(lambda: train(path), InputError, tmp_path / "model")
    assert "of 1 text with the label MIXED there is none to" in message


def test_no_labelled_text_is_refused(train: Train, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", ["good", ""], label=["", "A"])
    message = refusal_of(lambda: train(path), InputError, tmp_path / "model")
    assert "1 without label" in message
    assert "1 without text" in message


def test_a_text_without_an_input_is_refused(train: Train, tmp_path: Path) -> None:
    refusal_of(lambda: train(tmp_path / "none.csv"), InputError, tmp_path / "model")


def test_a_model_from_elsewhere_is_not_overwritten(train: Train, base: Path) -> None:
    with pytest.raises(UsageError, match="a model that was not trained there"):
        train(output=base)


def test_settings_that_are_damaged_are_said(train: Train, tmp_path: Path) -> None:
    train(epochs=1)
    (tmp_path / "model/_finetune/config.json").write_text("{}")
    with pytest.raises(UsageError, match="damaged or of another version"):
        train(epochs=1)


def test_no_model_is_refused(train: Train, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refusal_of(lambda: train(base_model=str(tmp_path / "empty")), ModelError, tmp_path / "model")


def test_a_second_run_is_kept_out(train: Train, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "model", publishing.INTERNAL)
    store.create()
    with store.lock(), pytest.raises(LockedError, match="another run trains"):
        train()


def test_a_loss_that_is_not_finite_is_no_model(train: Train, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="diverged"):
        train(learning_rate=(10.0,), weight_decay=1e6, epochs=3, warmup_share=0.0)
    assert not (tmp_path / "model/config.json").exists()


def test_another_gpu_than_the_first_is_said_how_to_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "choose_device", lambda _: "cuda:1")
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=1"):
        run._device("cuda:1")
