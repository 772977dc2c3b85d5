"""INPUT... → shards: which files or objects there are, what each is called, and that no two write the same output.

Looks at names and sizes only; opens nothing.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from batchsent.config import COMPRESSIONS, FORMATS, TEXT_EXTENSIONS
from batchsent.errors import InputError, NotAvailableError, UsageError
from batchsent.objects.uris import is_object, normalized
from batchsent.records import Shard

NAME_LIMIT_BYTES = 255
"""Of one component of a path, on every common file system."""


def plan_shards(inputs: tuple[str, ...], output_root: Path | str) -> list[Shard]:
    """Every shard of ``inputs``, in the order given and by name within a directory or glob.

    ``output_root`` and names that begin with '_' or '.' are never read. Raises InputError if an input names
    nothing that can be read, UsageError if two shards would write the same output.
    """
    shards: dict[str, Shard] = {}
    for argument in inputs:
        found = 0
        for shard in _shards_of(argument, output_root):
            found += 1
            other = shards.setdefault(shard.output_stem, shard)
            if not _is_same(other, shard):
                raise UsageError(
                    f"{other.path} and {shard.path} would both write {shard.output_stem}.parquet",
                    "one input for each output",
                    "rename one of them, or score them into different --output directories",
                )
        if not found:
            raise _nothing_found(argument, output_root)
    for shard in shards.values():
        _require_usable_name(shard, shards)
    return list(shards.values())


def _shards_of(argument: str, output_root: Path | str) -> Iterator[Shard]:
    if is_object(argument):
        yield from _objects_of(argument, str(output_root))
        return
    for path, name in _expand(local_path(argument, "INPUT"), Path(output_root)):
        shard = _shard(path, name)
        if shard is not None:
            yield shard


def _objects_of(uri: str, output_root: str) -> Iterator[Shard]:
    from batchsent.objects.listing import expand

    for found in expand(uri):
        split = split_extension(found.name)
        if split is None or _is_hidden(found.name) or f"{found.uri}/".startswith(f"{output_root}/"):
            continue
        yield Shard(found.name, found.uri, *split, found.size_bytes, found.version)


def _is_same(one: Shard, other: Shard) -> bool:
    if one.path == other.path:
        return True
    return not (is_object(one.path) or is_object(other.path)) and Path(one.path).samefile(other.path)


def _require_usable_name(shard: Shard, shards: dict[str, Shard]) -> None:
    """Its output must have a name that every reader can write down, and not lie in another output."""
    try:
        shard.name.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {os.fsencode(shard.path)!r} is not UTF-8", "a name in UTF-8", "rename it") from None
    if len(Path(shard.output_stem).name.encode()) + len(".parquet") > NAME_LIMIT_BYTES:
        raise UsageError(
            f"the name of {shard.path} is too long", f"{NAME_LIMIT_BYTES} bytes with .parquet", "rename it"
        )
    for folder in map(str, PurePosixPath(shard.output_stem).parents):
        other = shards.get(folder.removesuffix(".parquet")) if folder.endswith(".parquet") else None
        if other is not None:
            raise UsageError(
                f"{other.path} would write {folder}, which is a folder of {shard.path}'s output",
                "a file or a folder under one name",
                "score them into different --output directories",
            )


def place(uri: str, what: str) -> str:
    """The path of a plain path or ``file://`` URI; of an object store, the URI as it is kept in files."""
    return normalized(uri, what) if is_object(uri) else local_path(uri, what)


def local_path(uri: str, what: str) -> str:
    """The path of a plain path or ``file://`` URI. Raises NotAvailableError for object stores."""
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise UsageError(f"{what} {uri} is not a URI", "file:///path, or a path", "check its brackets") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{what} {uri} names another machine", "file:///path", "write three slashes")
        return unquote(parts.path)
    raise NotAvailableError(
        f"{what} is a {parts.scheme}:// URI",
        "a path on this machine; in 'score' INPUT, --output and --model may also be s3:// and gs://",
        "copy it here first, or mount the store",
    )


