"""``batchsent verify``"""

from __future__ import annotations

import click

from batchsent.cli.arguments import directory_argument
from batchsent.cli.help import Command

PROBLEMS_SHOWN = 20


@click.command(name="verify", cls=Command)
@directory_argument
def command(directory: str) -> None:
    """Re-read every file that DIR published; exit 3 if one byte is not as it was published.

    Lists what is wrong, one line each. DIR is what 'batchsent score' was given as --output. Writes nothing.

    \b
    Examples:
      batchsent verify scored
    """
    from batchsent.errors import IncompleteError, LockedError
    from batchsent.stages.planner import place
    from batchsent.stores import open_store
    from batchsent.verify import verify

    store = open_store(place(directory, "DIR"))
    found = verify(store)
    if not found.problems:
        rows = f"{found.row_count:,} row{'s' * (found.row_count != 1)}"
        click.echo(
            f"verified {store.root}: {found.file_count:,} files, {rows}, "
            f"{found.size_bytes:,} bytes, all as they were published"
        )
        return
    if store.is_locked():
        # What looks damaged may be what the run is replacing.
        raise LockedError(f"a run is changing {store.root}", "a directory at rest", "wait for it and verify again")
    for problem in found.problems[:PROBLEMS_SHOWN]:
        click.echo(problem)
    if len(found.problems) > PROBLEMS_SHOWN:
        click.echo(f"... and {len(found.problems) - PROBLEMS_SHOWN:,} more")
    count = len(found.problems)
    raise IncompleteError(
        f"{count:,} problem{'s' * (count != 1)} in {store.root}",
        "every file as it was published",
        "remove the files that are named and run the same score command again: it scores only what is gone",
    )
