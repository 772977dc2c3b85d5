"""``batchsent models``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchsent.cli.arguments import models, option
from batchsent.cli.help import Command, Group
from batchsent.cli.lines import echo_lines
from batchsent.cli.options import options_named
from batchsent.options import MODEL

if TYPE_CHECKING:
    from batchsent.models.families import Answers
    from batchsent.models.resolution import ModelSource
    from batchsent.records import TokenBatch

_model = click.argument("model", shell_complete=models)
_revision = option("--revision", metavar="REV", group=MODEL, help="Branch, tag or commit of a hub model.")

asked_options = options_named("task", "prompt", "verbalizer", "calibrate_prompt")


@click.group(name="models", cls=Group)
def command() -> None:
    """What a model is, what it does with a text, and how to pin it.

    MODEL is 'embedded' (the one that comes with batchsent), a model directory or a hub id.
    """


@command.command(name="show", cls=Command, short_help="What a model is; with --text, its steps to a label.")
@_model
@_revision
@option("--text", metavar="TEXT", help="Show what the model does with this text, step by step.")
@asked_options
def show(model: str, revision: str | None, text: str | None, **asked: Any) -> None:
    """Show what MODEL is; with --text, the steps from the text to its label.

    A T5 or GPT model is asked by a prompt, and shows the answer that it writes by itself, too.

    \b
    Examples:
      batchsent models show embedded
      batchsent models show embedded --text "A quiet, lovely film."
      batchsent models show google/flan-t5-small --text "A quiet, lovely film."
    """
    from batchsent.models.families import answers_of
    from batchsent.models.walkthrough import model_lines
    from batchsent.stages.encoder import Encoder

    source = _source(model, revision)
    answers = answers_of(source.directory, **asked)
    # The tokenizer as 'score' uses it: what it would refuse is refused here too.
    encoder = Encoder(source.directory, answers.max_length, prompt=answers.prompt)
    if text is not None:
        _print_walk(source, answers, encoder, text)
        return
    echo_lines(model_lines(source, answers))


@command.command(name="lock", cls=Command, short_help="The lines of a job file that pin a model.")
@_model
@_revision
def lock(model: str, revision: str | None) -> None:
    """Print the lines of a job file that name MODEL as it is now: for a hub model, its commit.

    \b
    Examples:
      batchsent models lock google/flan-t5-small >> job.toml
      batchsent score reviews.csv --output scored --config job.toml
    """
    from batchsent.models.walkthrough import lock_lines

    for line in lock_lines(_source(model, revision)):
        click.echo(line)


def _source(model: str, revision: str | None) -> ModelSource:
    from pathlib import Path

    from batchsent.models.resolution import resolve_model
    from batchsent.storage import hash_stream

    def hash_file(path: str) -> str:
        with Path(path).open("rb") as stream:
            return hash_stream(stream)

    return resolve_model(model, revision, hash_file)


def _print_walk(source: ModelSource, answers: Answers, encoder: Any, text: str) -> None:
    from batchsent.machine import available_cores
    from batchsent.models.loading import load_torch_model
    from batchsent.models.pretrained import load_tokenizer
    from batchsent.models.walkthrough import walk

    batch, whole_count = _encode(encoder, text)
    model = load_torch_model(
        source.directory, answers.prompt, precision="fp32", device="cpu", threads=available_cores()
    )
    click.echo(f"{source.name}, computed in fp32 on the CPU (another precision moves the last digits)")
    for step in walk(batch, whole_count, model, load_tokenizer(source.directory), answers):
        click.echo(f"\n{step.title}")
        for line in step.lines:
            click.echo(f"   {line}".rstrip())


def _encode(encoder: Any, text: str) -> tuple[TokenBatch, int]:
    """The row that the model gets and the number of tokens before it was cut, as 'score' makes them."""
    import pyarrow as pa

    from batchsent.errors import UsageError
    from batchsent.stages.batcher import batch_part

    try:
        column = pa.chunked_array([[text]], pa.large_string())
    except UnicodeEncodeError:
        raise UsageError("the text is not valid UTF-8", "text in UTF-8", "check the terminal's encoding") from None
    part = batch_part(
        encoder.encode(column), batch_tokens=1, special_token_count=encoder.special_token_count
    )  # a row of its own, whatever its length
    if not text.strip() or not part.batches:
        raise UsageError(
            "the text is blank", "a text with at least one token", "'score' rejects such records as empty_text"
        )
    return part.batches[0], encoder.token_count(text)
