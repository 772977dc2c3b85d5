"""``batchsent completion``, and what it lets the shell ask at each Tab."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
)

from batchsent.cli.arguments import Choice
from batchsent.cli.help import Command

VARIABLE = "_BATCHSENT_COMPLETE"
"""Set by the script at each Tab, to what it asks for."""


@add_completion_class
class Bash(BashComplete):
    """Click's own, but for the '=' between an option and its value, which bash takes for a word."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that Tab was pressed in, and that one."""
        words, incomplete = super().get_completion_args()
        return [word for word in words if word != "="], incomplete


def _whole_words(items: list[CompletionItem[str]], incomplete: str) -> list[CompletionItem[str]]:
    """With the option before each value where they are one word, '--precision=fp', which zsh and fish replace."""
    option, equals, _ = incomplete.partition("=")
    if equals and option.startswith("-"):
        return [CompletionItem(option + equals + item.value, item.type, item.help) for item in items]
    return items


@add_completion_class
class Zsh(ZshComplete):
    """Click's own, but for options that are one word with their value."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What may stand in the place of ``incomplete``; files last, whose empty value the script passes over."""
        items = _whole_words(super().get_completions(args, incomplete), incomplete)
        return sorted(items, key=lambda item: item.type != "plain")


@add_completion_class
class Fish(FishComplete):
    """The same; and what a completion is for may hold commas."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """What may stand in the place of ``incomplete``."""
        return _whole_words(super().get_completions(args, incomplete), incomplete)


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


@click.command(name="completion", cls=Command)
@click.argument("shell", type=Choice(list(SHELLS)))
def command(shell: str) -> None:
    """Print the script by which Tab completes batchsent in bash, zsh or fish.

    Tab then knows commands, options, their values, files and folders. The script calls 'batchsent' from the PATH.

    \b
    bash 4.4 or newer: a file of its own, read by ~/.bashrc
      batchsent completion bash > ~/.batchsent-completion.bash
      echo '. ~/.batchsent-completion.bash' >> ~/.bashrc

    \b
    zsh: a file in a folder of fpath, and these lines in ~/.zshrc
      mkdir -p ~/.zfunc
      batchsent completion zsh > ~/.zfunc/_batchsent
      fpath+=(~/.zfunc); autoload -Uz compinit; compinit

    \b
    fish: a file in the folder where it looks for them
      mkdir -p ~/.config/fish/completions
      batchsent completion fish > ~/.config/fish/completions/batchsent.fish

    \b
    Then open a new shell. For this one only:
      eval "$(batchsent completion bash)"
      eval "$(batchsent completion zsh)"
      batchsent completion fish | source
    """
    from batchsent.cli import cli

    click.echo(SHELLS[shell](cli, {}, "batchsent", VARIABLE).source(), nl=False)


def answer(instruction: str) -> int:
    """Print what the script asks for by ``instruction``; the exit code."""
    from batchsent.cli import cli

    return int(shell_complete(cli, {}, "batchsent", VARIABLE, instruction))
