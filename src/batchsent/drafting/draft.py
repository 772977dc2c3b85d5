"""INPUT → what a job file for it says."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchsent.drafting.columns import (
    Seen,
    columns_of,
    guess_label,
    guess_text,
    has_no_header,
    is_named_as_text,
    kept_as,
)
from batchsent.errors import InputError, UsageError
from batchsent.records import Shard
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess, Survey, SurveyRequest
from batchsent.stages.reader.delimited import DELIMITERS
from batchsent.suggestions import listed, missing_column

SHARDS_SURVEYED = 100
"""At most, evenly from all of them."""
RECORDS_SAMPLED = 100
"""Of each."""

_WIDE = ("utf-16", "utf-32")
"""Encodings in which ASCII is not ASCII."""


@dataclass(frozen=True)
class Draft:
    """What a job file says, and what it was made from."""

    inputs: tuple[str, ...]
    output: str
    text: str
    keep: tuple[str, ...]
    """As --keep takes it."""
    label: str | None
    encoding: str | None
    """None: the default."""
    delimiter: str | None
    """None: that of the extension."""
    columns: tuple[Seen, ...]
    shards: tuple[Shard, ...]
    surveys: tuple[Survey, ...]

    @property
    def is_foreign(self) -> bool:
        """Whether most letters of the text are not ASCII's."""
        return any(column.name == self.text and column.foreign_share > 0.5 for column in self.columns)

    def misfits(self) -> dict[str, list[Survey]]:
        """Files that the settings do not fit, by what is wrong with them."""
        readable = [survey for survey in self.surveys if survey.error is None]
        return {
            "cannot be read": [survey for survey in self.surveys if survey.error is not None],
            f"are not {self.encoding or 'utf-8'}": [s for s in readable if not _fits_encoding(s, self.encoding)],
            "have another delimiter": [s for s in readable if not _fits_delimiter(s, self.delimiter)],
            "lack the column of the text": [s for s in readable if s.columns and _lacks(s, self.text)],
        }


def draft(
    inputs: tuple[str, ...],
    *,
    text_column: str | None,
    encoding: str | None,
    delimiter: str | None,
    check: Callable[[], None] = lambda: None,
) -> Draft:
    """Look at ``inputs`` and guess what was not said (None). Raises UsageError where that cannot be."""
    if not inputs:
        raise UsageError("no INPUT was given", "files, directories or globs", "name at least one")
    shards = plan_shards(inputs, Path(os.devnull))
    with ReaderProcess(check) as reader:
        surveys = [
            reader.survey(SurveyRequest(shard, encoding, delimiter, RECORDS_SAMPLED))
            for shard in _evenly(shards, SHARDS_SURVEYED)
        ]
    readable = [survey for survey in surveys if survey.error is None]
    if not readable:
        others = len(surveys) - 1
        raise InputError(f"{surveys[0].error}{f' (nor can {others} others be read)' if others else ''}")
    columns = columns_of(readable)
    text = _text(columns, readable, text_column)
    return Draft(
        inputs,
        _free_output(inputs),
        text,
        _keep(columns, readable, text),
        label.name if (label := guess_label([c for c in columns if c.name != text])) else None,
        encoding or _encoding(readable),
        delimiter or _delimiter(readable),
        tuple(columns),
        tuple(shards),
        tuple(surveys),
    )


def _evenly(shards: Sequence[Shard], count: int) -> list[Shard]:
    if len(shards) <= count:
        return list(shards)
    return [shards[index * len(shards) // count] for index in range(count)]


def _text(columns: Sequence[Seen], surveys: Sequence[Survey], asked: str | None) -> str:
    names, place = [column.name for column in columns], _named(surveys)
    if asked is not None:
        if names and asked not in names:
            raise InputError(missing_column(asked, place, names, "--text-column"))
        return asked
    guessed = guess_text(columns)
    if guessed is None:
        raise InputError(
            f"no column of {place} looks like text (it has: {listed(names) or 'nothing'})",
            "a column of strings, such as 'text' or 'review'",
            "pass --text-column",
        )
    delimited = [survey for survey in surveys if survey.delimiter]
    if len(delimited) == len(surveys) and not is_named_as_text(guessed) and has_no_header(columns):
        raise InputError(
            f"the first line of {place} looks like a record",
            "a header with the names of the columns",
            "put one there, or pass --text-column if it is one",
        )
    return guessed.name


def _named(surveys: Sequence[Survey]) -> str:
    others = len(surveys) - 1
    return f"{surveys[0].shard.name}{f' and {others} others' if others else ''}"


def _keep(columns: Sequence[Seen], surveys: Sequence[Survey], text: str) -> tuple[str, ...]:
    """Identifiers and labels that every file has which would fail without them."""
    names = [column.name for column in columns]
    kept = []
    for column in columns:
        is_wanted = column.name != text and (column.is_id or column.is_label)
        if is_wanted and not any(_lacks(survey, column.name) for survey in surveys if survey.columns):
            written = kept_as(column, names)
            kept += [written] if written is not None else []
    return tuple(kept)


def _lacks(survey: Survey, name: str) -> bool:
    """The keys of JSON Lines may come and go."""
    return not survey.shard.is_json_lines and all(column.name != name for column in survey.columns)


def _encoding(surveys: Sequence[Survey]) -> str | None:
    """The one of most files whose text tells it; None if that is the default."""
    found = [survey.encoding for survey in surveys if survey.encoding]
    most = max(found, key=found.count, default="utf-8")
    return None if most == "utf-8" else most


def _fits_encoding(survey: Survey, encoding: str | None) -> bool:
    is_text = survey.shard.format != ".parquet"
    if is_text and not survey.encoding:
        return not (encoding or "").lower().startswith(_WIDE)
    return not is_text or survey.encoding == (encoding or "utf-8")


def _delimiter(surveys: Sequence[Survey]) -> str | None:
    """The one that fits most files; None if their extensions say it."""
    delimited = [survey for survey in surveys if survey.delimiter]
    choices = [None, *dict.fromkeys(survey.delimiter for survey in delimited)]
    return max(choices, key=lambda choice: sum(_fits_delimiter(survey, choice) for survey in delimited))


def _fits_delimiter(survey: Survey, delimiter: str | None) -> bool:
    if not survey.delimiter:
        return True
    return survey.delimiter == (DELIMITERS[survey.shard.format] if delimiter is None else delimiter)


def _free_output(inputs: Sequence[str]) -> str:
    """A directory that is not there yet: another run's would refuse other settings."""
    names = itertools.chain(["scored"], (f"scored-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name) and name not in inputs)
