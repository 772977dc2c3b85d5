"""``batchsent completion``, and what it lets the shell ask at each Tab."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
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


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": ZshComplete, "fish": FishComplete}


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
