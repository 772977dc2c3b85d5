"""Names, numbers and maps become labels; what cannot be learnt is refused in one line, without a text."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from batchsent.errors import InputError, UsageError
from batchsent.training.labels import LABEL_LIMIT, scheme_of, values_in


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (4, "4"),
        (4.0, "4"),
        (Decimal("4.0"), "4"),
        ("4", "4"),
        (" 4.00 ", "4"),
        ("-1", "-1"),
        ("4.5", "4.5"),
        ("good", "good"),
        ('["a"]', '["a"]'),
        (" good ", "good"),
        (True, "true"),
        ("", None),
        ("  ", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_a_value_has_one_spelling(value: Any, spelled: str | None) -> None:
    assert values_in(value, multi_label=False) == (None if spelled is None else (spelled,))


@pytest.mark.parametrize("value", [4.5, float("inf"), Decimal("4.5"), ["a"], {"a": 1}, b"a"])
def test_what_is_neither_a_name_nor_a_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="a label is"):
        values_in(value, multi_label=False)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (["a", "b", "a"], ("a", "b")),
        ([], ()),
        ([3, 4.0], ("3", "4")),
        ("a| b", ("a", "b")),
        ('["a", 2]', ("a", "2")),
        ("[a", ("[a",)),
        (5, ("5",)),
        ("", None),
        (None, None),
        ([None], ()),
    ],
)
def test_a_text_may_have_several(value: Any, spelled: tuple[str, ...] | None) -> None:
    assert values_in(value, multi_label=True) == spelled


def test_numbers_ascend_and_names_are_alphabetical() -> None:
    assert scheme_of(Counter({"10": 1, "9": 1, "-1": 1})).names == ("-1", "9", "10")
    assert scheme_of(Counter({"b": 1, "a": 1, "10": 1})).names == ("10", "a", "b")


def test_a_map_joins_names_and_orders() -> None:
    scheme = scheme_of(Counter({"1": 3, "2": 1, "3": 9, "5": 2}), ("4,5=POSITIVE", "1, 2.0=NEGATIVE"))
    assert scheme.names == ("POSITIVE", "NEGATIVE")
    assert [scheme.target(value) for value in ("5", "4", "1", "2", "3")] == [0, 0, 1, 1, None]


@pytest.mark.parametrize(
    ("counts", "mapping", "message"),
    [
        ({"a": 3}, (), "every text has the label a"),
        ({}, (), "no text has a label"),
        ({"1": 2, "2": 2}, ("1=A", "7=B"), "no text has the label B; .*1, 2 are in the column"),
        ({"1": 2, "2": 2}, ("1,2=A",), "every text has the label A"),
        ({"1": 2}, ("1",), "--map '1'"),
        ({"1": 2}, ("=A",), "--map '=A'"),
        ({"1": 2}, ("1=",), "--map '1='"),
        ({"1": 2}, ("1=A", "1=B"), "gives the value '1' two labels"),
    ],
)
def test_what_cannot_be_learnt_is_refused(counts: dict[str, int], mapping: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scheme_of(Counter(counts), mapping)


def test_a_column_of_texts_is_refused_without_quoting_them() -> None:
    texts = Counter({f"a private review {index}": 1 for index in range(LABEL_LIMIT + 1)})
    with pytest.raises(InputError, match="1,001 different values") as raised:
        scheme_of(texts)
    assert "private" not in str(raised.value)
