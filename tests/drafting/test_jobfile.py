"""A draft as TOML: complete, parseable whatever the names are, and without a word of a review."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsent.config import ScoreConfig
from batchsent.drafting.columns import columns_of
from batchsent.drafting.draft import Draft
from batchsent.drafting.jobfile import job_file
from batchsent.options import option_fields, option_name
from batchsent.records import Shard
from batchsent.stages.reader import Column, Survey

SHARD = Shard("a.csv", "a.csv", ".csv", "", 10)


def draft(names: list[str], **changes: Any) -> Draft:
    surveys = (Survey(SHARD, tuple(map(Column, names)), delimiter=","),)
    made = Draft(("a.csv",), "scored", names[0], (), None, None, None, tuple(columns_of(surveys)), (SHARD,), surveys)
    return dataclasses.replace(made, **changes)


def uncommented(text: str) -> str:
    """Every line that shows an option's default, taken for the option."""
    return "\n".join(re.findall(r"^(?:# )?([a-z-]+ = .*)$", text, re.MULTILINE))


def test_every_option_stands_there_and_the_defaults_are_the_defaults() -> None:
    text = job_file(draft(["text", "id"]), "job.toml")
    assert tomllib.loads(text) == {"input": ["a.csv"], "output": "scored", "text-column": "text"}
    settings = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in uncommented(text).splitlines()}
    options = {option_name(f.name): f for f in option_fields(ScoreConfig)}
    assert settings.keys() == options.keys() | {"input", "output"}
    for name, definition in options.items():
        assert tomllib.loads(f"{name} = {settings[name]}"), name
        if definition.default is not None:
            default = tuple if isinstance(definition.default, tuple) else lambda value: value
            assert default(tomllib.loads(f"{name} = {settings[name]}")[name]) == definition.default, name


def test_what_was_found_is_set() -> None:
    text = job_file(
        draft(["text", "label"], keep=("id", "label=input_label"), label="label", encoding="gb18030", delimiter="\t"),
        "job.toml",
    )
    assert tomllib.loads(text) == {
        "input": ["a.csv"],
        "output": "scored",
        "text-column": "text",
        "keep": ["id", "label=input_label"],
        "encoding": "gb18030",
        "delimiter": "\t",
    }
    assert re.search(r'^# label-column = "label"', text, re.MULTILINE)


def test_lines_are_short_but_for_long_names() -> None:
    text = job_file(draft(["text", "id"], keep=("id",)), "job.toml")
    assert [line for line in text.splitlines() if len(line) > 120] == []


@given(st.lists(st.text(), min_size=1, max_size=6), st.text(), st.lists(st.text()))
def test_whatever_the_names_are_it_is_toml_and_says_them(names: list[str], path: str, keep: list[str]) -> None:
    made = draft(names, label=names[-1], keep=tuple(keep), inputs=(path, *names), output=path)
    text = job_file(made, path)
    expected = {"input": [path, *names], "output": path, "text-column": names[0]} | ({"keep": keep} if keep else {})
    assert tomllib.loads(text) == expected
    text.encode()


def test_another_script_than_latin_is_said() -> None:
    column = Column("text", "string", True, 9, 9, mean_bytes=30, wordy_share=1, foreign_share=0.9)
    surveys = (Survey(SHARD, (column,), delimiter=","),)
    made = draft(["text"], columns=tuple(columns_of(surveys)), surveys=surveys)
    assert "reads English only" in job_file(made, "job.toml")
    assert "reads English only" not in job_file(draft(["text"]), "job.toml")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Survey(SHARD, error="a.csv is damaged"), "cannot be read"),
        (Survey(SHARD, (Column("text"),), encoding="gb18030", delimiter=","), "are not utf-8"),
        (Survey(SHARD, (Column("text"),), delimiter=";"), "have another delimiter"),
        (Survey(SHARD, (Column("body"),), delimiter=","), "lack the column of the text"),
    ],
)
def test_files_that_do_not_fit_are_named(other: Survey, said: str) -> None:
    made = draft(["text"])
    assert "exit 3." not in job_file(made, "job.toml")
    text = job_file(dataclasses.replace(made, surveys=(*made.surveys, other)), "job.toml")
    assert f'# "a.csv" {said}: `score` will report that and end with exit 3.' in text


def test_of_many_columns_and_files_some_are_listed() -> None:
    made = draft([f"column_{number}" for number in range(500)])
    text = job_file(dataclasses.replace(made, surveys=(*made.surveys, *[Survey(SHARD, error="x")] * 9)), "job.toml")
    assert "#   ... and 450 more" in text
    assert '# "a.csv", "a.csv", "a.csv" and 6 more cannot be read' in text
