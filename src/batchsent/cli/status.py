"""``batchsent status``"""

from __future__ import annotations

import click

from batchsent.cli.arguments import directory_argument
from batchsent.cli.help import Command
from batchsent.cli.lines import echo_lines


@click.command(name="status", cls=Command)
@directory_argument
def command(directory: str) -> None:
    """Show how far the run in DIR is, or where it stopped and why. Writes nothing.

    DIR is what 'batchsent score' was given as --output.

    \b
    Examples:
      batchsent status scored
      watch batchsent status scored
    """
    from batchsent.directory import recorded_identity
    from batchsent.reporting.status import status_lines
    from batchsent.stages.planner import place
    from batchsent.stores import open_store

    store = open_store(place(directory, "DIR"))
    echo_lines(status_lines(store, recorded_identity(store)))
