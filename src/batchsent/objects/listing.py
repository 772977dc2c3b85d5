"""URI of a bucket's folder, a pattern or one object → the objects that it names, in few requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic

from batchsent.objects import access
from batchsent.objects.uris import normalized


@dataclass(frozen=True)
class Listed:
    """An object that was found."""

    uri: str
    name: str
    """Relative to what it was found by: a folder, or the folders of a pattern before the first wildcard."""
    size_bytes: int
    version: str


def expand(argument: str) -> Iterator[Listed]:
    """Every object that ``argument`` names, sorted; whether it is one to read is for the caller to say.

    '*', '?' and '[' match within a folder, '**' any number of folders; what lies below a folder that matches, matches.
    Raises UsageError, StorageError.
    """
    uri = normalized(argument, "INPUT")
    found = access.details(uri) if not argument.endswith("/") and uri.count("/") > 2 else None
    if found is not None:
        yield _listed(uri, uri.rpartition("/")[2], found)
        return
    if not has_magic(uri):
        for name, details in access.below(uri).items():
            yield _listed(f"{uri}/{name}", name, details)
        return
    folder, pattern = _split(uri)
    matches = _expression(pattern).match
    # The store looks only at names that begin as the pattern does.
    for name, details in access.below(folder, re.split(r"[*?\[]", pattern, maxsplit=1)[0]).items():
        if matches(name):
            yield _listed(f"{folder}/{name}", name, details)


def _listed(uri: str, name: str, details: dict[str, object]) -> Listed:
    seen = access.signature_of(details)
    return Listed(uri, name, seen.size_bytes, seen.version)


def _split(uri: str) -> tuple[str, str]:
    """(folder, pattern in it): the folders before the first wildcard, the bucket at least."""
    parts = uri.split("/")
    first = max(3, next(index for index, part in enumerate(parts) if has_magic(part)))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _expression(pattern: str) -> re.Pattern[str]:
    """Matches a name, or one that has a folder in it which the pattern matches."""
    from fsspec.utils import glob_translate

    # It ends with "\Z"; what follows here is the rest of a longer name.
    return re.compile(glob_translate(pattern).removesuffix("\\Z").removesuffix("\\z") + r"(?:/.*)?\Z", re.DOTALL)
