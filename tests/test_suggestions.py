"""Misspelt words and what they may have been meant to be."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.suggestions import did_you_mean, listed, missing_column, nearest
from batchsent.toml import toml_value


@pytest.mark.parametrize(
    ("word", "known", "near"),
    [
        ("reveiw", ["review", "id"], "review"),
        ("REVIEW", ["id", "review"], "review"),
        (" text ", ["text"], "text"),
        ("text", ["Text", "TEXT "], "Text"),
        ("评论内客", ["评论内容", "编号"], "评论内容"),
        ("zzz", ["review", "id"], None),
        ("text", [], None),
        ("", ["text"], None),
    ],
)
def test_nearest(word: str, known: list[str], near: str | None) -> None:
    assert nearest(word, known) == near


def test_the_remedy_names_the_nearest_or_something_else() -> None:
    assert did_you_mean("modle", ["model"], "remove it") == "did you mean 'model'?"
    assert did_you_mean("modle", ["model"], "remove it", option="--keep") == "did you mean --keep 'model'?"
    assert did_you_mean("zzz", ["model"], "remove it") == "remove it"


@given(st.text(), st.lists(st.text(), max_size=30))
def test_whatever_the_names_are_the_message_is_short(name: str, columns: list[str]) -> None:
    message = missing_column(name, "a.csv", columns, "--text-column")
    assert message.startswith(f"column {name!r} is not in a.csv (it has: {listed(columns)}); ")
    assert len(listed(columns)) <= 20 * 43 + 3
    assert message.endswith(("pass --text-column", "?"))


@given(st.recursive(st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1), st.lists, max_leaves=5))
def test_a_value_comes_back_from_toml(value: object) -> None:
    line = f"key = {toml_value(value)}"
    assert "\n" not in line
    assert "\r" not in line
    assert tomllib.loads(line) == {"key": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_from_toml(value: float) -> None:
    assert tomllib.loads(f"key = {toml_value(value)}") == {"key": value}
