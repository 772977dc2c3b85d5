"""The output directory: list, open, publish. The only module that writes files; ``objects`` writes objects.

``LocalStore.publish`` is the only way anything becomes visible: a temporary file in the same file system
(O_EXCL), write, fsync, rename or link to its name, fsync of the directory. What the caller's ``write`` leaves
unfinished never gets a name. A failed fsync is not tried again, because the kernel may have dropped the pages
(see fsync(2)): the temporary goes, the run ends with exit 75, and the next run does the work again.

Names are relative to the directory, with '/'. Knows nothing of parts, shards or manifests.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from batchsent import locks, posix
from batchsent.errors import BatchsentError, LockedError, StorageError, UsageError, VanishedError
from batchsent.records import Signature
from batchsent.shares import ALONE, Share

log = logging.getLogger(__name__)

INTERNAL = "_batchsent"
"""Folder of everything that is not output."""
TEMPORARY = f"{INTERNAL}/tmp"  # noqa: S108 - a name below DIR
LOCK = f"{INTERNAL}/lock"

_REMEDIES = {
    errno.ENOSPC: "free space and run again to resume",
    errno.EDQUOT: "free space of your quota and run again to resume",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run again to resume",
}
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_BAD_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_FOREIGN_ORPHAN_SECONDS = 24 * 3600.0
"""Age of a temporary of another host that nobody writes any more: its lock may not be seen from here."""
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Published:
    """What a name now holds."""

    name: str
    sha256: str
    size_bytes: int
    signature: Signature
    """Of the very file that was written, whatever another run has put in its place since."""


class LocalStore:
    """DIR on a POSIX file system."""

    has_locks = True
    requests_at_once = 1

    def __init__(self, root: str | os.PathLike[str], internal: str = INTERNAL) -> None:
        """``internal`` is the folder in DIR for what is being written, and for the locks."""
        self.root = Path(root).resolve()
        self._ranks = f"{internal}/ranks"
        self._temporary, self._lock = f"{internal}/tmp", f"{internal}/lock"  # noqa: S108 - names below DIR

    def create(self) -> None:
        """Make DIR and the folder of temporaries. Raises UsageError where it cannot be written."""
        with _translated(str(self.root)):
            _make_directories(self._folder(self._temporary))
            temporary, descriptor = self._locked_temporary()
            posix.close(descriptor)
            posix.unlink(temporary)

    @contextlib.contextmanager
    def lock(self, share: Share = ALONE) -> Iterator[None]:
        """Hold DIR against a second run on this host, or together with the other ranks of ``share``'s world.

        Raises LockedError if it is held otherwise, or by the same rank. Where the file system has no locks the run
        goes on without: what it writes is right even so, a second run only does the work twice.
        """
        with contextlib.ExitStack() as held:
            with _translated(self._lock):
                try:
                    self._acquire(held, share)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    log.warning("%s is on a file system without locks; see that no second run writes to it", self.root)
            yield

    def _acquire(self, held: contextlib.ExitStack, share: Share) -> None:
        path = self._target(self._lock)
        try:
            held.enter_context(locks.alone(path) if share.is_whole else locks.among_ranks(path, share.world_size))
        except locks.HeldError:
            raise LockedError(
                f"another run holds {self.root}",
                "one run at a time" if share.is_whole else f"ranks of a world of {share.world_size} and nobody else",
                "wait for it ('batchsent status' shows it), or choose another --output",
            ) from None
        try:
            if not share.is_whole:
                held.enter_context(locks.alone(self._rank_lock(str(share.rank))))
        except locks.HeldError:
            raise LockedError(
                f"this rank is at work on {self.root} already", "each rank once", "wait for it, or start another one"
            ) from None

    @contextlib.contextmanager
    def turn(self, check: Callable[[], None]) -> Iterator[None]:
        """Only one rank on this host is in it; the others wait. ``check`` is called meanwhile, and may raise."""
        with contextlib.ExitStack() as held:
            with _translated(self._ranks):
                try:
                    held.enter_context(locks.in_turn(self._rank_lock("turn"), check))
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
            yield

    def _rank_lock(self, name: str) -> Path:
        target = self._target(f"{self._ranks}/{name}")
        _make_directories(target.parent)
        return target

    def is_locked(self, rank: int | None = None) -> bool:
        """Whether a run holds DIR now, or this rank does. Writes nothing."""
        try:
            with self._target(self._lock if rank is None else f"{self._ranks}/{rank}").open("rb") as handle:
                return _lock(handle.fileno()) is False
        except (FileNotFoundError, NotADirectoryError):
            return False

    def publish(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        replace: bool = True,
        before_rename: Callable[[], None] = lambda: None,
    ) -> Published:
        """Make ``name`` hold what ``write`` writes, all or nothing, durably.

        With ``replace=False`` an existing name is left and FileExistsError raised: create-only. ``before_rename`` is
        called when all is written, and may raise: writing takes long enough for the world to change.
        """
        target = self._target(name)
        with _translated(name):
            _make_directories(target.parent)
            temporary, descriptor = self._locked_temporary()
            is_moved = False
            try:
                sink = _Sink(descriptor)
                write(cast(IO[bytes], sink))
                sink.flush()
                posix.fsync(descriptor)
                before_rename()
                if replace:
                    posix.rename(temporary, target)
                    is_moved = True
                else:
                    posix.link(temporary, target)
                written = _signature(os.fstat(descriptor))
            finally:
                posix.close(descriptor)
                if not is_moved:
                    with contextlib.suppress(FileNotFoundError):
                        posix.unlink(temporary)
            posix.sync_directory(target.parent)
        return Published(name, sink.sha256.hexdigest(), sink.size_bytes, written)

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

    def modified_seconds(self, name: str) -> float | None:
        """When ``name`` was written, in seconds since 1970; None if there is no such name."""
        found = self.signature(name)
        return None if found is None else found.mtime_ns / 1e9

    def folders(self, folder: str) -> Sequence[str]:
        """Names of the folders right in ``folder``, sorted; empty if there is no such folder."""
        try:
            with os.scandir(self._folder(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def list(self, folder: str) -> list[str]:
        """Names of the files right in ``folder``, sorted; empty if there is no such folder."""
        try:
            with os.scandir(self._folder(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def below(self, folder: str) -> Iterator[str]:
        """Names of all files below ``folder``, relative to it, in no order; none if there is no such folder."""
        root = self._folder(folder)
        for path, _, files in os.walk(root):
            yield from (Path(path, file).relative_to(root).as_posix() for file in files)

    def outputs(self, folder: str = "") -> Iterator[str]:
        """Names of every Parquet file in DIR, or below ``folder`` of it, that is not internal or hidden."""
        for path, files in self._output_folders(folder):
            for name in sorted(files):
                if name.endswith(".parquet") and not name.startswith(("_", ".")):
                    yield (path / name).relative_to(self.root).as_posix()

    def remove(self, name: str) -> None:
        """Remove ``name`` durably; nothing happens if it is not there."""
        target = self._target(name)
        with _translated(name):
            with contextlib.suppress(FileNotFoundError):
                posix.unlink(target)
            if target.parent.is_dir():
                posix.sync_directory(target.parent)

    def remove_tree(self, folder: str) -> None:
        """Remove a folder and all in it. What another run puts there meanwhile stays."""
        with _translated(folder):
            for path, _, files in os.walk(self._folder(folder), topdown=False):
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        posix.unlink(Path(path, file))
                try:
                    posix.remove_directory(Path(path))
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise

    def remove_orphans(self) -> int:
        """Remove temporaries that no process is writing; returns how many.

        A lock tells on the host that wrote it. Another host's may not be seen here, so its temporaries have to be
        a day old too.
        """
        removed = 0
        own = f"{_host()}-"
        with _translated(self._temporary):
            for path in self._folder(self._temporary).glob("*"):
                with contextlib.suppress(FileNotFoundError), path.open("rb") as handle:
                    is_free = _lock(handle.fileno())
                    age_seconds = time.time() - os.fstat(handle.fileno()).st_mtime
                    is_old = age_seconds > _FOREIGN_ORPHAN_SECONDS
                    if (is_free and path.name.startswith(own)) or (is_free is not False and is_old):
                        posix.unlink(path)
                        removed += 1
        return removed

    def make_durable(self, names: Iterable[str], trees: Iterable[str] = ()) -> None:
        """Sync every folder on the way to ``names``, those above DIR, and those below ``trees`` that hold outputs.

        Each publishing and each removal syncs the folder of its name. What was done by a run that was killed before
        it could is only found by this: a folder that it made and that may vanish, an output that it removed and that
        may come back.
        """
        folders = {parent for name in names for parent in self._target(name).parents}
        folders.update(path for tree in trees for path, _ in self._output_folders(tree))
        for folder in sorted(folders | set(self.root.parents), reverse=True):
            with _translated(str(folder)):
                try:
                    posix.sync_directory(folder)
                except PermissionError:  # above DIR: not ours to read, so not made by us
                    continue

    def size_bytes(self, folder: str) -> int:
        """Of all files below ``folder``."""
        total = 0
        for path, _, files in os.walk(self._folder(folder)):
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # another run clears it, where locks do not work
                    total += Path(path, name).stat().st_size
        return total

    def free_bytes(self) -> int:
        """Space that this user may still write; DIR need not be there yet."""
        folder = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(folder).free

    def path(self, name: str) -> Path:
        """Where ``name`` lies."""
        return self._target(name)

    def _output_folders(self, folder: str) -> Iterator[tuple[Path, Sequence[str]]]:
        """``folder`` and all below it that are not internal or hidden, each with the names of its files."""
        for path, subfolders, files in os.walk(self._folder(folder)):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith(("_", ".")))
            yield Path(path), files

    def _target(self, name: str) -> Path:
        target = self.root / name
        self._require_below(name, target.parent, is_below=".." not in target.parts)
        return target

    def _folder(self, name: str) -> Path:
        """Where a folder lies whose content is listed, or cleared: '' is DIR itself."""
        folder = self.root / name
        self._require_below(name, folder)
        return folder

    def _require_below(self, name: str, folder: Path, *, is_below: bool = True) -> None:
        """Raise UsageError unless ``folder`` is in DIR, or DIR, and no link is on the way from there.

        Names come from the input and from files in DIR, which others may have made. A link could lead a write, or a
        clearing, out of DIR, or to another place in it, where other shards have theirs.
        """
        try:
            is_below = is_below and folder.is_relative_to(self.root) and folder.resolve() == folder
        except (OSError, RuntimeError):  # a loop of links, by Python version
            is_below = False
        if not is_below:
            raise UsageError(
                f"{name} leads out of {self.root}, or through a link in it",
                "output names inside DIR",
                "remove the link or choose another --output",
            )

    def _locked_temporary(self) -> tuple[Path, int]:
        """Held while it is written, so that whoever clears orphans can tell it from one."""
        while True:
            path = self._folder(self._temporary) / f"{_host()}-{os.getpid()}-{secrets.token_hex(8)}"
            descriptor = posix.create(path)
            _lock(descriptor, wait=True)  # for whoever clears orphans and is looking at it just now
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            posix.close(descriptor)  # cleared as an orphan before it was locked


def require_writable(folder: Path) -> None:
    """Make ``folder``, if it is missing, and see that files can be made in it. Raises UsageError if they cannot."""
    with _translated(str(folder)):
        _make_directories(folder)
        temporary = _temporary_in(folder)
        posix.close(posix.create(temporary))
        posix.unlink(temporary)


def write_file(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Make ``path`` hold ``data``, all or nothing, durably: a file that stands by itself, in no DIR of a run.

    With ``replace=False`` an existing name is left and FileExistsError raised.
    """
    with _translated(str(path)):
        temporary = _temporary_in(path.parent)
        descriptor = posix.create(temporary)
        is_moved = False
        try:
            posix.write(descriptor, memoryview(data))
            posix.fsync(descriptor)
            if replace:
                posix.rename(temporary, path)
                is_moved = True
            else:
                posix.link(temporary, path)
        finally:
            posix.close(descriptor)
            if not is_moved:
                posix.unlink(temporary)
        posix.sync_directory(path.parent)


