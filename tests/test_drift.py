"""The drift gate: what moved is measured, and held back above the limit, with everything kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsent.checkpoint import MANIFEST, SUCCESS, Manifest
from batchsent.drift import drift_between, read_baseline, stability_index
from batchsent.errors import DriftError, IncompleteError, UsageError
from batchsent.reporting.run_report import RunReport
from batchsent.storage import LocalStore
from batchsent.verify import verify
from support import make_bert, published, write_csv

Score = Callable[..., RunReport]

counts = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30)


def by_hand(expected: list[int], found: list[int]) -> float:
    """The definition, with half a row more in every bin that holds any."""
    bins = [(a + 0.5, b + 0.5) for a, b in zip(expected, found, strict=True) if a or b]
    n, m = sum(a for a, _ in bins), sum(b for _, b in bins)
    return sum((a / n - b / m) * math.log((a / n) / (b / m)) for a, b in bins)


# --- the index


@settings(deadline=None)  # the first call imports scipy
@given(counts)
def test_the_index_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    expected, found = [a for a, _ in pairs], [b for _, b in pairs]
    if sum(expected) and sum(found):
        assert stability_index(expected, found) == pytest.approx(by_hand(expected, found), rel=1e-9, abs=1e-12)


@settings(deadline=None)  # the first call imports scipy
@given(counts)
def test_the_index_is_symmetric_and_never_negative(pairs: list[tuple[int, int]]) -> None:
    expected, found = [a for a, _ in pairs], [b for _, b in pairs]
    assert stability_index(expected, found) >= -1e-12
    assert stability_index(expected, found) == pytest.approx(stability_index(found, expected), rel=1e-9, abs=1e-12)


def test_equal_shares_have_not_moved_however_many_rows_there_are() -> None:
    assert stability_index([10, 20, 30], [10, 20, 30]) == 0
    assert stability_index([1000, 2000, 3000], [2000, 4000, 6000]) < 1e-6


def test_a_textbook_example() -> None:
    """Shares 0.5/0.5 against 0.8/0.2: 0.3 ln 1.6 + 0.3 ln 2.5 = 0.4159."""
    assert stability_index([5_000_000, 5_000_000], [8_000_000, 2_000_000]) == pytest.approx(0.41589, abs=1e-4)


def test_a_bin_that_is_empty_on_one_side_is_not_infinite_and_weighs_more_with_more_rows() -> None:
    few, many = (stability_index([n, 0], [n // 2, n // 2]) for n in (100, 1_000_000))
    assert 0 < few < many < 20


def test_nothing_to_compare_has_not_moved() -> None:
    assert stability_index([], []) == stability_index([1, 2], [0, 0]) == stability_index([0, 0], [1, 2]) == 0


# --- the baseline


def test_a_baseline_that_is_none_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    for given_, found, remedy in [
        (tmp_path / "none.json", "cannot be read (No such file", "check the path"),
        (tmp_path, "is a directory", f"pass {tmp_path}/_batchsent/manifest.json"),
        (tmp_path / "other.json", "is not a manifest", "choose another"),
    ]:
        with pytest.raises(UsageError) as refused:
            read_baseline(str(given_))
        assert found in str(refused.value)
        assert remedy in str(refused.value)


def test_a_baseline_without_a_row_cannot_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(Manifest("f" * 64, ()).to_json())
    with pytest.raises(UsageError, match="scored no row"):
        read_baseline(str(tmp_path / "manifest.json"))


# --- the gate


@pytest.fixture
def yesterday(tmp_path: Path, score: Score, reviews: Callable[[int], list[str]]) -> str:
    write_csv(tmp_path / "yesterday" / "a.csv", reviews(120))
    score(tmp_path / "yesterday", output=tmp_path / "before")
    return str(tmp_path / "before" / MANIFEST)


def moved(reviews: Callable[[int], list[str]]) -> list[str]:
    """Much longer than those of yesterday."""
    return [" ".join(reviews(20)[index : index + 12]) for index in range(8)] * 10


def test_the_same_reviews_in_another_order_are_published(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", reviews(120)[::-1])
    report = score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=0.0)
    assert report.state == "published"
    assert report.drift == {"baseline": yesterday, "limit": 0.0, "labels": 0.0, "confidence": 0.0, "lengths": 0.0}


def test_what_has_moved_is_held_back_and_kept(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    with pytest.raises(DriftError) as held:
        score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=0.25)
    assert held.value.exit_code == 4
    assert f"'batchsent publish {tmp_path / 'out'} --accept-drift'" in str(held.value)
    assert not (tmp_path / "out" / SUCCESS).exists()
    assert (tmp_path / "out" / "b.parquet").exists()
    record = json.loads(next((tmp_path / "out" / "_batchsent" / "runs").iterdir()).read_bytes())
    assert record["state"] == "held back"
    assert record["drift"]["lengths"] > 0.25
    manifest = Manifest.from_json((tmp_path / "out" / MANIFEST).read_bytes())
    drift = drift_between(Manifest.from_json(Path(yesterday).read_bytes()), manifest)
    assert record["drift"]["lengths"] == pytest.approx(drift.lengths)

    # Run again without the gate: published as it is, nothing scored again, as if there had been no gate.
    report = score(tmp_path / "in", output=tmp_path / "out")
    assert (report.state, report.record_count) == ("published", 0)
    score(tmp_path / "in", output=tmp_path / "plain")
    assert published(tmp_path / "out") == published(tmp_path / "plain")
    assert not verify(LocalStore(tmp_path / "out")).problems


def test_held_back_again_without_scoring_again(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    for _ in range(2):
        with pytest.raises(DriftError):
            score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=0.25)
    runs = sorted((tmp_path / "out" / "_batchsent" / "runs").iterdir())
    assert sorted(json.loads(run.read_bytes())["record_count"] for run in runs) == [0, 80]
    assert score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=100.0).state == "published"


def test_without_a_limit_the_drift_is_told_and_nothing_held_back(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    report = score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday)
    assert report.state == "published"
    assert report.drift["lengths"] > 0.25


def test_a_published_directory_is_taken_back_when_the_input_has_moved(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", reviews(120))
    gate: dict[str, Any] = {"baseline": yesterday, "max_drift": 0.25}
    score(tmp_path / "in", output=tmp_path / "out", **gate)
    write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    with pytest.raises(DriftError):
        score(tmp_path / "in", output=tmp_path / "out", **gate)
    assert not (tmp_path / "out" / SUCCESS).exists()


def test_bad_rows_come_before_drift(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    path = write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    path.write_text(path.read_text(encoding="utf-8") + "one,two\n" * 20, encoding="utf-8")
    with pytest.raises(IncompleteError, match="records are bad"):
        score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=0.25)


def test_a_baseline_of_other_labels_is_refused_before_anything_is_scored(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", reviews(5))
    model = make_bert(tmp_path / "three", labels=("BAD", "FINE", "GOOD"))
    with pytest.raises(UsageError, match=r"labels NEGATIVE, POSITIVE.*those of this model: BAD, FINE, GOOD"):
        score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=0.25, model=str(model))
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_limit_without_a_baseline_is_refused(tmp_path: Path, score: Score) -> None:
    with pytest.raises(UsageError, match="--max-drift without --baseline"):
        score(tmp_path, output=tmp_path / "out", max_drift=0.1)


def test_a_missing_baseline_is_refused_before_the_directory_is_made(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]]
) -> None:
    write_csv(tmp_path / "in" / "b.csv", reviews(5))
    with pytest.raises(UsageError, match=r"--baseline nowhere\.json cannot be read"):
        score(tmp_path / "in", output=tmp_path / "out", baseline="nowhere.json", max_drift=0.1)
    assert not (tmp_path / "out").exists()


def test_another_model_with_the_same_labels_can_be_compared(
    tmp_path: Path, score: Score, reviews: Callable[[int], list[str]], yesterday: str
) -> None:
    write_csv(tmp_path / "in" / "b.csv", reviews(120))
    manifest = Manifest.from_json(Path(yesterday).read_bytes())
    other = tmp_path / "other.json"
    other.write_bytes(replace(manifest, fingerprint="0" * 64).to_json())
    assert score(tmp_path / "in", output=tmp_path / "out", baseline=str(other), max_drift=0.1).state == "published"


def test_records_of_which_none_can_be_scored_are_held_back(
    tmp_path: Path, score: Score, yesterday: str, reviews: Callable[[int], list[str]]
) -> None:
    """What a broken export looks like: no index moves for it, and empty texts are no bad rows."""
    write_csv(tmp_path / "in" / "b.csv", ["", " "] * 20)
    with pytest.raises(DriftError, match=r"not one of 40 records could be scored \(40 empty_text\)"):
        score(tmp_path / "in", output=tmp_path / "out", baseline=yesterday, max_drift=100)
    assert not (tmp_path / "out/_SUCCESS").exists()
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "empty" / "b.csv", [])
    assert score(tmp_path / "empty", output=tmp_path / "none", baseline=yesterday, max_drift=0.1).state == "published"


def test_what_is_published_stays_so_and_the_gates_of_a_later_run_are_told(
    tmp_path: Path, score: Score, yesterday: str, reviews: Callable[[int], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(tmp_path / "in" / "b.csv", moved(reviews))
    path.write_text(path.read_text(encoding="utf-8") + "one,two\n", encoding="utf-8")
    score(tmp_path / "in", output=tmp_path / "out", max_reject_rate=0.5)
    before = published(tmp_path / "out")
    options = {"max_reject_rate": 0.0, "baseline": yesterday, "max_drift": 0.25}
    report = score(tmp_path / "in", output=tmp_path / "out", **options)
    assert (report.state, published(tmp_path / "out")) == ("nothing to do", before)
    assert report.drift["lengths"] > 0.25
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "1 of 81 records are bad (1 field_count); expected at most 0.00%" in warnings[0]
    assert "the predictions have moved from" in warnings[1]
    caplog.clear()
    score(tmp_path / "in", output=tmp_path / "out", max_reject_rate=0.5, baseline=yesterday)
    assert not [record for record in caplog.records if record.levelname == "WARNING"], "without a limit it is told"
