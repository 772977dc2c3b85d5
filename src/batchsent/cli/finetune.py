"""``batchsent finetune``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchsent.cli.arguments import inputs_argument, option
from batchsent.cli.help import Command
from batchsent.cli.lines import echo_lines
from batchsent.cli.options import options_of
from batchsent.training.recipe import FinetuneConfig

if TYPE_CHECKING:
    from batchsent.training.run import Finished


@click.command(name="finetune", cls=Command)
@inputs_argument
@option("--output", metavar="DIR", help="Directory of the model; created if missing. Required.")
@options_of(FinetuneConfig)
def command(inputs: tuple[str, ...], output: str | None, **options: Any) -> None:
    """Train a classifier on labelled texts: a directory that 'batchsent score --model' takes.

    INPUT is what 'score' reads, with a column of labels: names or whole numbers. Kill it at any moment and run the
    same command again: it goes on from its latest checkpoint, and the model is the same.

    \b
    Examples:
      batchsent finetune reviews.csv --label-column stars --output my-model \\
          --map 1,2=NEGATIVE --map 4,5=POSITIVE
      batchsent finetune tickets.parquet --label-column topic --output topics \\
          --base-model bert-base-uncased
    """
    config = FinetuneConfig(inputs=tuple(inputs), output=output or "", **options)

    from batchsent.stop import StopSignal

    stop = StopSignal()
    stop.install()  # before the seconds that importing the rest may take

    from batchsent.reporting import logs
    from batchsent.training.run import finetune

    logs.configure("text", "", quiet=config.progress == "none")
    finished = finetune(config, stop=stop)
    if config.progress != "none":
        echo_lines(_lines(finished, config.output))


def _lines(finished: Finished, output: str) -> list[tuple[str, str]]:
    summary, settings = finished.summary, finished.settings
    metrics = summary["metrics"]
    lines = []
    if len(finished.results) > 1:
        from batchsent.training.grid import table

        rows = table(finished.results, settings.multi_label)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for index, row in enumerate(rows):
            cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            is_best = index > 0 and finished.results[index - 1] is finished.best
            lines.append(("tried" if index == 0 else "", f"{cells}{'  (kept)' if is_best else ''}"))
    done = "" if finished.results else " (done before; nothing to do)"
    names = ("accuracy", "f1_micro", "f1_macro", "loss")
    quality = ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4f}" for name in names if name in metrics)
    return [
        *lines,
        ("model", f"{output}{done}"),
        ("labels", ", ".join(finished.labels[:20]) + (", …" if len(finished.labels) > 20 else "")),
        ("trained on", f"{summary['training_count']:,} texts, in {summary['seconds']:,.0f} s"),
        ("validation", f"{quality}, on {summary['validation_count']:,} texts"),
        ("next", f"batchsent score INPUT --output scored --model {output} --max-length {settings.max_length}"),
    ]
