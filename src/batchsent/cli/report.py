"""``batchsent report``"""

from __future__ import annotations

from typing import Any

import click

from batchsent.cli.arguments import directory_argument, option
from batchsent.cli.help import Command


@click.command(name="report", cls=Command)
@directory_argument
@option("--output", metavar="FILE", help="The page; NAME-report.html here if not given, NAME being DIR's own.")
@option("--baseline", metavar="MANIFEST", help="manifest.json of an earlier run: how far this one has moved.")
@option(
    "--map",
    "maps",
    multiple=True,
    metavar="VALUES=LABEL",
    help="These values of the run's label column mean that label; others are left out. Repeatable.",
)
@option("--include-text", is_flag=True, help="Show what rejected rows hold, read again from the inputs.")
def command(directory: str, **options: Any) -> None:
    """Write one HTML page of what the run in DIR has done; it needs no network and no other file.

    What was scored with what, labels, confidence and lengths, drift, quality where the run had a --label-column,
    rejected rows, speed. DIR may be published, held back, stopped or still running. Without --include-text the page
    holds no text of a review.

    \b
    Examples:
      batchsent report scored
      batchsent report scored --map 1,2=NEGATIVE --map 4,5=POSITIVE
      batchsent report scored --baseline last-month/_batchsent/manifest.json
    """
    from batchsent.html_report.config import ReportConfig
    from batchsent.html_report.run import write_report

    path = write_report(ReportConfig(directory=directory, **options))
    click.echo(f"written: {path}")
