"""Click options made from the fields of a command's config, so that there is one list of them."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Callable
from dataclasses import Field
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from batchsent.cli.arguments import Choice, option
from batchsent.config import ScoreConfig
from batchsent.errors import UsageError
from batchsent.options import AUTO, option_fields, option_name
from batchsent.suggestions import did_you_mean

Command = Callable[..., Any]


class AutoInt(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5
    """A whole number, or 'auto'."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Click's own conversion, but for the word 'auto'."""
        if value == AUTO:
            return AUTO
        number: int = click.INT.convert(value, param, ctx)
        return number

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """The word."""
        return [CompletionItem(AUTO)] if AUTO.startswith(incomplete) else []


class Template(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5
    """Text in which '\\n' stands for a line break, as a shell hands it over."""

    name = "TEMPLATE"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        """Put the line breaks in."""
        return str(value).replace("\\n", "\n")


class Character(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5
    """A delimiter; '\\t' is a tab, as a shell hands it over."""

    name = "CHAR"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        """Make a tab of what stands for one."""
        return "\t" if value == "\\t" else str(value)


_OF_METAVAR: dict[str, Any] = {kind.name: kind for kind in (Template(), Character())}


def options_named(*names: str) -> Callable[[Command], Command]:
    """Give a command these options of ScoreConfig, as ``batchsent score`` has them."""

    def decorate(command: Command) -> Command:
        for definition in reversed(option_fields(ScoreConfig)):
            command = _option(ScoreConfig, definition)(command) if definition.name in names else command
        return command

    return decorate


def options_of(config: type) -> Callable[[Command], Command]:
    """Give a command every option of its ``config``, in the order of its fields, and ``--config`` for a job file."""

    def decorate(command: Command) -> Command:
        for definition in reversed(option_fields(config)):
            command = _option(config, definition)(command)
        return option(
            "--config",
            metavar="FILE",
            callback=partial(_read_job_file, config),
            is_eager=True,
            expose_value=False,
            help="TOML job file with the names of these options; the command line wins.",
        )(command)

    return decorate


def _option(config: type, definition: Field[Any]) -> Callable[[Command], Command]:
    rule, name = definition.metadata, f"--{option_name(definition.name)}"
    described = _members(config, definition)
    settings: dict[str, Any] = {"help": rule["help"], "default": definition.default, "group": rule["group"]}
    if described == {bool}:
        return option(name, is_flag=True, **settings)
    if isinstance(definition.default, tuple):
        settings["multiple"] = True
    if rule["choices"]:
        settings["type"] = Choice(rule["choices"])
    else:
        settings["type"] = _OF_METAVAR.get(rule["metavar"]) or _click_type(described)
        settings["metavar"] = rule["metavar"]
    settings["show_default"] = definition.default not in (None, ())
    return option(name, **settings)


def _members(config: type, definition: Field[Any]) -> set[Any]:
    """The types that one value of an option may have."""
    described = typing.get_type_hints(config)[definition.name]
    return (set(typing.get_args(described)) or {described}) - {type(None), Ellipsis}


def _click_type(members: set[Any]) -> Any:
    if int in members:
        return AutoInt() if len(members) > 1 else click.INT
    return click.FLOAT if float in members else click.STRING


def _read_job_file(config: type, ctx: click.Context, _parameter: click.Parameter, path: str | None) -> str | None:
    """Make a TOML file's values the defaults of this command; the command line wins. Unknown keys are an error."""
    if path is None:
        return None
    try:
        with open(path, "rb") as job:  # noqa: PTH123 - a Path would write a URI anew, and its password be missed
            content = tomllib.load(job)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"--config {path} cannot be read ({reason})", "a TOML file in UTF-8", "check the path"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"--config {path} is not TOML ({error})", 'lines such as text-column = "body"', "mend that line"
        ) from error
    known = {option_name(f.name) for f in option_fields(config)} | {"input", "output"}
    unknown = sorted(set(content) - known)
    if unknown:
        raise UsageError(
            f"{path} has the unknown key {unknown[0]!r}",
            f"one of: {', '.join(sorted(known))}",
            did_you_mean(unknown[0], sorted(known), "remove it"),
        )
    for key, value in content.items():
        _require_type(config, path, key, value)
    inputs = content.pop("input", None)
    values: dict[str, Any] = {key.replace("-", "_"): value for key, value in content.items()}
    if inputs is not None:
        values["inputs"] = [inputs] if isinstance(inputs, str) else inputs
    ctx.default_map = {**(ctx.default_map or {}), **values}
    return path


def _require_type(config: type, path: str, key: str, value: object) -> None:
    """Click would turn a list into text and cut 2.5 to 2."""
    if key in ("input", "output"):
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        fits, wanted = isinstance(value, str) or (key == "input" and is_list), "a string"
    else:
        definition = next(f for f in option_fields(config) if option_name(f.name) == key)
        members = _members(config, definition)
        if isinstance(definition.default, tuple):
            fits = isinstance(value, list) and all(_fits(item, members)[0] for item in value)
            wanted = "a list of strings" if str in members else "a list of numbers"
        else:
            fits, wanted = _fits(value, members)
    if not fits:
        raise UsageError(f"{path}: {key} is {value!r}", wanted, "mend that line")


def _fits(value: object, members: set[Any]) -> tuple[bool, str]:
    """Whether a TOML value is of one of the types ``members``, and what these are called."""
    if bool in members:
        return isinstance(value, bool), "true or false"
    if float in members:
        return isinstance(value, int | float) and not isinstance(value, bool), "a number"
    if int in members:
        takes_auto = len(members) > 1
        return type(value) is int or (takes_auto and value == AUTO), "a whole number"
    return isinstance(value, str), "a string"
