"""What a power cut may leave of a directory: a model of a file system that promises no more than POSIX does.

The model stands in front of ``batchsent.posix``: whatever the store does happens really, and in the model too. There,

- a file's content is safe up to its last fsync. What was written since may be whole, missing, cut short, or zeros of
  the right length;
- a name in a directory is safe since the last sync of that directory. A name that was made, replaced or removed since
  may be as it is now, as it was then, or as at any moment between; each name for itself, in any order. So a rename may
  leave both names, or neither, and a folder may be gone with all in it that is safe.

``Disk.states`` has every combination. One directory is exempt: in that of the temporaries the names that are not safe
are there all or none. A run does one thing with them: it unlinks each, whatever it holds and whichever others there
are, and nothing else ever reads them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from batchsent import posix
from batchsent.records import Signature
from batchsent.storage import TEMPORARY, signature
from faults.system_calls import STEPS


@dataclass(frozen=True)
class Content:
    """What a file holds after a power cut."""

    data: bytes
    signature: Signature | None
    """By which a record of hashes may know it."""


State = tuple[tuple[str, Content | None], ...]
"""What is left: path and content of each file, path and None of each folder."""


@dataclass(eq=False)
class File:
    """An inode with data."""

    written: bytes = b""
    safe: bytes = b""
    signature: Signature | None = None

    def outcomes(self) -> Iterator[Content]:
        """What it may hold after a power cut."""
        lost = self.written[len(self.safe) :]
        for tail in dict.fromkeys((lost, b"", lost[: len(lost) // 2], bytes(len(lost)))):
            yield Content(self.safe + tail, self.signature)


@dataclass(eq=False)
class Directory:
    """An inode with names."""

    names: dict[str, Node] = field(default_factory=dict)
    """As processes see them."""
    unsafe: dict[str, list[Node | None]] = field(default_factory=dict)
    """Names that changed since the last sync: all that they have stood for since, None for nothing."""

    def change(self, name: str, node: Node | None) -> None:
        """Make, replace or remove a name."""
        self.unsafe.setdefault(name, [self.names.get(name)]).append(node)
        if node is None:
            del self.names[name]
        else:
            self.names[name] = node

    def outcomes(self, path: str) -> Iterator[State]:
        """What may be left in it after a power cut; ``path`` is its own."""
        if path.endswith(f"/{TEMPORARY}"):
            yield from dict.fromkeys((tuple(self._all_that_ever_was(path)), ()))
            return
        yield from self._combinations(sorted(self.names.keys() | self.unsafe.keys()), path)

    def _combinations(self, names: list[str], path: str) -> Iterator[State]:
        """One at a time: where nothing is ever synced there are too many to hold."""
        if not names:
            yield ()
            return
        first, *others = names
        for node in self.candidates(first):
            for state in _outcomes(node, f"{path}/{first}"):
                for rest in self._combinations(others, path):
                    yield state + rest

    def candidates(self, name: str) -> Iterable[Node | None]:
        """What ``name`` may stand for after a power cut."""
        return dict.fromkeys(self.unsafe.get(name, [self.names.get(name)]))

    def _all_that_ever_was(self, path: str) -> Iterator[tuple[str, Content]]:
        for name in sorted(self.names.keys() | self.unsafe.keys()):
            file = next(node for node in self.candidates(name) if isinstance(node, File))
            yield f"{path}/{name}", Content(file.written, None)


Node = File | Directory


def _outcomes(node: Node | None, path: str) -> Iterator[State]:
    if isinstance(node, File):
        yield from (((path, content),) for content in node.outcomes())
    elif isinstance(node, Directory):
        yield from (((path, None), *state) for state in node.outcomes(path))
    else:
        yield ()


class Disk:
    """The file system below a directory, which is safe with all that is in it when this begins."""

    def __init__(self, root: Path, replace: Callable[[object, str, Any], None]) -> None:
        """Take part in every call of ``batchsent.posix``; ``replace`` is ``monkeypatch.setattr``."""
        self._root = root.resolve()
        self._top = _read(self._root)
        self._open: dict[int, File] = {}
        self._lock = threading.Lock()
        self.on_change: Callable[[], None] = lambda: None
        """Called after each call: whenever the power may go."""
        for step in STEPS:
            replace(posix, step, partial(self._do, step, getattr(posix, step)))

    def states(self) -> Iterator[State]:
        """All that may be left if the power goes now."""
        return self._top.outcomes(str(self._root))

    def may_hold(self, path: Path) -> bool:
        """Whether a file of this name may be left."""
        directory = self._node(path.parent)
        return isinstance(directory, Directory) and any(directory.candidates(path.name))

    def _do(self, step: str, real: Callable[..., Any], *arguments: Any) -> Any:
        with self._lock:
            result = real(*arguments)
            self._follow(step, result, *arguments)
            self.on_change()
        return result

    def _follow(self, step: str, result: Any, target: Any, other: Any = None) -> None:
        match step:
            case "create":
                self._open[result] = File()
                self._change(target, self._open[result])
            case "write":
                self._open[target].written += other
            case "fsync":
                self._open[target].safe = self._open[target].written
            case "close":
                del self._open[target]
            case "rename" | "link":
                file = self._node(target)
                assert isinstance(file, File)
                self._change(other, file)
                if step == "rename":
                    self._change(target, None)
                file.signature = signature(other)
            case "make_directory":
                self._change(target, Directory())
            case "unlink" | "remove_directory":
                self._change(target, None)
            case "sync_directory":
                directory = self._node(target)
                if isinstance(directory, Directory):
                    directory.unsafe.clear()

    def _change(self, path: Path, node: Node | None) -> None:
        directory = self._node(path.parent)
        assert isinstance(directory, Directory)
        directory.change(path.name, node)

    def _node(self, path: Path) -> Node | None:
        """None if it is not below the root."""
        if not path.is_relative_to(self._root):
            return None
        node: Node | None = self._top
        for name in path.relative_to(self._root).parts:
            node = node.names.get(name) if isinstance(node, Directory) else None
        return node


def _read(path: Path) -> Directory:
    directory = Directory()
    for child in path.iterdir():
        if child.is_dir():
            directory.names[child.name] = _read(child)
        else:
            data = child.read_bytes()
            directory.names[child.name] = File(data, data, signature(child))
    return directory