def _expand(argument: str, output_root: Path) -> Iterator[tuple[str, str]]:
    """(path, name relative to the input) of each candidate file, sorted by name."""
    if os.path.isdir(argument):  # noqa: PTH112 - a glob pattern is a str
        yield from _walk(argument, argument, output_root, set())
    elif os.path.lexists(argument):
        if _is_output(Path(argument), output_root):
            return
        yield argument, Path(argument).name
    elif glob.has_magic(argument):
        base = _fixed_folder(argument)
        for match in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207
            hidden = _is_hidden(os.path.relpath(match, base)) or _is_output(Path(match), output_root)
            if hidden or _revisits(match, base):
                continue
            if os.path.isdir(match):  # noqa: PTH112
                yield from _walk(match, base, output_root, set())
            else:
                yield match, _relative(match, base)


def _walk(folder: str, base: str, output_root: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Files below ``folder``; links to folders are followed, each folder once."""
    status = os.stat(folder)  # noqa: PTH116
    if (status.st_dev, status.st_ino) in seen or _is_output(Path(folder), output_root):
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(folder) as entries:
            ordered = sorted((e for e in entries if not _is_hidden(e.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed ({error.strerror})", "a readable folder", "change its permissions"
        ) from error
    for entry in ordered:
        if os.path.isdir(entry.path):  # noqa: PTH112 - False for a link to itself, where the entry's own raises
            yield from _walk(entry.path, base, output_root, seen)
        else:
            yield entry.path, _relative(entry.path, base)


def _relative(path: str, base: str) -> str:
    return PurePosixPath(os.path.relpath(path, base)).as_posix()


def _fixed_folder(pattern: str) -> str:
    """The folders of a glob pattern before the first one with a wildcard."""
    fixed: list[str] = []
    folders = pattern.split("/")[:-1]
    for folder in folders:
        if glob.has_magic(folder):
            break
        fixed.append(folder)
    return "/".join(fixed) or ("/" if pattern.startswith("/") else ".")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(("_", ".")) and part not in (".", "..") for part in name.split("/"))


def _is_output(path: Path, output_root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(output_root)


def _revisits(match: str, base: str) -> bool:
    """Whether a link on the way from ``base`` leads back to a folder above it."""
    above: set[str] = set()
    path = base
    for part in ("", *Path(_relative(match, base)).parts):
        path = os.path.join(path, part)  # noqa: PTH118
        real = os.path.realpath(path)
        if part and real in above:
            return True
        above.add(real)
    return False


def _shard(path: str, name: str) -> Shard | None:
    """The shard at ``path``; None if it is not one of ours to read."""
    if _is_hidden(Path(path).name) or not os.path.isfile(path):  # noqa: PTH113
        return None
    split = split_extension(name)
    if split is None:
        return None
    return Shard(name, os.path.abspath(path), *split, os.path.getsize(path))  # noqa: PTH100, PTH202


def split_extension(name: str) -> tuple[str, str] | None:
    """(format, compression) of a file name; None if it is neither Parquet nor a text format of ours."""
    stem = name.lower()
    compression = next((c for c in COMPRESSIONS if stem.endswith(c)), "")
    stem = stem.removesuffix(compression)
    extension = next((f for f in FORMATS if stem.endswith(f)), None)
    if extension is None or (compression and extension not in TEXT_EXTENSIONS):
        return None
    return extension, compression


def _nothing_found(argument: str, output_root: Path | str) -> InputError:
    if not is_object(argument) and not os.path.lexists(argument) and not glob.has_magic(argument):
        return InputError(f"{argument} does not exist", "a file, directory, glob or file:// URI", "check the path")
    if str(output_root) in (argument, argument if is_object(argument) else os.path.realpath(argument)):
        return InputError(f"{argument} is the --output too", "an INPUT and another place for its results", "name one")
    known = " ".join(FORMATS)
    return InputError(
        f"nothing to read in {argument}",
        f"files that end in {known}, the text ones also in {' '.join(COMPRESSIONS)}, "
        "not in the output directory, and no name that begins with _ or .",
        "check the path and the names",
    )
