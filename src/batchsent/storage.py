"""The output directory: list, open, publish. The only module that writes.

``LocalStore.publish`` is the only way anything becomes visible: a temporary file in the same file system
(O_EXCL), write, fsync, close, rename or link to its name, fsync of the directory. What the caller's ``write``
leaves unfinished never gets a name. A failed fsync is not tried again, because the kernel may have dropped
the pages (see fsync(2)): the temporary goes, the run ends with exit 75, and the next run does the work again.

Names are relative to the directory, with '/'. Knows nothing of parts, shards or manifests.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from filelock import FileLock, Timeout

from batchsent.errors import BatchsentError, LockedError, StorageError, UsageError
from batchsent.records import Signature

INTERNAL = "_batchsent"
"""Folder of everything that is not output."""
TEMPORARY = f"{INTERNAL}/tmp"  # noqa: S108 - a name below DIR
LOCK = f"{INTERNAL}/lock"

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_BAD_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ELOOP)


@dataclass(frozen=True)
class Published:
    """What a name now holds."""

    name: str
    sha256: str
    size_bytes: int


class LocalStore:
    """DIR on a POSIX file system."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).resolve()

    def create(self) -> None:
        """Make DIR and the folder of temporaries. Raises UsageError where it cannot be written."""
        with _translated(str(self.root)):
            _make_directories(self.root / TEMPORARY)
            self._temporary().unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold DIR against a second run on this host. Raises LockedError if it is held."""
        # A second: 'batchsent status' holds it for an instant to see whether it is free.
        lock = FileLock(self.root / LOCK, timeout=1)
        with _translated(LOCK):
            try:
                lock.acquire()
            except Timeout:
                raise LockedError(
                    f"another run holds {self.root}",
                    "one run at a time",
                    "wait for it ('batchsent status' shows it), or choose another --output",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def is_locked(self) -> bool:
        """Whether a run holds DIR now. Writes nothing."""
        try:
            with (self.root / LOCK).open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def publish(self, name: str, write: Callable[[IO[bytes]], object], *, replace: bool = True) -> Published:
        """Make ``name`` hold what ``write`` writes, all or nothing, durably.

        With ``replace=False`` an existing name is left and FileExistsError raised: create-only.
        """
        target = self._target(name)
        with _translated(name):
            _make_directories(target.parent)
            temporary, handle = self._locked_temporary()
            try:
                with handle:
                    hashing = _HashingWriter(handle)
                    write(cast(IO[bytes], hashing))
                    handle.flush()
                    os.fsync(handle.fileno())
                    if replace:
                        temporary.replace(target)
                    else:
                        os.link(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            _fsync_directory(target.parent)
        return Published(name, hashing.sha256.hexdigest(), hashing.size_bytes)

    def publish_bytes(self, name: str, data: bytes, *, replace: bool = True) -> Published:
        """:meth:`publish` of bytes that are at hand."""
        return self.publish(name, lambda handle: handle.write(data), replace=replace)

    def open(self, name: str) -> BinaryIO:
        """Open for reading. Raises FileNotFoundError."""
        return self._target(name).open("rb")

    def read_bytes(self, name: str) -> bytes | None:
        """The content, or None if there is no such name."""
        try:
            return self._target(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, name: str) -> bool:
        """Whether ``name`` is a file."""
        return self._target(name).is_file()

    def signature(self, name: str) -> Signature | None:
        """See :func:`signature`; None if there is no such name."""
        return signature(self._target(name))

    def list(self, folder: str) -> list[str]:
        """Names of the files right in ``folder``, sorted; empty if there is no such folder."""
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def outputs(self, folder: str = "") -> Iterator[str]:
        """Names of every Parquet file in DIR, or below ``folder`` of it, that is not internal or hidden."""
        for path, subfolders, files in os.walk(self.root / folder):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith(("_", ".")))
            for name in sorted(files):
                if name.endswith(".parquet") and not name.startswith(("_", ".")):
                    yield (Path(path) / name).relative_to(self.root).as_posix()

    def remove(self, name: str) -> None:
        """Remove ``name`` durably; nothing happens if it is not there."""
        target = self._target(name)
        with _translated(name):
            target.unlink(missing_ok=True)
            if target.parent.is_dir():
                _fsync_directory(target.parent)

    def remove_tree(self, folder: str) -> None:
        """Remove a folder and all in it."""
        with _translated(folder), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._target(folder))

    def remove_orphans(self) -> int:
        """Remove temporaries that no process is writing; returns how many."""
        removed = 0
        for path in (self.root / TEMPORARY).glob("*"):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
        return removed

    def size_bytes(self, folder: str) -> int:
        """Of all files below ``folder``."""
        return sum(path.stat().st_size for path in (self.root / folder).rglob("*") if path.is_file())

    def free_bytes(self) -> int:
        """Space that this user may still write."""
        return shutil.disk_usage(self.root).free

    def path(self, name: str) -> Path:
        """Where ``name`` lies."""
        return self._target(name)

    def _target(self, name: str) -> Path:
        target = self.root / name
        # A folder in DIR that is a link to somewhere else must not lead a write out of it.
        try:
            inside = ".." not in target.parts and target.parent.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # a loop of links, by Python version
            inside = False
        if not inside:
            raise UsageError(
                f"{name} leads out of {self.root}",
                "output names inside DIR",
                "remove the link or choose another --output",
            )
        return target

    def _locked_temporary(self) -> tuple[Path, BinaryIO]:
        """Held while it is written, so that whoever clears orphans can tell it from one."""
        while True:
            temporary = self._temporary()
            with contextlib.suppress(FileNotFoundError):
                handle = temporary.open("r+b", buffering=1 << 20)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.fstat(handle.fileno()).st_nlink:
                    return temporary, handle
                handle.close()  # cleared as an orphan before it was locked

    def _temporary(self) -> Path:
        path = self.root / TEMPORARY / f"{os.getpid()}-{secrets.token_hex(8)}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        return path


def signature(path: str | os.PathLike[str]) -> Signature | None:
    """What a file looks like from outside; None if there is none. ctime cannot be set back by a user."""
    try:
        found = os.stat(path)  # noqa: PTH116 - also takes plain strings, by the thousand
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def hash_stream(stream: IO[bytes], check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 in hex of what is left to read; ``check`` is called between blocks and may raise."""
    sha256 = hashlib.sha256()
    while block := stream.read(1 << 20):
        sha256.update(block)
        check()
    return sha256.hexdigest()


