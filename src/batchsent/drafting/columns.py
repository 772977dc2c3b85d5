"""Which column is probably what: the text, an identifier, a label. By names, then by what the values look like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchsent.schema import OUR_COLUMNS
from batchsent.stages.reader import Column, Survey

TEXT_NAMES = (
    *("text", "review", "reviewtext", "reviewbody", "reviewcontent", "body", "comment", "comments", "commenttext"),
    *("content", "message", "feedback", "sentence", "opinion", "verbatim"),
    *("评论", "评论内容", "评价", "评价内容", "内容", "点评", "正文", "留言", "反馈", "文本"),
)
"""As :func:`_plain` writes them, the surest first."""

LABEL_NAMES = (
    *("label", "labels", "sentiment", "polarity", "stars", "star", "starrating", "rating", "ratings", "score"),
    *("overall", "grade", "class", "category", "target", "gold", "truth", "recommended"),
    *("标签", "情感", "情感倾向", "星级", "评分", "打分", "分数", "类别"),
)

_TEXT_WORDS = {"text", "review", "body", "comment", "content", "message", "feedback"}
_ID_WORDS = {"id", "uuid", "guid", "key", "asin", "sku"}
_ID_ENDINGS = ("编号", "序号")
_MOST_LABELS = 20
_LEAST_BYTES = 20
"""Of a text on average, where its name does not say that it is one: about four words, or seven Chinese characters."""
_NUMERIC = ("whole numbers", "numbers")


@dataclass(frozen=True)
class Seen:
    """A column in all files that have it; the counts are of one file's first records, the largest."""

    name: str
    types: tuple[str, ...]
    shard_count: int
    is_string: bool
    is_repeated: bool
    """A file has it twice, so that no option can name it."""
    filled_count: int
    distinct_count: int
    mean_bytes: float
    wordy_share: float
    foreign_share: float

    @property
    def is_wordy(self) -> bool:
        """Whether its values look like sentences."""
        return self.is_string and self.wordy_share >= 0.5 and self.mean_bytes >= _LEAST_BYTES

    @property
    def may_be_text(self) -> bool:
        """Whether ``score`` could take it for the text."""
        return self.is_string and not self.is_repeated and not set(self.types) & set(_NUMERIC)

    @property
    def is_label(self) -> bool:
        """Whether it may hold the true labels."""
        return not self.is_repeated and _plain(self.name) in LABEL_NAMES and self.distinct_count <= _MOST_LABELS

    @property
    def is_id(self) -> bool:
        """Whether it may tell one record, user or product from another."""
        words = _words(self.name)
        return bool({words[0], words[-1]} & _ID_WORDS) if words else self.name.endswith(_ID_ENDINGS)


def columns_of(surveys: Iterable[Survey]) -> list[Seen]:
    """Every column, in order of appearance."""
    found: dict[str, list[list[Column]]] = {}
    for survey in surveys:
        for name in dict.fromkeys(column.name for column in survey.columns):
            found.setdefault(name, []).append([column for column in survey.columns if column.name == name])
    return [_seen(name, columns) for name, columns in found.items()]


def _seen(name: str, by_shard: Sequence[Sequence[Column]]) -> Seen:
    columns = [column for columns in by_shard for column in columns]
    filled = [column for column in columns if column.filled_count]
    return Seen(
        name,
        tuple(dict.fromkeys(column.type for column in columns if column.type)),
        len(by_shard),
        is_string=all(column.is_string for column in columns),
        is_repeated=any(len(columns) > 1 for columns in by_shard),
        filled_count=max(column.filled_count for column in columns),
        distinct_count=max(column.distinct_count for column in columns),
        mean_bytes=_mean([column.mean_bytes for column in filled]),
        wordy_share=_mean([column.wordy_share for column in filled]),
        foreign_share=_mean([column.foreign_share for column in filled]),
    )


def guess_text(columns: Sequence[Seen]) -> Seen | None:
    """The column with the reviews: the one that most files have of those so named, else of those that read like it."""
    candidates = [column for column in columns if column.may_be_text]
    named = [column for column in candidates if _plain(column.name) in TEXT_NAMES]
    if named:
        return min(named, key=lambda column: (-column.shard_count, TEXT_NAMES.index(_plain(column.name))))
    wordy = [column for column in candidates if column.is_wordy]
    hinted = [column for column in wordy if _TEXT_WORDS & set(_words(column.name))]
    return max(hinted or wordy, key=lambda column: (column.shard_count, column.mean_bytes), default=None)


def is_named_as_text(column: Seen) -> bool:
    """Whether its name alone says so."""
    return _plain(column.name) in TEXT_NAMES


def guess_label(columns: Sequence[Seen]) -> Seen | None:
    """The column with the true labels, if one may hold them."""
    labels = [column for column in columns if column.is_label]
    return min(labels, key=lambda column: (-column.shard_count, LABEL_NAMES.index(_plain(column.name))), default=None)


def kept_as(column: Seen, taken: Iterable[str]) -> str | None:
    """What --keep is given to copy a column: its name, and a new one where it is one of ours; None if it cannot be."""
    name = column.name
    if column.is_repeated or not name or "=" in name:
        return None
    if name not in OUR_COLUMNS:
        return name
    new = f"input_{name}"
    while new in taken:
        new += "_"
    return f"{name}={new}"


def has_no_header(columns: Sequence[Seen]) -> bool:
    """Whether the names of columns are rather the values of a first record: numbers above numbers."""
    return any(set(column.types) & set(_NUMERIC) and _is_number(column.name) for column in columns)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _plain(name: str) -> str:
    """In lower case, letters and digits only: 'Review Text', 'review_text' and 'reviewText' are one name."""
    return "".join(character for character in name.lower() if character.isalnum())


def _words(name: str) -> list[str]:
    """The words that a name of Latin letters is made of: 'reviewerID' has two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
