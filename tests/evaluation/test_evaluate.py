"""``batchsent evaluate``, whole: what it judges, what it leaves out, what it writes and prints."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.calibration import read_calibration
from batchsent.errors import UsageError
from batchsent.reporting.run_report import RunReport
from support import make_bert, rows, write_csv

from .conftest import PLAIN, Cli, Evaluate, Labelled

Score = Callable[..., RunReport]


def test_what_is_right_and_what_is_wrong(judge: Evaluate, labelled: Labelled) -> None:
    found = judge(labelled(60, wrong_every=4))
    (model,) = found.models
    assert (found.rows.record_count, found.rows.judged_count, found.rows.rejected_count) == (60, 60, 0)
    assert model.metrics.accuracy == 0.75
    assert [error.row_index % 4 for error in model.worst] == [0] * 10
    probabilities = [error.probability for error in model.worst]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {error.shard for error in model.worst} == {"labelled.csv"}
    assert model.meanings == {"NEGATIVE": "NEGATIVE", "POSITIVE": "POSITIVE"}
    assert sum(model.value_counts.values()) == 60
    assert (model.setting.device, model.setting.backend, model.setting.precision) == ("cpu", "torch", "fp32")
    assert model.rows_per_second > 0
    assert model.tokens_per_second > model.rows_per_second


def test_a_worst_error_is_the_row_that_it_names(judge: Evaluate, labelled: Labelled, tmp_path: Path) -> None:
    path = labelled(40, wrong_every=3)
    labelled(30, wrong_every=2, name="another.csv")
    texts: dict[tuple[str, int], dict[str, str]] = {}
    for name in ("labelled.csv", "another.csv"):
        with (tmp_path / "in" / name).open(encoding="utf-8") as handle:
            texts |= {(name, index): row for index, row in enumerate(csv.DictReader(handle))}
    (model,) = judge(path.parent, worst=100).models
    assert len(model.worst) == 14 + 15
    for error in model.worst:
        row = texts[error.shard, error.row_index]
        assert (error.review, error.truth) == (row["text"], row["gold"])
        assert error.label != error.truth


def test_what_is_left_out_is_counted(judge: Evaluate, tmp_path: Path) -> None:
    gold = ["1", "5", "3", "", "4.0", "2", "3", "5"]
    texts = ["good film", "bad film", "good kettle", "bad kettle", "", "a red box", "never again", "love it"]
    path = write_csv(tmp_path / "in.csv", texts, gold=gold)
    with path.open("a", encoding="utf-8") as handle:
        handle.write("one,field,too many\n")
    found = judge(path, maps=("1,2=NEGATIVE", "4,5=positive"))
    rows = found.rows
    assert (rows.record_count, rows.judged_count, rows.unlabelled_count) == (9, 4, 1)
    assert (rows.rejected_count, rows.reject_counts) == (2, {"empty_text": 1, "field_count": 1})
    assert (rows.dropped_count, rows.dropped_values) == (2, {"3": 2})
    assert found.models[0].meanings == {"1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE"}
    assert found.models[0].value_counts == {"1": 1, "2": 1, "5": 2}


def test_every_type_of_label_gives_the_same(judge: Evaluate, labelled: Labelled, tmp_path: Path) -> None:
    path = labelled(24)
    with path.open(encoding="utf-8") as handle:
        records = list(csv.DictReader(handle))
    texts = [record["text"] for record in records]
    ids = [int(record["gold"] == "POSITIVE") for record in records]
    arrays: dict[str, Any] = {
        "int": pa.array(ids, pa.int8()),
        "bool": pa.array([bool(index) for index in ids]),
        "dictionary": pa.array([record["gold"] for record in records]).dictionary_encode(),
        "list": pa.array([[record["gold"]] for record in records]),
    }
    expected = judge(path).models[0].metrics
    for name, array in arrays.items():
        pq.write_table(pa.table({"text": texts, "gold": array}), tmp_path / f"{name}.parquet")
        assert judge(tmp_path / f"{name}.parquet").models[0].metrics == expected, name
    values_by_name: dict[str, list[Any]] = {"float": [float(i) for i in ids], "bool": [i == 1 for i in ids]}
    for name, values in values_by_name.items():
        lines = (json.dumps({"text": text, "gold": value}) for text, value in zip(texts, values, strict=True))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        assert judge(tmp_path / f"{name}.jsonl").models[0].metrics == expected, name


def test_shards_of_different_types_are_judged_together(judge: Evaluate, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_csv(folder / "a.csv", ["good", "bad", "film"], gold=["1.0", "0", ""])
    pq.write_table(pa.table({"text": ["good", "bad"], "gold": pa.array([1, None], pa.int64())}), folder / "b.parquet")
    lines = [{"text": "good", "gold": 1}, {"text": "bad"}, {"gold": 0}]
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    (folder / "d.jsonl").write_text(json.dumps({"text": "no label in here"}), encoding="utf-8")
    found = judge(folder)
    assert (found.rows.record_count, found.rows.judged_count) == (9, 4)
    assert (found.rows.unlabelled_count, found.rows.rejected_count) == (4, 1)
    assert found.models[0].value_counts == {"0": 1, "1": 3}


def test_models_of_every_family_side_by_side(
    judge: Evaluate, labelled: Labelled, tiny_model: Path, tiny_t5: Path, tmp_path: Path
) -> None:
    other = make_bert(tmp_path / "other", labels=("bad", "good"))
    path = labelled(40, wrong_every=5)
    found = judge(path, models=(tiny_model, tiny_t5, other), maps=("NEGATIVE=0", "POSITIVE=1"), calibrate_prompt=True)
    assert [model.name for model in found.models] == ["tiny-bert", "tiny-t5", "other"]
    assert [model.setting.task for model in found.models] == [
        "sequence-classification", "text-to-text", "sequence-classification",
    ]  # fmt: skip
    assert found.models[1].setting.asked is not None
    assert found.models[2].meanings == {"NEGATIVE": "bad", "POSITIVE": "good"}
    assert [(c.first, c.second) for c in found.comparisons] == [
        ("tiny-bert", "tiny-t5"), ("tiny-bert", "other"), ("tiny-t5", "other"),
    ]  # fmt: skip
    # The same weights under other names: right on the same rows.
    assert (found.comparisons[1].first_only, found.comparisons[1].second_only, found.comparisons[1].p_value) == (
        0,
        0,
        1,
    )
    for error in found.models[1].worst:
        assert error.review
    assert {model.metrics.row_count for model in found.models} == {40}


def test_models_of_one_name_are_told_apart(
    judge: Evaluate, labelled: Labelled, tiny_model: Path, tmp_path: Path
) -> None:
    copies = [Path(shutil.copytree(tiny_model, tmp_path / folder / "model")) for folder in ("a", "b")]
    found = judge(labelled(20), models=copies, output=tmp_path / "out")
    assert [model.name for model in found.models] == list(map(str, copies))
    assert len(list((tmp_path / "out").glob("confusion-*.png"))) == 2


def test_several_labels_a_text(judge: Evaluate, score: Score, tmp_path: Path) -> None:
    model = make_bert(tmp_path / "multi", labels=("joy", "fear", "anger"), problem_type="multi_label_classification")
    texts = ["good film", "bad film never again", "a red box", "love love love", "not good"]
    score(write_csv(tmp_path / "plain.csv", texts), output=tmp_path / "answers", model=str(model))
    gold = [
        "|".join(label for label, probability in row["probabilities"].items() if probability >= 0.5)
        for row in rows(tmp_path / "answers/plain.parquet")
    ]
    lists = [text.split("|") if text else [] for text in gold]
    pq.write_table(pa.table({"text": texts, "gold": pa.array(lists, pa.list_(pa.string()))}), tmp_path / "a.parquet")
    found = judge(tmp_path / "a.parquet", models=(model,), output=tmp_path / "out")
    assert found.rows.judged_count == 5
    assert (found.models[0].metrics.accuracy, found.models[0].metrics.confusion) == (1.0, None)
    assert not list((tmp_path / "out").glob("confusion*"))
    gold[0] = "anger" if gold[0] != "anger" else "joy"
    found = judge(write_csv(tmp_path / "b.csv", texts, gold=gold), models=(model,))
    assert found.models[0].metrics.accuracy < 1.0
    assert found.models[0].worst[0].truth == gold[0]


def test_a_calibration_is_fitted_written_and_applied(judge: Evaluate, labelled: Labelled, tmp_path: Path) -> None:
    path, file = labelled(60, wrong_every=3), tmp_path / "made" / "temperature.json"
    before = judge(path, calibrate=file)
    fit, calibration = before.temperature, read_calibration(str(file))
    assert fit is not None
    assert (calibration.temperature, calibration.row_count, calibration.model) == (fit.temperature, 60, "tiny-bert")
    assert calibration.model_version == before.models[0].setting.version
    after = judge(path, calibration=str(file))
    assert after.models[0].setting.temperature == fit.temperature
    assert after.models[0].metrics.log_loss == pytest.approx(fit.log_loss_after, abs=1e-5)
    assert after.models[0].metrics.calibration_error == pytest.approx(fit.calibration_error_after, abs=1e-4)
    assert after.models[0].metrics.confusion == before.models[0].metrics.confusion


def test_a_calibration_is_for_the_model_that_it_was_fitted_to(
    judge: Evaluate, labelled: Labelled, tiny_model: Path, tiny_t5: Path, tmp_path: Path
) -> None:
    path, file = labelled(30, wrong_every=3), tmp_path / "temperature.json"
    judge(path, calibrate=file)
    found = judge(path, models=(tiny_t5, tiny_model), calibration=str(file))
    assert [model.setting.temperature is None for model in found.models] == [True, False]
    for models in ((tiny_t5,), (tiny_t5, make_bert(tmp_path / "other", labels=("bad", "good")))):
        with pytest.raises(UsageError, match="was fitted to tiny-bert"):
            judge(path, models=models, calibration=str(file), maps=("NEGATIVE=0", "POSITIVE=1"))


def test_what_is_written(judge: Evaluate, labelled: Labelled, tmp_path: Path) -> None:
    out = tmp_path / "new" / "judged"
    found = judge(labelled(40), output=out)
    names = {path.name for path in out.iterdir()}
    pictures = {f"{kind}-tiny-bert.{form}" for kind in ("reliability", "confusion") for form in ("svg", "png")}
    assert names == {"evaluation.json", "worst-errors.csv", *pictures}
    content = json.loads((out / "evaluation.json").read_bytes())
    assert content["models"][0]["metrics"]["accuracy"] == 0.75
    assert content["rows"]["judged_count"] == 40
    assert "worst" not in content["models"][0]
    assert content["versions"].keys() >= {"python", "batchsent", "torch", "numpy", "scikit-learn", "scipy"}
    with (out / "worst-errors.csv").open(encoding="utf-8", newline="") as handle:
        listed = list(csv.DictReader(handle))
    assert [row["text"] for row in listed] == [error.review for error in found.models[0].worst]
    assert list(listed[0]) == ["model", "shard", "row_index", "truth", "label", "probability", "text"]
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".svg", ".png")}
    judge(tmp_path / "in" / "labelled.csv", output=out)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".svg", ".png")} == before


def test_a_review_stands_where_it_was_asked_for_alone(
    cli: Cli, labelled: Labelled, tiny_model: Path, tmp_path: Path
) -> None:
    path, out = labelled(40), tmp_path / "judged"
    word = "Zanzibarwidget"
    path.write_text(path.read_text(encoding="utf-8").replace("film", word), encoding="utf-8")
    arguments = [path, "--label-column", "gold", "--model", tiny_model, "--output", out, "--backend", "torch"]
    code, printed, logged = cli(*arguments, "--worst", 40)
    assert (code, word in printed, word in logged) == (0, True, False)
    assert word in (out / "worst-errors.csv").read_text(encoding="utf-8")
    for file in out.iterdir():
        assert file.name == "worst-errors.csv" or word.encode() not in file.read_bytes()
    code, printed, logged = cli(*arguments, "--worst", 0)
    assert (code, word in printed + logged) == (0, False)


def test_what_is_printed(cli: Cli, labelled: Labelled, tiny_model: Path, tiny_t5: Path, tmp_path: Path) -> None:
    path = labelled(40)
    (tmp_path / "tab.tsv").write_text(path.read_text(encoding="utf-8").replace(",", "\t"), encoding="utf-8")
    plain = [x for name, value in PLAIN.items() for x in (f"--{name}", value)]
    arguments = [tmp_path / "tab.tsv", "--label-column", "gold", "--model", tiny_model, "--model", tiny_t5, *plain]
    code, out, err = cli(*arguments, "--delimiter", "\\t", "--progress", "none")
    assert (code, err) == (0, "")
    assert out.startswith("40 of 40 records judged by 'gold'\nlabels: NEGATIVE → NEGATIVE (")
    assert "accuracy           0.7500 (" in out
    assert "tiny-bert is right where tiny-t5 is wrong on " in out
    assert "worst errors of tiny-bert, 10 of 10" in out
    for name in ("macro F1", "ROC AUC", "log loss", "Brier score", "calibration error", "rows/s", "torch, fp32, cpu"):
        assert name in out
    assert max(map(len, out.splitlines())) < 200


def test_in_python(labelled: Labelled, tiny_model: Path) -> None:
    found = batchsent.evaluate(labelled(20), label_column="gold", models=[str(tiny_model)], **PLAIN)
    assert found.models[0].metrics.accuracy == 0.75


def test_a_run_leaves_nothing_behind(
    judge: Evaluate, labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = labelled(20)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    judge(path)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [file.name for file in path.parent.iterdir()] == ["labelled.csv"]
