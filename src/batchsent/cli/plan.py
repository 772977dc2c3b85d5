"""``batchsent plan``"""

from __future__ import annotations

from typing import Any

import click

from batchsent.cli.arguments import inputs_argument, option
from batchsent.cli.help import Command
from batchsent.cli.lines import echo_lines
from batchsent.cli.options import options_of
from batchsent.config import NOWHERE, ScoreConfig


@click.command(name="plan", cls=Command)
@inputs_argument
@option("--output", metavar="DIR", help="What a run has left there is not scored again; a new directory if not given.")
@option(
    "--price-per-hour", type=click.FloatRange(min=0), metavar="PRICE", help="Of the device, for what it would cost."
)
@option("--json", "as_json", is_flag=True, help="Everything as JSON, for a scheduler.")
@options_of(ScoreConfig)
def command(
    inputs: tuple[str, ...], output: str | None, price_per_hour: float | None, as_json: bool, **options: Any
) -> None:
    """Say what 'score' would do with the same options: records, tokens, time, memory, cost, and how sure that is.

    Footers and a few thousand texts are read, and some of them scored, for about half a minute. Nothing is written to
    DIR or beside INPUT. The other options are those of 'score', and a job file of its is taken too.

    \b
    Examples:
      batchsent plan dumps/ --output scored
      batchsent plan dumps/ --device cuda --price-per-hour 2.10
    """
    run(config_of(inputs, output, options), price_per_hour, as_json=as_json)


def config_of(inputs: tuple[str, ...], output: str | None, options: dict[str, Any]) -> ScoreConfig:
    """What was asked for, where the output directory may be left out."""
    return ScoreConfig(inputs=tuple(inputs), output=output or NOWHERE, **options)


def run(config: ScoreConfig, price_per_hour: float | None = None, *, as_json: bool = False) -> None:
    """Make the plan under signals, print it, and keep it for the summary of the run."""
    from batchsent.stop import StopSignal

    stop = StopSignal(is_kept=False)
    stop.install()  # before the seconds that importing the rest may take

    from batchsent.html_report.config import ReportConfig
    from batchsent.plan.remembered import remember
    from batchsent.plan.run import make_plan
    from batchsent.plan.table import plan_lines
    from batchsent.reporting import logs

    logs.configure(config.log_format, logs.new_run_id(), quiet=config.progress == "none")
    ReportConfig.of_run(config)  # as the run would, before it does anything
    plan = make_plan(config, stop.check)
    remember(plan)
    if as_json:
        import json

        price = {} if price_per_hour is None else {"cost": plan.device_hours * price_per_hour}
        click.echo(json.dumps(plan.to_dict() | price, indent=1, ensure_ascii=False))
        return
    echo_lines(plan_lines(plan, price_per_hour))
