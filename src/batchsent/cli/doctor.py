"""``batchsent doctor``"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from batchsent.cli.arguments import option
from batchsent.cli.help import Command

if TYPE_CHECKING:
    from batchsent.tuning import Trial, Tuning


@click.command(name="doctor", cls=Command)
@option("--tune", "tuned", metavar="INPUT", help="Measure what is fastest for this input, for a job file.")
@option("--text-column", default="text", show_default=True, metavar="NAME", help="With --tune: its text.")
@option("--model", default="embedded", show_default=True, metavar="ID_OR_DIR", help="With --tune: the model.")
@option("--precision", default="auto", show_default=True, metavar="NAME", help="With --tune: the precision.")
@option("--device", default="auto", show_default=True, metavar="DEVICE", help="With --tune: the device.")
def command(tuned: str | None, text_column: str, model: str, precision: str, device: str) -> None:
    """Show what this machine can do, what is wrong with it, and what to install for more.

    Changes nothing and asks no network. Send what it prints along with a report of a bug.

    With --tune it computes for some minutes, with every token budget and each backend, and prints the lines for a job
    file. A run never measures by itself: its settings follow from fixed rules, so that it gives the same bytes.

    \b
    Examples:
      batchsent doctor
      batchsent doctor --tune reviews.csv
    """
    if tuned is None:
        _examine()
        return
    from batchsent.config import ScoreConfig
    from batchsent.stop import StopSignal
    from batchsent.tuning import tune

    stop = StopSignal(is_kept=False)
    stop.install()
    config = ScoreConfig(
        inputs=(tuned,), output="-", text_column=text_column, model=model, precision=precision, device=device
    )
    for line in _lines(tune(config, stop.check, partial(click.echo, err=True))):
        click.echo(line)


def _examine() -> None:
    from batchsent.reporting.doctor import examine

    found = examine()
    width = max(len(name) for lines in found.groups.values() for name, _ in lines)
    for title, lines in found.groups.items():
        click.echo(title)
        for name, value in lines:
            click.echo(f"  {name:<{width}}  {value}")
    click.echo(f"problems ({len(found.problems)})" if found.problems else "no problems found")
    for problem in found.problems:
        click.echo(f"  {problem}")


def _lines(tuning: Tuning) -> list[str]:
    """A table as TOML comments, then the settings: the whole may be put into a job file."""
    mean = tuning.token_count / tuning.text_count
    lines = [
        f"# measured with {tuning.text_count:,} texts of {mean:,.0f} tokens on average",
        "# backend   precision  threads  batch-tokens  tokens/s  texts/s",
    ]
    lines += [
        f"# {trial.backend:<8}  {trial.precision:<9}  {trial.threads:>7}  {trial.batch_tokens:>12,}"
        f"  {trial.tokens_per_second:>8,.0f}  {trial.tokens_per_second / mean:>7,.1f}"
        for trial in sorted(tuning.trials, key=lambda trial: -trial.tokens_per_second)
    ]
    auto = tuning.chosen_by_auto
    lines.append(
        f"# auto: {auto.backend}, {auto.precision}, {auto.threads} threads, batches of {auto.batch_tokens:,} tokens"
    )
    fastest, quantized = tuning.fastest(auto.precision), tuning.fastest("int8")
    if fastest is not None:
        lines += _toml(fastest)
    if quantized is not None and fastest is not None and quantized is not fastest:
        ratio = quantized.tokens_per_second / fastest.tokens_per_second
        lines.append(f"# int8 is {ratio:.1f} times as fast, and moves probabilities; for it:")
        lines += [f"# {line}" for line in _toml(quantized)]
    return lines


def _toml(trial: Trial) -> list[str]:
    return [
        f'backend = "{trial.backend}"',
        f'precision = "{trial.precision}"',
        f"threads = {trial.threads}",
        f"batch-tokens = {trial.batch_tokens}",
    ]
