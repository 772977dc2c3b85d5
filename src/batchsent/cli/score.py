"""``batchsent score``"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from batchsent.cli.arguments import inputs_argument, option
from batchsent.cli.help import Command
from batchsent.cli.lines import echo_lines
from batchsent.cli.options import options_of
from batchsent.config import ScoreConfig


@click.command(name="score", cls=Command)
@inputs_argument
@option("--output", metavar="DIR", help="Directory of the results; created if missing. Required.")
@option("--dry-run", is_flag=True, help="Score nothing: the same as 'batchsent plan'.")
@options_of(ScoreConfig)
def command(inputs: tuple[str, ...], output: str | None, dry_run: bool, **options: Any) -> None:
    """Score reviews and write a label and every probability per row, as Parquet.

    INPUT is a file, a directory or a glob of .parquet, .csv, .tsv, .jsonl or .ndjson (the text formats also
    compressed: .gz .zst .bz2 .xz). Kill it at any moment and run the same command again: it goes on where it
    was, and the result is the same.

    \b
    Examples:
      batchsent score reviews.csv --output scored
      batchsent score dumps/ --output scored --text-column body --keep id
      batchsent score reviews.csv --output scored --model ./my-model
      batchsent score --config reviews.toml
    """
    with _lines_in(options["log_format"], options["progress"]):
        if dry_run:
            from batchsent.cli import plan

            plan.run(plan.config_of(inputs, output, options))
            return
        run(ScoreConfig(inputs=tuple(inputs), output=output or "", **options))


@contextlib.contextmanager
def _lines_in(log_format: str, progress: str) -> Iterator[None]:
    """As JSON also what others print to stderr, and the line of an error, which main would print otherwise."""
    if log_format != "json":
        yield
        return
    from batchsent.cli import explained
    from batchsent.reporting import logs

    logs.configure(log_format, logs.new_run_id(), quiet=True)  # until there is a run
    try:
        # A bar is for a person, who asked for it.
        with contextlib.nullcontext() if progress == "bar" else logs.printed_lines_logged():
            yield
    except (BrokenPipeError, click.exceptions.Exit):
        raise
    except Exception as error:
        code, message = explained(error)
        is_debug = click.get_current_context().obj
        logging.getLogger("batchsent").log(
            logging.ERROR, "error: %s", message, extra={"exit_code": code}, exc_info=error if is_debug else None
        )
        raise click.exceptions.Exit(code) from error


def run(config: ScoreConfig) -> None:
    """Run the job under signals, logs and progress, and print the closing summary."""
    from batchsent.stop import StopSignal

    stop = StopSignal()
    stop.install()  # before the seconds that importing the rest may take

    from batchsent.errors import BatchsentError
    from batchsent.html_report.run import run_reported
    from batchsent.reporting import logs
    from batchsent.reporting.progress import choose_progress
    from batchsent.reporting.run_report import RunReport
    from batchsent.shares import share_from

    share = share_from(os.environ)
    report = RunReport()
    # Bars of several ranks on one terminal would paint over each other, and over JSON.
    has_bar = share.is_whole and config.log_format != "json"
    progress = choose_progress("log" if config.progress == "auto" and not has_bar else config.progress)
    # 'none' leaves warnings: what was asked for is silence about progress.
    logs.configure(config.log_format, report.run_id, quiet=config.progress == "none", share=share)
    try:
        run_reported(config, progress=progress, stop=stop, report=report, share=share)
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
        logging.getLogger("batchsent").info("summary", extra={"summary": report.to_dict()})
        return
    from batchsent.reporting.summary import summary_lines

    echo_lines(summary_lines(report, config.output))
