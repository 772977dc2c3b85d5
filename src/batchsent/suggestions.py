"""What a misspelt word may have been meant to be: one rule for columns, options, commands, models, keys and values.

Knows words only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

_COLUMNS_SHOWN = 20
_CHARACTERS_SHOWN = 40
"""Of a column's name in a message: a file without a header has its first record there."""


def nearest(word: str, known: Collection[str]) -> str | None:
    """The one of ``known`` that ``word`` is most like; None if none is near.

    Where none is as they are written, letter case and space around them do not count.
    """
    from difflib import get_close_matches  # only a message needs it

    if near := get_close_matches(word, known, 1):
        return near[0]
    plain = {_plain(name): name for name in reversed(list(known))}
    near = get_close_matches(_plain(word), plain, 1)
    return plain[near[0]] if near else None


def did_you_mean(word: str, known: Collection[str], otherwise: str, *, option: str = "") -> str:
    """The remedy for a word that is none of ``known``: the nearest one (of ``option``), or ``otherwise``."""
    near = nearest(word, known)
    return otherwise if near is None else f"did you mean {f'{option} ' if option else ''}{near!r}?"


def missing_column(name: str, place: str, columns: Sequence[str], option: str) -> str:
    """One line about the column ``name`` of ``option``, which ``place`` lacks: what it has, and which may be meant."""
    advice = did_you_mean(name, columns, f"pass {option}", option=option)
    return f"column {name!r} is not in {place} (it has: {listed(columns)}); {advice}"


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message: not all of very many, nor all of a very long one."""
    return ", ".join(map(shortened, columns[:_COLUMNS_SHOWN])) + (", …" if len(columns) > _COLUMNS_SHOWN else "")


def _plain(word: str) -> str:
    return word.strip().lower()


def shortened(name: str) -> str:
    """The beginning of a name that is long."""
    return name if len(name) <= _CHARACTERS_SHOWN else f"{name[:_CHARACTERS_SHOWN]}…"
