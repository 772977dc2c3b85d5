"""``batchsent publish``"""

from __future__ import annotations

import click

from batchsent.cli.arguments import directory_argument, option
from batchsent.cli.help import Command
from batchsent.cli.lines import echo_lines


@click.command(name="publish", cls=Command)
@directory_argument
@option("--accept-drift", is_flag=True, help="You have looked at how far the predictions have moved. Required.")
def command(directory: str, accept_drift: bool) -> None:
    """Publish what the drift gate held back (exit 4 of 'batchsent score').

    Look first: 'batchsent status DIR' says what has moved, 'batchsent report DIR' shows it. Nothing is scored again,
    and only what was held back can be published: after any other error the run has to be finished.

    \b
    Examples:
      batchsent publish scored --accept-drift
    """
    from batchsent.acceptance import accept_drift as accept
    from batchsent.errors import UsageError
    from batchsent.reporting.summary import summary_lines
    from batchsent.stages.planner import place
    from batchsent.stores import open_store

    if not accept_drift:
        raise UsageError(
            f"publish {directory} without --accept-drift",
            "that option, as a word that somebody has looked",
            f"see in 'batchsent status {directory}' how far the predictions have moved, then pass it",
        )
    report = accept(open_store(place(directory, "DIR")))
    echo_lines(summary_lines(report, directory))
