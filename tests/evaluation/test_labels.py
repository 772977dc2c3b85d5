"""A value is a name of a label or an index, by one rule for a column; what it does not say is an error."""

from __future__ import annotations

import numpy as np
import pytest

from batchsent.errors import UsageError
from batchsent.evaluation.labels import label_ids, truths

SENTIMENT = ("NEGATIVE", "POSITIVE")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")


@pytest.mark.parametrize(
    ("found", "labels", "ids"),
    [
        (["NEGATIVE", "POSITIVE"], SENTIMENT, {"NEGATIVE": 0, "POSITIVE": 1}),
        (["positive"], SENTIMENT, {"positive": 1}),
        (["Negative", "POSITIVE"], SENTIMENT, {"Negative": 0, "POSITIVE": 1}),
        (["0", "1"], SENTIMENT, {"0": 0, "1": 1}),
        (["false", "true"], SENTIMENT, {"false": 0, "true": 1}),
        (["True"], SENTIMENT, {"True": 1}),
        (["0", "4"], STARS, {"0": 0, "4": 4}),
        # A name wins over an index.
        (["1", "0"], ("1", "0"), {"1": 0, "0": 1}),
        (["good"], ("Good", "good"), {"good": 1}),
        (["straße"], ("STRASSE", "x"), {"straße": 0}),
        (["4"], ("4.0", "5.0"), {"4": 0}),
    ],
)
def test_names_then_indices(found: list[str], labels: tuple[str, ...], ids: dict[str, int]) -> None:
    assert label_ids(found, labels, None, column="gold", model="m") == ids


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        (["1", "2", "3", "4", "5"], SENTIMENT),
        (["1", "2", "3", "4", "5"], STARS),
        (["POSITIVE", "1"], SENTIMENT),  # one rule for all
        (["-1", "0"], SENTIMENT),
        (["0.5"], SENTIMENT),
        (["GOOD"], ("Good", "good")),
        (["9" * 5000], SENTIMENT),
        (["²"], SENTIMENT),
        (["POSITIVE", "neutral"], SENTIMENT),
    ],
)
def test_what_means_no_label_is_an_error_with_the_remedy(found: list[str], labels: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"column 'gold' has .*expected a label of m \(.*--map 4,5=") as caught:
        label_ids(found, labels, None, column="gold", model="m")
    assert len(str(caught.value)) < 400


def test_a_column_that_is_not_one_of_labels_is_not_quoted() -> None:
    reviews = [f"the kettle broke on day {day}" for day in range(500)]
    with pytest.raises(UsageError, match="500 different values") as caught:
        label_ids(reviews, SENTIMENT, None, column="text", model="m")
    assert "kettle" not in str(caught.value)


def test_a_map_decides_which_values_count() -> None:
    found = ["1", "3", "5", "POSITIVE"]
    assert label_ids(found, SENTIMENT, {"1": "negative", "5": "POSITIVE"}, column="gold", model="m") == {"1": 0, "5": 1}
    assert label_ids(found, ("LABEL_0", "LABEL_1"), {"1": "0", "5": "1"}, column="gold", model="m") == {"1": 0, "5": 1}
    with pytest.raises(UsageError, match="--map to GOOD; expected a label of m"):
        label_ids(found, SENTIMENT, {"5": "GOOD"}, column="gold", model="m")
    with pytest.raises(UsageError, match="column 'gold' has 1, 3, 5, POSITIVE, and --map names 7"):
        label_ids(found, SENTIMENT, {"7": "POSITIVE"}, column="gold", model="m")


def test_truths_of_one_label_a_text() -> None:
    cells = ["1", None, "5", "3", ("5",), ()]
    truth, known = truths(cells, {"1": 0, "5": 1}, label_count=2, multi_label=False)
    np.testing.assert_array_equal(known, [True, False, True, False, True, False])
    np.testing.assert_array_equal(truth[known], [0, 1, 1])
    with pytest.raises(UsageError, match="2 labels"):
        truths([("1", "5")], {"1": 0, "5": 1}, label_count=2, multi_label=False)


def test_truths_of_several_labels_a_text() -> None:
    cells = ["joy|fear", (), None, "joy|other", ("fear",)]
    truth, known = truths(cells, {"joy": 0, "fear": 2}, label_count=3, multi_label=True)
    np.testing.assert_array_equal(known, [True, True, False, False, True])
    np.testing.assert_array_equal(truth[known], [[1, 0, 1], [0, 0, 0], [0, 0, 1]])
