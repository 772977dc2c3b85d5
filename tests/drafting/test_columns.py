"""Which column is probably what."""

from __future__ import annotations

import pytest

from batchsent.drafting.columns import columns_of, guess_label, guess_text, has_no_header, kept_as
from batchsent.records import Shard
from batchsent.stages.reader import Column, Survey


def survey(*columns: Column, name: str = "a.csv") -> Survey:
    return Survey(Shard(name, name, ".csv", "", 1), columns, delimiter=",")


def text(name: str, mean_bytes: float = 100) -> Column:
    return Column(name, "string", True, 100, 100, mean_bytes=mean_bytes, wordy_share=1)


def word(name: str, distinct_count: int = 100) -> Column:
    return Column(name, "string", True, 100, distinct_count, mean_bytes=10)


def number(name: str, distinct_count: int = 100) -> Column:
    return Column(name, "whole numbers", True, 100, distinct_count, mean_bytes=2)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([word("id"), text("text", 5)], "text"),
        ([text("title", 500), text("review", 50)], "review"),
        ([text("summary", 500), text("Review Text", 50)], "Review Text"),
        ([text("summary"), text("reviewText")], "reviewText"),
        ([text("Body"), text("review")], "review"),
        ([word("编号"), Column("评论", "string", True, 9, 9, mean_bytes=9, wordy_share=1)], "评论"),
        ([word("编号"), text("评论内容")], "评论内容"),
        ([text("内容"), text("标题")], "内容"),
        ([text("Was gefiel Ihnen?", 80), text("name", 12)], "Was gefiel Ihnen?"),
        ([text("description", 900), text("customer_review", 50)], "customer_review"),
        ([text("long", 300), text("longer", 400), text("short", 30)], "longer"),
        ([number("comments"), text("what")], "what"),
        ([word("text", 5)], "text"),
        ([Column("text")], "text"),
        ([text("text"), text("text"), text("other")], "other"),
        ([word("id"), number("stars"), word("url")], None),
        ([text("name", 12)], None),
        ([Column("text", "int64", False, 100, 100)], None),
        ([], None),
    ],
)
def test_the_text(columns: list[Column], expected: str | None) -> None:
    guessed = guess_text(columns_of([survey(*columns)]))
    assert (guessed.name if guessed else None) == expected


def test_the_text_is_what_most_files_have() -> None:
    files = [survey(text("body")), survey(text("text"), text("body")), survey(text("body"))]
    guessed = guess_text(columns_of(files))
    assert guessed is not None
    assert (guessed.name, guessed.shard_count) == ("body", 3)


@pytest.mark.parametrize(
    ("column", "is_id", "is_label"),
    [
        (word("id"), True, False),
        (word("reviewerID"), True, False),
        (word("review_id"), True, False),
        (word("ID_of_user"), True, False),
        (word("asin"), True, False),
        (word("评论编号"), True, False),
        (word("video"), False, False),
        (word("identity"), False, False),
        (number("stars", 5), False, True),
        (number("stars", 50), False, False),
        (word("Sentiment", 3), False, True),
        (word("star_rating", 5), False, True),
        (number("评分", 5), False, True),
        (Column("label"), False, True),
        (text("label"), False, False),
        (word(""), False, False),
    ],
)
def test_identifiers_and_labels(column: Column, is_id: bool, is_label: bool) -> None:
    (seen,) = columns_of([survey(column)])
    assert (seen.is_id, seen.is_label) == (is_id, is_label)


def test_the_label_is_what_is_named_so_rather_than_stars() -> None:
    guessed = guess_label(columns_of([survey(number("stars", 5), word("sentiment", 2))]))
    assert guessed is not None
    assert guessed.name == "sentiment"
    assert guess_label(columns_of([survey(text("text"))])) is None
    assert guess_label(columns_of([survey(number("stars", 5), number("stars", 5))])) is None, "no option can name it"


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["id"], "id"),
        (["label"], "label=input_label"),
        (["label", "input_label"], "label=input_label_"),
        (["a=b"], None),
        ([""], None),
        (["id", "id"], None),
    ],
)
def test_what_keep_is_given(names: list[str], written: str | None) -> None:
    seen = columns_of([survey(*map(word, names))])
    assert kept_as(seen[0], names) == written


def test_a_first_record_is_no_header() -> None:
    assert has_no_header(columns_of([survey(number("17"), text("A very good kettle"))]))
    assert not has_no_header(columns_of([survey(number("id"), text("text"))]))
    assert not has_no_header(columns_of([survey(word("2019"), text("text"))]))
