"""What commands print: pairs of a name and a value, the names in a column of their own."""

from __future__ import annotations

from collections.abc import Sequence

import click


def echo_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Print them at once: several ranks may meet on one terminal."""
    width = max((len(name) for name, _ in lines), default=0)
    click.echo("\n".join(f"{name:>{width}}  {value}".rstrip() for name, value in lines))