def may_be_replaced(path: Path, *, by: bytes) -> bool:
    """Whether nothing is at ``path``, or what begins like a file ``by`` which it is replaced: no reviews, by a slip."""
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(by)) in (b"", by)
    except OSError:  # writing will say what is wrong
        return True


def _temporary_in(folder: Path) -> Path:
    """A name that no INPUT is read under."""
    return folder / f".{secrets.token_hex(8)}.tmp"


def _host() -> str:
    return platform.node().replace("/", "_") or "host"


def _lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """True: it is ours now. False: somebody holds it. None: this file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def signature(path: str | os.PathLike[str]) -> Signature | None:
    """What a file looks like from outside; None if there is none. ctime cannot be set back by a user."""
    try:
        found = os.stat(path)  # noqa: PTH116 - also takes plain strings, by the thousand
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _signature(found)


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def hash_stream(stream: IO[bytes], check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 in hex of what is left to read; ``check`` is called between blocks and may raise."""
    sha256 = hashlib.sha256()
    while block := stream.read(1 << 20):
        sha256.update(block)
        check()
    return sha256.hexdigest()


class _Sink:
    """A binary file that only grows, and knows the SHA-256 of what went through it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        # pyarrow hands over buffers of its own.
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.size_bytes += view.nbytes
        self._buffer += view
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()
        return view.nbytes

    def flush(self) -> None:
        buffer, self._buffer = self._buffer, bytearray()
        if buffer:
            posix.write(self._descriptor, memoryview(buffer))

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
        posix.make_directory(path)
    if path.exists() and not path.is_dir():  # neither: another run clears it, and the next call will say so
        raise UsageError(f"{path} is a file", "a directory", "move it away or choose another --output")
    posix.sync_directory(path.parent)


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
        remedy = _REMEDIES.get(error.errno or 0, "run again to resume")
        kind = VanishedError if isinstance(error, FileNotFoundError) else StorageError
        raise kind(f"{name} could not be written ({reason})", "a disk that takes it", remedy) from error
