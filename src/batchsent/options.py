"""What an option is, and those that several commands have: one definition of each.

Does not read files, look at the machine or load a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypeVar

from batchsent.errors import UsageError
from batchsent.suggestions import did_you_mean

Kind = Literal["identity", "gate", "machine", "other"]
"""identity: decides the numbers. gate: decides what is published. machine: never changes a byte."""

Auto = Literal["auto"]
AUTO: Auto = "auto"

T = TypeVar("T")

GROUPS = INPUT, MODEL, TRAINING, SPEED, QUALITY, MACHINE = (
    "Input",
    "Model",
    "Training",
    "Speed and memory",
    "What may be published",
    "Machine",
)
"""In the order of --help and of the documentation."""


def option(
    default: T,
    help_text: str,
    *,
    kind: Kind,
    group: str,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> T:
    """A field of a config with what the command line and the documentation say about it."""
    metadata = {
        "help": help_text,
        "kind": kind,
        "group": group,
        "metavar": metavar,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every command is asked for that reads records and fills a directory."""

    inputs: tuple[str, ...]
    output: str

    text_column: str = option("text", "Column that holds the text.", kind="identity", group=INPUT, metavar="NAME")
    encoding: str = option("utf-8", "Encoding of the text formats.", kind="identity", group=INPUT, metavar="NAME")
    delimiter: str | None = option(
        None, "Field delimiter of CSV and TSV; by extension if not given.", kind="identity", group=INPUT, metavar="CHAR"
    )
    threads: int | Auto = option(
        AUTO, "CPU threads of the model.", kind="identity", group=SPEED, metavar="N|auto", minimum=1
    )
    device: str = option(AUTO, "auto, cpu, cuda or cuda:N.", kind="machine", group=MACHINE, metavar="DEVICE")
    progress: str = option(
        AUTO, "bar on a terminal, log elsewhere.", kind="machine", group=MACHINE, choices=(AUTO, "bar", "log", "none")
    )
    restart: bool = option(False, "Discard what an earlier run with other settings left.", kind="other", group=MACHINE)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UsageError("no INPUT was given", "files, directories or globs", "name at least one")
        if not self.output:
            raise UsageError("no output directory was given", "--output DIR", "name one")
        for definition in option_fields(type(self)):
            _check(definition, getattr(self, definition.name))
        _check_device(self.device)


def option_fields(of: type) -> tuple[Field[Any], ...]:
    """The fields of a command's config that are options (all but the inputs and the output), group by group."""
    return tuple(sorted((f for f in fields(of) if f.metadata), key=lambda f: GROUPS.index(f.metadata["group"])))


def option_name(field_name: str) -> str:
    """The option's name on the command line and in a job file."""
    return field_name.replace("_", "-")


def no_such_choice(what: str, value: object, choices: Sequence[str]) -> UsageError:
    """The error for ``value`` of ``what``, which is none of ``choices``."""
    return UsageError(
        f"{what} is {value!r}", f"one of {', '.join(choices)}", did_you_mean(str(value), choices, "choose one")
    )


def _check(definition: Field[Any], value: object) -> None:
    name, rule = option_name(definition.name), definition.metadata
    if definition.default is MISSING or (value == definition.default and type(value) is type(definition.default)):
        return
    if rule["choices"]:
        if value not in rule["choices"]:
            raise no_such_choice(f"--{name}", value, rule["choices"])
        return
    is_numeric, takes_several = rule["minimum"] is not None, isinstance(definition.default, tuple)
    if is_numeric and not takes_several:
        _check_number(definition, value)
        return
    wanted = str if definition.default is None else type(definition.default)
    if not isinstance(value, wanted):
        raise UsageError(f"--{name} is {value!r}", f"a {wanted.__name__}", "give one")
    for item in value if isinstance(value, tuple) else ():
        if is_numeric:
            _check_number(definition, item)
        elif not isinstance(item, str):
            raise UsageError(f"--{name} is {value!r}", f"a {wanted.__name__}", "give one")


def _check_number(definition: Field[Any], value: object) -> None:
    name, rule = option_name(definition.name), definition.metadata
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"--{name} is {value!r}", "a number", "give one")
    if isinstance(value, float) and "float" not in definition.type:
        raise UsageError(f"--{name} is {value!r}", "a whole number", "give one")
    if not value >= rule["minimum"] or (rule["maximum"] is not None and value > rule["maximum"]):
        upper = "" if rule["maximum"] is None else f" and at most {rule['maximum']}"
        raise UsageError(f"--{name} is {value}", f"at least {rule['minimum']}{upper}", "choose another")


def _check_device(device: str) -> None:
    """Raise UsageError unless --device is spelled like one."""
    kind, colon, index = device.partition(":")
    if device in (AUTO, "cpu", "cuda") or (kind == "cuda" and colon and index.isdecimal()):
        return
    raise UsageError(f"--device is {device!r}", "auto, cpu, cuda or cuda:N", "choose one")
