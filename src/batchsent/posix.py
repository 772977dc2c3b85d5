"""The system calls by which DIR changes, one function each.

``storage`` calls them through this module and makes no change in another way, so that whoever wants to see what
a failing disk, a kill or a power cut does to DIR has one place to stand in (``tests/faults``).
"""

from __future__ import annotations

import os
from pathlib import Path


def create(path: Path) -> int:
    """A new, empty file, open for reading and writing. Raises FileExistsError."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)


def write(descriptor: int, data: memoryview) -> None:
    """All of ``data``: the kernel may take less at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def fsync(descriptor: int) -> None:
    """Make a file's content durable. After a failure the kernel may have dropped it (fsync(2)): never try again."""
    os.fsync(descriptor)


def close(descriptor: int) -> None:
    """Give up a descriptor, and the lock on it."""
    os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Replace ``target``, all or nothing."""
    source.replace(target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name. Raises FileExistsError."""
    os.link(source, target)


def unlink(path: Path) -> None:
    """Take a name away. Raises FileNotFoundError."""
    path.unlink()


def make_directory(path: Path) -> None:
    """One level. Raises FileExistsError."""
    path.mkdir()


def remove_directory(path: Path) -> None:
    """If it is empty."""
    path.rmdir()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
