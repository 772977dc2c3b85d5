"""``batchsent score``"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from batchsent.cli.options import options_of
from batchsent.config import ScoreConfig


@click.command(name="score")
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option("--output", metavar="DIR", help="Directory of the results; created if missing. Required.")
@click.option("--dry-run", is_flag=True, help="Score nothing: the same as 'batchsent plan'.")
@options_of(ScoreConfig)
def command(inputs: tuple[str, ...], output: str | None, dry_run: bool, **options: Any) -> None:
    """Score reviews and write a label and every probability per row, as Parquet.

    INPUT is a file, a directory or a glob of .parquet, .csv, .tsv, .jsonl or .ndjson (the text formats also
    compressed: .gz .zst .bz2 .xz). Kill it at any moment and run the same command again: it goes on where it
    was, and the result is the same.

    \b
    batchsent score reviews.csv --output scored
    batchsent score dumps/ --output scored --text-column body --keep id --keep stars=rating
    """
    if dry_run:
        from batchsent.cli import plan

        plan.run(plan.config_of(inputs, output, options))
        return
    run(ScoreConfig(inputs=tuple(inputs), output=output or "", **options))


def run(config: ScoreConfig) -> None:
    """Run the job under signals, logs and progress, and print the closing summary."""
    from batchsent.stop import StopSignal

    stop = StopSignal()
    stop.install()  # before the seconds that importing the rest may take

    from batchsent.errors import BatchsentError
    from batchsent.job import run_job
    from batchsent.reporting import logs
    from batchsent.reporting.progress import choose_progress
    from batchsent.reporting.run_report import RunReport
    from batchsent.shares import share_from

    share = share_from(os.environ)
    report = RunReport()
    # Bars of several ranks on one terminal would paint over each other.
    progress = choose_progress("log" if config.progress == "auto" and not share.is_whole else config.progress)
    # 'none' leaves warnings: what was asked for is silence about progress.
    logs.configure(config.log_format, report.run_id, quiet=config.progress == "none", share=share)
    try:
        run_job(config, progress=progress, stop=stop, report=report, share=share)
    except BatchsentError as error:
        if report.state != "running":
            _close(report, config)
        if not share.is_whole:
            error.attribute_to(str(share))
        raise
    _close(report, config)


def _close(report: Any, config: ScoreConfig) -> None:
    """Print the summary; that nobody reads it does not change what the run has done, nor its exit code."""
    from batchsent.cli import drop_output

    try:
        _print_summary(report, config)
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop_output()


def _print_summary(report: Any, config: ScoreConfig) -> None:
    if config.progress == "none":
        return
    if config.log_format == "json":
        import logging

        logging.getLogger("batchsent").info("summary", extra={"summary": report.to_dict()})
        return
    from batchsent.reporting.summary import summary_lines

    lines = summary_lines(report, config.output)
    width = max(len(name) for name, _ in lines)
    # At once: those of several ranks may meet on one terminal.
    click.echo("\n".join(f"{name:>{width}}  {value}" for name, value in lines))
