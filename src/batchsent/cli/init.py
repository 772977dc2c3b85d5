"""``batchsent init``"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from batchsent.cli.arguments import inputs_argument, option
from batchsent.cli.help import Command
from batchsent.cli.options import Character
from batchsent.options import INPUT

if TYPE_CHECKING:
    from batchsent.drafting.draft import Draft


@click.command(name="init", cls=Command)
@inputs_argument
@option("--output", metavar="FILE", help="Write the job file there instead of printing it.")
@option("--replace", is_flag=True, help="Replace FILE if it is there.")
@option("--text-column", metavar="NAME", group=INPUT, help="Column that holds the text, if it is not found.")
@option("--encoding", metavar="NAME", group=INPUT, help="Encoding of the text formats, if it is not found.")
@option(
    "--delimiter",
    metavar="CHAR",
    type=Character(),
    group=INPUT,
    help="Field delimiter of CSV and TSV, if it is not found.",
)
def command(
    inputs: tuple[str, ...],
    output: str | None,
    replace: bool,
    text_column: str | None,
    encoding: str | None,
    delimiter: str | None,
) -> None:
    """Write a commented job file for INPUT, which 'batchsent score --config FILE' runs.

    Looks at the columns and at the first records of each file, and guesses the text, what to keep, the encoding and
    the delimiter. The file says what was seen and names every option with its default; it quotes no review.

    \b
    Examples:
      batchsent init reviews.csv --output reviews.toml
      batchsent score --config reviews.toml
      batchsent init dumps/ > job.toml
      batchsent init survey.csv --text-column "What did you like?"
    """
    from batchsent.drafting.draft import draft
    from batchsent.drafting.jobfile import job_file

    made = draft(inputs, text_column=text_column, encoding=encoding, delimiter=delimiter)
    content = job_file(made, output or "job.toml").encode()
    if output is None:
        click.echo(content, nl=False)
        return
    _write(output, content, replace=replace)
    for name, value in _summary(made, output):
        click.echo(f"{name:>7}  {value}")


def _write(output: str, content: bytes, *, replace: bool) -> None:
    from pathlib import Path

    from batchsent.errors import UsageError
    from batchsent.stages.planner import local_path
    from batchsent.storage import require_writable, write_file

    path = Path(local_path(output, "--output")).absolute()
    try:
        require_writable(path.parent)
        write_file(path, content, replace=replace)
    except FileExistsError:
        raise UsageError(
            f"{output} is there already", "a name that is free", "choose another --output, or pass --replace"
        ) from None


def _summary(draft: Draft, output: str) -> list[tuple[str, str]]:
    return [
        ("written", output),
        ("text", repr(draft.text)),
        ("kept", ", ".join(map(repr, draft.keep)) or "nothing"),
        ("next", f"batchsent score --config {shlex.quote(output)}"),
    ]
