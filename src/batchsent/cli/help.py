"""What --help looks like: commands by task, options by group; and what is said of a command that there is not."""

from __future__ import annotations

import click

from batchsent.cli.arguments import UNGROUPED
from batchsent.errors import UsageError
from batchsent.options import GROUPS
from batchsent.suggestions import did_you_mean

_NAME_WIDTH = 26
"""Of the column of names: a longer one gets a line of its own."""


class Command(click.Command):
    """A command whose --help lists its options group by group."""

    def get_help_option_names(self, _ctx: click.Context) -> list[str]:
        """Whoever asks first: click keeps what it was then."""
        return ["-h", "--help"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, those that belong to none first."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (UNGROUPED, *GROUPS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections[getattr(parameter, "group", UNGROUPED)].append(record)
        write_sections(formatter, sections)


class Group(click.Group):
    """A group that names the command which a misspelt one may have been meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, but for the error."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(
                f"{ctx.command_path} has no command {name!r}",
                f"one of {', '.join(known)}",
                did_you_mean(name, known, f"see '{ctx.command_path} --help'"),
            )
        return super().resolve_command(ctx, args)


def write_sections(formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write what has rows under its title, all with one column of names."""
    names = [name for rows in sections.values() for name, _ in rows]
    width = max((len(name) for name in names if len(name) <= _NAME_WIDTH), default=0)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows], col_max=width)
