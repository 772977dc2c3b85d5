"""``batchsent evaluate``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchsent.cli.arguments import inputs_argument, option
from batchsent.cli.help import Command
from batchsent.cli.options import options_named
from batchsent.options import INPUT, MODEL

if TYPE_CHECKING:
    from batchsent.evaluation.config import EvaluateConfig

_shared = options_named(
    *("text_column", "encoding", "delimiter", "limit", "revision", "task", "prompt", "verbalizer", "calibrate_prompt"),
    *("calibration", "max_length", "long_text", "window_overlap", "window_aggregate", "precision", "backend"),
    *("batching", "batch_tokens", "threads", "device", "workers", "progress"),
)


@click.command(name="evaluate", cls=Command)
@inputs_argument
@option("--label-column", required=True, metavar="NAME", group=INPUT, help="Column with the true label.")
@option(
    "--model",
    "models",
    multiple=True,
    default=("embedded",),
    show_default=True,
    metavar="ID_OR_DIR",
    group=MODEL,
    help="'embedded', a directory, or a hub id. Repeatable: several are compared.",
)
@option(
    "--map",
    "maps",
    multiple=True,
    metavar="VALUES=LABEL",
    group=INPUT,
    help="These values of the column mean that label; others are left out. Repeatable.",
)
@option("--calibrate", metavar="FILE", help="Fit a temperature to these rows and write it, for --calibration.")
@option("--output", metavar="DIR", help="Write evaluation.json, the worst errors as CSV, and pictures there.")
@option("--worst", type=click.INT, default=10, show_default=True, metavar="N", help="Errors to list of a model.")
@_shared
def command(inputs: tuple[str, ...], label_column: str, **options: Any) -> None:
    """Judge models on labelled reviews: accuracy, F1, calibration, speed, worst errors.

    INPUT is what 'batchsent score' takes. A label is a name of the model's labels or its index; --map gives other
    values a meaning, such as stars. Several models are compared on the same rows.

    \b
    Examples:
      batchsent evaluate reviews.csv --label-column sentiment
      batchsent evaluate reviews.csv --label-column stars \\
          --map 1,2=NEGATIVE --map 4,5=POSITIVE
      batchsent evaluate dev.tsv --text-column sentence --label-column label \\
          --model embedded --model google/flan-t5-small
    """
    from batchsent.evaluation.config import EvaluateConfig, scoring_config

    own = {name: options.pop(name) for name in ("models", "maps", "calibrate", "output", "worst")}
    _run(EvaluateConfig(scoring=scoring_config(inputs, **options), label_column=label_column, **own))


def _run(config: EvaluateConfig) -> None:
    from batchsent.stop import StopSignal

    stop = StopSignal(is_kept=False)
    stop.install()  # before the seconds that importing the rest may take

    from batchsent.evaluation.report import report_lines
    from batchsent.evaluation.run import evaluate
    from batchsent.reporting import logs
    from batchsent.reporting.progress import choose_progress

    logs.configure("text", logs.new_run_id(), quiet=config.scoring.progress == "none")
    evaluation = evaluate(config, make_progress=lambda: choose_progress(config.scoring.progress), stop=stop)
    for line in report_lines(evaluation):
        click.echo(line)
    written = [path for path in (config.calibrate, config.output) if path is not None]
    if written:
        click.echo(f"\nwritten: {', '.join(written)}")
