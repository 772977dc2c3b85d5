"""The arguments that several commands take, and what Tab offers for the values of options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from batchsent.options import no_such_choice

UNGROUPED = "Options"
"""The heading in --help of options that belong to no group."""

Complete = Callable[[click.Context, click.Parameter, str], list["CompletionItem[str]"]]


class Choice(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2
    """One of a few words; the error for another one says which may have been meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own conversion, but for the error."""
        try:
            return str(super().convert(value, param, ctx))
        except click.BadParameter:
            what = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name if param else "it"
            raise no_such_choice(what, value, [str(choice) for choice in self.choices]) from None


def files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Files and folders, as the shell itself lists them."""
    return [CompletionItem(incomplete, type="file")]


def directories(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Folders, as the shell itself lists them."""
    return [CompletionItem(incomplete, type="dir")]


def models(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The embedded model, those in the hub's cache, and folders; bash takes folders only where no name fits."""
    from batchsent.models.nearby import cached_repositories

    names = [name for name in ("embedded", *cached_repositories()) if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


def devices(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """What --device takes, but for the number of a GPU."""
    return [CompletionItem(name) for name in ("auto", "cpu", "cuda") if name.startswith(incomplete)]


COMPLETIONS: dict[str, Complete] = {
    "DEVICE": devices,
    "DIR": directories,
    "FILE": files,
    "ID_OR_DIR": models,
    "INPUT": files,
    "MANIFEST": files,
}
"""By an option's metavar."""


class Option(click.Option):
    """An option of one of options.GROUPS, whose values Tab completes by its metavar."""

    def __init__(self, *arguments: Any, group: str = UNGROUPED, **settings: Any) -> None:
        settings.setdefault("shell_complete", COMPLETIONS.get(settings.get("metavar") or ""))
        super().__init__(*arguments, **settings)
        self.group = group


option = partial(click.option, cls=Option)
inputs_argument = click.argument("inputs", nargs=-1, metavar="INPUT...", shell_complete=files)
directory_argument = click.argument("directory", metavar="DIR", shell_complete=directories)
