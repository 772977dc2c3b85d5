"""The harness: a process each, the best setting, turns, and whoever fails is out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contenders import Contender, Setting, Task
from contenders.field import contenders_for
from contenders.material import texts_of
from contenders.plain_torch import Facts
from contenders.summary import agreement, best_setting, limits_of, rotated, standings
from contenders.worker import ContenderError, Worker, missing_packages

TEXTS = ["a", "bb", "ccc", "dddd"]
SLOW: tuple[Setting, ...] = ({"batch_size": 8}, {"batch_size": 1}, {"batch_size": 4})
STEADY = Contender("steady", "slow_and_steady", "fp32", "texts", SLOW)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task for contenders that are found beside this file, also by the processes that are started."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    monkeypatch.setattr("contenders.worker.SETTLE_SECONDS", 0)
    return Task(tmp_path, "fp32", "cpu", 1, tmp_path)


def test_a_contender_loads_once_and_scores_as_often_as_it_is_asked(task: Task) -> None:
    worker = Worker(STEADY, task, TEXTS)
    assert worker.load_seconds > 0
    for rows in (2, 4, 2):
        timed = worker.score(rows, {"batch_size": 1})
        assert timed.seconds >= 0.01
        assert timed.probabilities is not None
        assert timed.probabilities.argmax(axis=1).tolist() == [0, 1, 0, 1][:rows]
    worker.end()
    assert "what a library says" in task.log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variant", "reason"), [("cannot load", "ValueError: no such model"), ("dies", "its process was killed")]
)
def test_one_that_fails_says_why_and_hurts_nobody(task: Task, variant: str, reason: str) -> None:
    with pytest.raises(ContenderError, match=f"^{reason}$"):
        Worker(STEADY, replace(task, variant=variant), TEXTS).score(1, {"batch_size": 1})


def test_a_run_tunes_takes_turns_and_goes_on_without_those_who_fail(task: Task) -> None:
    import side_by_side

    expected = np.array([[1, 0], [1, 0], [1, 0], [1, 0]], np.float32)
    facts = Facts(None, [1, 2, 3, 4], {"texts": expected, "pairs": 1 - expected})
    course = side_by_side.Course(task, TEXTS, 4, facts)
    field = [
        STEADY,
        replace(STEADY, name="dead", variant="dies"),
        replace(STEADY, name="elsewhere", packages=("no-such-distribution",)),
        replace(STEADY, name="paired", grid=SLOW[:1], scores_pairs=True),
    ]
    entries: list[dict[str, Any]] = []
    workers = side_by_side.entered(field, course, {}, entries)
    for round_index in range(2):
        side_by_side.run_round(round_index, workers, entries)
    for worker in workers.values():
        worker.end()
    steady, dead, elsewhere, paired = entries
    assert steady["setting"] == {"batch_size": 1}
    assert [tried["setting"] for tried in steady["tuning"]] == list(SLOW)
    assert (len(steady["seconds"]), len(paired["seconds"])) == (2, 2)
    assert (steady["rows"], steady["tokens"]) == (4, 10)
    assert (steady["same_labels"], paired["same_labels"]) == (0.5, 0.5)
    assert (dead["absent"], elsewhere["absent"]) == ("its process was killed", "not installed: no-such-distribution")
    assert "seconds" not in dead
    assert [standing.name for standing in standings({"contenders": entries})] == ["steady", "paired"]


def test_the_best_setting_is_the_fastest_and_of_equals_the_first() -> None:
    assert best_setting([({"n": 1}, 2.0), ({"n": 2}, 1.0), ({"n": 3}, 1.0)]) == {"n": 2}


def test_every_round_begins_with_another() -> None:
    assert [rotated("abc", index) for index in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert rotated([], 3) == []


def test_agreement_counts_labels_and_finds_the_largest_difference() -> None:
    expected, found = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.8, 0.2], [0.7, 0.3]])
    assert agreement(expected, found) == {"same_labels": 0.5, "largest_difference": pytest.approx(0.3)}


def test_the_limit_is_the_fastest_library_of_a_precision() -> None:
    assert limits_of([_entry("a", "fp32", [2.0, 1.0, 4.0], "matrices"), _entry("b", "fp32", [4.0], "matrices")]) == {
        "fp32": 50.0
    }


def test_standings_have_the_share_of_the_limit_and_begin_with_the_fastest() -> None:
    result = {
        "contenders": [
            _entry("limit", "fp16", [1.0], "matrices"),
            _entry("half", "fp16-weights", [4.0, 2.0, 1.0]),
            _entry("other", "fp32", [5.0]),
            _entry("job", "fp16", [10.0], "Parquet") | {"scoring_seconds": [4.0]},
            {"name": "absent", "precision": "fp32", "begins_with": "texts", "absent": "not installed: it"},
        ]
    }
    found = {standing.name: standing for standing in standings(result)}
    assert list(found) == ["limit", "half", "job", "other", "job, whole process"]
    half = found["half"]
    assert (half.tokens_per_second, half.slowest, half.fastest, half.reviews_per_second) == (50.0, 25.0, 100.0, 5.0)
    assert half.share_of_limit == 0.5
    assert found["other"].share_of_limit is None
    assert found["job, whole process"].tokens_per_second == 10.0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_contender_can_be_told_from_the_others_and_has_something_to_try(device: str) -> None:
    field = contenders_for(device)
    assert len({contender.title for contender in field}) == len(field)
    assert all(contender.grid for contender in field)
    limits = {c.precision for c in field if c.begins_with == "matrices"}
    ours = {c.precision.removesuffix("-weights") for c in field if c.name.startswith("batchsent")}
    assert ours <= limits, "a precision of ours without a limit to hold it against"


def test_a_package_that_is_not_there_is_named() -> None:
    assert missing_packages(replace(STEADY, packages=("numpy", "no-such-distribution"))) == ["no-such-distribution"]


def test_texts_of_a_file_are_distinct_and_never_empty(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('id,review\n1,"a\nb"\n2,\n3,c\n4,c\n', encoding="utf-8")
    assert sorted(texts_of(str(path), "review", 2)) == ["a\nb", "c"]
    with pytest.raises(SystemExit, match=r"reviews.csv has 2 distinct texts in review"):
        texts_of(str(path), "review", 3)


def test_generated_texts_are_as_long_as_those_of_imdb() -> None:
    counts = np.array([len(text.split()) for text in texts_of(None, "text", 2_000)])
    assert np.median(counts) == pytest.approx(190, rel=0.05)
    assert np.log(counts).std() == pytest.approx(0.64, rel=0.05)


def _entry(name: str, precision: str, seconds: list[float], begins_with: str = "token ids") -> dict[str, Any]:
    described = {"name": name, "precision": precision, "begins_with": begins_with, "rows": 10, "tokens": 100}
    return described | {"seconds": seconds, "setting": {"batch_size": 8}}
