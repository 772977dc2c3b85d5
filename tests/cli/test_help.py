"""--help: by task, by group, with examples, and within 80 columns."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import click
import pytest

from batchsent.cli import COMMANDS, TASKS
from batchsent.config import ScoreConfig
from batchsent.options import GROUPS, option_fields, option_name

from .conftest import Run


def commands() -> Iterator[tuple[str, ...]]:
    yield ()
    for name, (module, _, _) in COMMANDS.items():
        yield (name,)
        command = importlib.import_module(f"batchsent.cli.{module}").command
        if isinstance(command, click.Group):
            yield from ((name, below) for below in command.commands)


def sections(text: str) -> dict[str, list[str]]:
    """Heading → the names at the beginnings of its lines."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if re.fullmatch(r"\S.*:", line):
            heading = line.removesuffix(":")
        elif (name := re.match(r"  (\S+)", line)) and heading:
            found.setdefault(heading, []).append(name[1])
    return found


@pytest.mark.parametrize("words", list(commands()))
def test_help_reads_well_at_80_columns(run: Run, words: tuple[str, ...]) -> None:
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", [words for words in commands() if words not in [("models",), ("completion",)]])
def test_help_shows_examples(run: Run, words: tuple[str, ...]) -> None:
    _, out, _ = run(*words, "--help")
    _, _, examples = out.partition("  Examples:\n")
    assert re.match(rf"    (watch )?{' '.join(('batchsent', *words))} ?\S*", examples)


def test_commands_stand_under_their_task(run: Run) -> None:
    found = sections(run("--help")[1])
    assert [heading for heading in found if heading in TASKS] == list(TASKS)
    assert {name: task for task in TASKS for name in found[task]} == {
        name: task for name, (_, _, task) in COMMANDS.items()
    }


def test_options_stand_under_their_group(run: Run) -> None:
    found = sections(run("score", "--help")[1])
    groups = [group for group in GROUPS if any(f.metadata["group"] == group for f in option_fields(ScoreConfig))]
    assert list(found) == ["Options", *groups]
    assert found["Options"] == ["--output", "--dry-run", "--config", "-h,"]
    for group in groups:
        expected = [f"--{option_name(f.name)}" for f in option_fields(ScoreConfig) if f.metadata["group"] == group]
        assert found[group] == expected


@pytest.mark.parametrize("words", [words for words in commands() if words])
def test_no_option_of_a_command_is_missing_in_its_help(run: Run, words: tuple[str, ...]) -> None:
    command = importlib.import_module(f"batchsent.cli.{COMMANDS[words[0]][0]}").command
    if len(words) > 1:
        command = command.commands[words[1]]
    listed = {name for names in sections(run(*words, "--help")[1]).values() for name in names}
    assert {option.opts[0] for option in command.params if isinstance(option, click.Option)} <= listed
