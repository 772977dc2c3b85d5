"""A label column says what it says, in whatever type it was written."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from batchsent.errors import UsageError
from batchsent.labels import cell_of, parse_map, values_of


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, None),
        ("", None),
        ("  \t", None),
        (float("nan"), None),
        ("POSITIVE", "POSITIVE"),
        (" POSITIVE\n", "POSITIVE"),
        (4, "4"),
        (4.0, "4"),
        (-1.0, "-1"),
        (4.5, "4.5"),
        ("4.0", "4"),
        ("4.00", "4"),
        ("4.5", "4.5"),
        ("4.", "4."),
        ("04", "04"),
        (Decimal("4.0"), "4"),
        (True, "true"),
        (False, "false"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (datetime.date(2026, 11, 1), "2026-11-01"),
        ([], ()),
        (["joy", 2.0, None], ("joy", "2")),
        ('["joy", "fear"]', ("joy", "fear")),
        ("[]", ()),
        ("[joy", "[joy"),
        ("[[1]]", "[[1]]"),
        ("joy|fear", "joy|fear"),
    ],
)
def test_values_are_compared_in_one_spelling(value: object, cell: object) -> None:
    assert cell_of(value) == cell


def test_several_labels_are_a_list_or_stand_in_one_string() -> None:
    assert values_of("joy | fear|", multi_label=True) == ("joy", "fear")
    assert values_of("joy|fear", multi_label=False) == ("joy|fear",)
    assert values_of(("joy", "fear"), multi_label=True) == ("joy", "fear")
    assert values_of((), multi_label=True) == ()
    assert values_of((), multi_label=False) is None
    assert values_of(None, multi_label=True) is None


def test_maps() -> None:
    assert parse_map(()) is None
    assert parse_map(["1,2=NEGATIVE", "4.0, 5=POSITIVE"]) == {
        "1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE",
    }  # fmt: skip
    assert parse_map(["a=b=POSITIVE"]) == {"a=b": "POSITIVE"}
    assert parse_map(["4=POSITIVE", "4.0=POSITIVE"]) == {"4": "POSITIVE"}


@pytest.mark.parametrize(
    "maps", [["POSITIVE"], ["=POSITIVE"], ["4="], ["4,,5=POSITIVE"], [""], ["4=POSITIVE", "4.0=NEGATIVE"]]
)
def test_maps_that_mean_nothing_are_refused(maps: list[str]) -> None:
    with pytest.raises(UsageError, match="--map"):
        parse_map(maps)
