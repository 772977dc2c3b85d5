"""The command line: options → one frozen config → one call. One module a command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback

import click
from click.shell_completion import CompletionItem

from batchsent import __version__
from batchsent.cli import completion
from batchsent.cli.help import Group, write_sections
from batchsent.errors import exit_code_of, told, without_secrets
from batchsent.suggestions import did_you_mean

TASKS = SCORE, LOOK, MODELS, MACHINE = ("Score data", "See what happened", "Models", "Machine and shell")
"""In the order of a user's day."""

COMMANDS = {
    "init": ("init", "Write a commented job file for an input.", SCORE),
    "score": ("score", "Score reviews: the job.", SCORE),
    "plan": ("plan", "What a run would do, take and cost.", SCORE),
    "status": ("status", "How far a run is, or where it stopped.", LOOK),
    "verify": ("verify", "Re-read every published file against the manifest.", LOOK),
    "publish": ("publish", "Publish what the drift gate held back.", LOOK),
    "report": ("report", "One HTML page of what a run has done.", LOOK),
    "evaluate": ("evaluate", "How good models are on labelled reviews, side by side.", MODELS),
    "finetune": ("finetune", "Train a classifier on labelled texts.", MODELS),
    "models": ("models", "What a model is, and what it does with a text.", MODELS),
    "doctor": ("doctor", "What this machine can do, and what to install for more.", MACHINE),
    "completion": ("completion", "Let Tab complete commands and options in your shell.", MACHINE),
}
"""Name → (module, one line for --help, task); modules load when their command runs."""


class LazyGroup(Group):
    """A group whose commands import their libraries only when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"batchsent.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        # As click does it, but with the lines that stand here.
        commands = [CompletionItem(n, help=line) for n, (_, line, _) in COMMANDS.items() if n.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        # The lines stand here, so that --help need not import every command.
        sections: dict[str, list[tuple[str, str]]] = {task: [] for task in TASKS}
        for name, (_, line, task) in COMMANDS.items():
            sections[task].append((name, line))
        write_sections(formatter, sections)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="batchsent")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def cli(debug: bool) -> None:
    """Score dumps of reviews with pretrained language models.

    \b
    Examples:
      batchsent score reviews.csv --output scored
      batchsent score dumps/2026-11-* --output scored --keep id --device cuda
      batchsent init reviews.csv --output reviews.toml
      batchsent score --config reviews.toml
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error that a user can cause is one line and its own exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    words = [word for word in given if word != "--debug"]  # wherever it stands
    is_debug = len(words) < len(given)
    try:
        if completion.VARIABLE in os.environ:
            code = completion.answer(os.environ[completion.VARIABLE])
        else:
            code = cli.main(words, prog_name="batchsent", standalone_mode=False, obj=is_debug)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except (BrokenPipeError, SystemExit):  # click ends the process itself where it meets a closed pipe
        drop_output()
        code = 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into one line
        if is_debug:
            click.echo(without_secrets(traceback.format_exc()), err=True, nl=False)
        code, message = explained(error)
        click.echo(f"error: {message}", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def drop_output() -> None:
    """Whoever read stdout has left, as 'head' does: the flush at exit must not meet the closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explained(error: Exception) -> tuple[int, str]:
    """Exit code and one line."""
    # Not all are errors of ours: click quotes an argument, a library an address.
    code, message = _explained(error)
    return code, " ".join(without_secrets(message).split())


def _explained(error: Exception) -> tuple[int, str]:
    match error:
        case click.Abort():
            return 130, "stopped by SIGINT"
        case click.NoSuchOption() if error.ctx is not None:
            return 2, _no_such_option(error.option_name, error.ctx)
        case click.ClickException():
            # Click's own errors (an unknown option, say) in the form of ours.
            context = getattr(error, "ctx", None)
            see = f"; see '{context.command_path} --help'" if context else ""
            return 2, " ".join(error.format_message().split()).removesuffix(".") + see
        case _:
            return exit_code_of(error), told(error)


def _no_such_option(name: str, context: click.Context) -> str:
    known = [option for parameter in context.command.get_params(context) for option in parameter.opts]
    others = [other for other in COMMANDS if other != context.command.name and name in _options_of(other, context)]
    if others:
        remedy = f"it is one of 'batchsent {others[0]}'"
    else:
        remedy = did_you_mean(name, [option for option in known if option.startswith("--")], "leave it out")
    command = context.command_path
    return f"{command} has no option {name}; expected one that '{command} --help' lists; {remedy}"


def _options_of(name: str, context: click.Context) -> list[str]:
    command = cli.get_command(context, name)
    return [option for parameter in command.params for option in parameter.opts] if command else []
