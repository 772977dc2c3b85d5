"""``batchsent doctor``"""

from __future__ import annotations

import click


@click.command(name="doctor")
def command() -> None:
    """Show what this machine can do, what is wrong with it, and what to install for more.

    Changes nothing and asks no network. Send what it prints along with a report of a bug.
    """
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