class _HashingWriter:
    """A binary file that only grows, and knows the SHA-256 of what went through it."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        # pyarrow hands over memoryviews of its own buffers.
        self.sha256.update(data)
        self.size_bytes += len(data)
        return self._handle.write(data)

    def flush(self) -> None:
        self._handle.flush()

    def close(self) -> None:
        """Left to the store: whoever writes does not decide when the file is complete."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.size_bytes


def _make_directories(path: Path) -> None:
    """mkdir -p, each new name made durable in its parent."""
    if path.is_dir():
        return
    _make_directories(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if not path.is_dir():
        raise UsageError(f"{path} is a file", "a directory", "move it away or choose another --output")
    _fsync_directory(path.parent)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """Operating system errors as ours: some a person must mend, some pass."""
    try:
        yield
    except BatchsentError:
        raise
    except FileExistsError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _BAD_NAME:
            raise UsageError(
                f"{name} cannot be written ({reason})",
                "a name that is free and possible",
                "rename the input or choose another --output",
            ) from error
        if error.errno in _FORBIDDEN:
            raise UsageError(
                f"{name} cannot be written ({reason})",
                "a directory that this user may write",
                "choose another --output or change its permissions",
            ) from error
        remedy = "free space and run again to resume" if error.errno in _FULL else "run again to resume"
        raise StorageError(f"{name} could not be written ({reason})", "a disk that takes it", remedy) from error
