"""What ``batchsent evaluate`` refuses: in one line, with the remedy, and before anything is scored."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.errors import BatchsentError, InputError, ModelError, UsageError
from support import write_csv

from .conftest import Cli, Evaluate, Labelled


def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_named: Any) -> None:
        pytest.fail("scored before all was checked that can be")

    monkeypatch.setattr("batchsent.evaluation.run.run_job", fail)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"label_column": "stars"}, r"column 'stars' has 1, 2, 5; expected a label of tiny-bert .*--map"),
        ({"label_column": "star"}, "did you mean --label-column 'stars'"),
        ({"label_column": "empty"}, "no record has a label in column 'empty'"),
        ({"label_column": "text"}, "as text and as label"),
        ({"label_column": ""}, "--label-column NAME"),
        ({"text_column": "body"}, "'body'"),
        ({"maps": ("5=GOOD",)}, "--map to GOOD"),
        ({"maps": ("7=POSITIVE",)}, "--map names 7"),
        ({"maps": ("POSITIVE",)}, "VALUES=LABEL"),
        ({"models": ()}, "no model"),
        ({"models": ("embedded", "embedded")}, "given twice"),
        ({"models": ("embedded", "no/such/model")}, "is not a directory"),
        ({"worst": -1}, "--worst is -1"),
        ({"prompt": "sentiment"}, "classification head"),
        ({"models": ("embedded", "TINY"), "prompt": "sentiment"}, "every model has a classification head"),
        ({"models": ("embedded", "TINY"), "revision": "v1"}, "--revision with several models"),
        ({"models": ("embedded", "TINY"), "calibrate": "c.json"}, "--calibrate with several models"),
        ({"calibrate": "c.json", "long_text": "window"}, "--long-text window"),
        ({"calibrate": "c.json", "calibration": "d.json"}, "--calibrate with --calibration"),
        ({"calibrate": ""}, "--calibrate"),
        ({"calibrate": "HERE"}, "is a directory"),
        ({"calibration": "missing.json"}, "missing.json cannot be read"),
        ({"output": "INSIDE"}, "is in the INPUT"),
        ({"output": "FILE"}, "is a file"),
        ({"output": "s3://b/o"}, "s3://"),
    ],
)
def test_what_a_user_gets_wrong_is_found_before_anything_is_scored(
    judge: Evaluate,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    no_scoring(monkeypatch)
    folder = tmp_path / "in"
    columns: dict[str, list[Any]] = {
        "gold": ["POSITIVE", "NEGATIVE", "POSITIVE"],
        "stars": [1, 5, 2],
        "empty": ["", "", ""],
    }
    write_csv(folder / "a.csv", ["good", "bad", "film"], **columns)
    places = {
        "TINY": str(tiny_model),
        "HERE": str(folder),
        "INSIDE": str(folder / "out"),
        "FILE": str(folder / "a.csv"),
    }
    if "models" in options:
        options = {**options, "models": tuple(places.get(name, name) for name in options["models"])}
    options = {name: places.get(value, value) if isinstance(value, str) else value for name, value in options.items()}
    if "maps" in options:
        options = {"label_column": "stars", **options}
    source = folder / "a.csv" if options.get("output") == places["FILE"] else folder
    with pytest.raises(UsageError, match=says) as caught:
        judge(source, **options)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_column_of_reviews_as_labels_is_not_quoted(
    judge: Evaluate, reviews: Callable[[int], list[str]], tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", reviews(60), gold=[f"Zanzibarwidget {index}" for index in range(60)])
    with pytest.raises(UsageError, match="60 different values") as caught:
        judge(path)
    assert "Zanzibarwidget" not in str(caught.value)


def test_a_shard_that_cannot_be_read_is_found_first(
    judge: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_scoring(monkeypatch)
    folder = tmp_path / "in"
    write_csv(folder / "a.csv", ["good"], gold=["POSITIVE"])
    data = gzip.compress(b"text,gold\n" + b"good,POSITIVE\n" * 5000)
    (folder / "b.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"b\.csv\.gz"):
        judge(folder)
    (folder / "b.csv.gz").unlink()
    write_csv(folder / "b.csv", ["good"], other=["POSITIVE"])
    with pytest.raises(InputError, match=r"column 'gold' is not in b\.csv"):
        judge(folder)


def test_no_row_that_counts(judge: Evaluate, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of 2 records was scored"):
        judge(write_csv(tmp_path / "a.csv", ["", "  "], gold=["POSITIVE", "NEGATIVE"]))


def test_a_model_that_is_none_is_one_error(judge: Evaluate, tmp_path: Path, labelled: Labelled) -> None:
    with pytest.raises(ModelError):
        judge(labelled(20), models=(tmp_path,))
    with pytest.raises(BatchsentError):
        judge(tmp_path / "nothing.csv")


def test_the_command_says_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: Missing option '--label-column'")
    code, _, err = cli("--label-column", "gold")
    assert (code, "no INPUT was given" in err) == (2, True)
