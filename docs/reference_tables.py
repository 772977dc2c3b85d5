"""Writes what the pages in reference/ take from the code: commands, fields, functions, the tree of errors.

    python docs/reference_tables.py

A page says between which marks: ``<!-- made of commands -->``, ``<!-- made of fields MODULE.CLASS -->``,
``<!-- made of function MODULE.NAME -->`` or ``<!-- made of docstring MODULE -->``, and ``<!-- end -->``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from batchsent.cli import cli
from batchsent.config import ScoreConfig
from batchsent.options import option_fields, option_name

PAGES = sorted((Path(__file__).parent / "reference").glob("*.md"))
_MARKED = re.compile(r"(<!-- made of (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)
_ROLE = re.compile(r":\w+:`([^`]+)`|``([^`]+)``")
"""What docstrings have of reStructuredText."""


def updated(text: str) -> str:
    """``text`` with what the code has today between the marks."""
    return _MARKED.sub(lambda mark: f"{mark[1]}\n{_MAKERS[mark[2]](mark[3]).strip()}\n\n{mark[4]}", text)


def commands(_name: str) -> str:
    """Every command: its help, and a table of its options."""
    return "\n".join(_command(cli, click.Context(cli, info_name="batchsent"), "##"))


def _command(command: click.Command, ctx: click.Context, heading: str) -> Iterator[str]:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    yield f"{heading} {ctx.command_path}\n\n```\n{usage}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        # As click has it: behind \b, lines stay as they are.
        yield f"```\n{paragraph[2:]}\n```\n" if paragraph.startswith("\b\n") else f"{paragraph}\n"
    records = [parameter.get_help_record(ctx) for parameter in command.params]  # every one has --help
    yield "| option | |\n|---|---|"
    yield from (f"| `{_cell(record[0])}` | {_cell(record[1])} |" for record in records if record and record[1])
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None:
                yield from _command(found, click.Context(found, parent=ctx, info_name=name), heading)


def fields(name: str) -> str:
    """A table of a dataclass: its fields, their types, and the docstrings that stand below them."""
    module_name, _, class_name = name.rpartition(".")
    source = Path(inspect.getfile(importlib.import_module(module_name)))
    tree = ast.parse(source.read_text(encoding="utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
    options = {field.name for field in option_fields(ScoreConfig)}
    rows = ["| field | type | |", "|---|---|---|"]
    for node, following in zip(found.body, [*found.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            field = ast.unparse(node.target)
            # What has no docstring was asked for by the option of that name.
            meaning = _text_of(following) or (f"`--{option_name(field)}`" if field in options else "")
            rows.append(f"| `{field}` | `{_cell(ast.unparse(node.annotation))}` | {_cell(meaning)} |")
    return "\n".join(rows)


def _text_of(node: ast.stmt) -> str:
    """Of a docstring; else nothing."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return " ".join(str(ast.literal_eval(node.value)).split()) if is_text and isinstance(node, ast.Expr) else ""


def function(name: str) -> str:
    """Its signature and its docstring."""
    module_name, _, function_name = name.rpartition(".")
    found = getattr(importlib.import_module(module_name), function_name)
    signature = inspect.signature(found)
    lines: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {stars}{parameter.name}: {parameter.annotation}{default},")
    head = "\n".join([f"{name}(", *lines, f") -> {signature.return_annotation}"])
    return f"```python\n{head}\n```\n\n{_plain(inspect.getdoc(found) or '')}"


def docstring(name: str) -> str:
    """Of a module, as it stands there."""
    return f"```\n{inspect.getdoc(importlib.import_module(name))}\n```"


def _cell(text: str) -> str:
    return " ".join(_plain(text).replace("|", "\\|").split())


def _plain(text: str) -> str:
    return _ROLE.sub(lambda role: f"`{role[1] or role[2]}`", text)


_MAKERS: dict[str, Callable[[str], str]] = {
    "commands": commands,
    "fields": fields,
    "function": function,
    "docstring": docstring,
}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
