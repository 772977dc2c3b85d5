"""What a power cut left of a disk: made real, and told from others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Hashable
from dataclasses import astuple
from pathlib import Path

from batchsent.checkpoint import RUNS
from batchsent.digests import DIGESTS
from batchsent.identity import checksum_of
from batchsent.storage import TEMPORARY, signature
from faults.disk_model import Content, State


def restore(root: Path, state: State) -> None:
    """Make ``root`` hold what is left of it."""
    shutil.rmtree(root)
    root.mkdir()
    for path, content in state:
        if content is None:
            Path(path).mkdir()
        else:
            Path(path).write_bytes(content.data)
    # These are other inodes than those that the record of hashes knows.
    known = _files(state)
    for path in known:
        if path.endswith(DIGESTS):
            Path(path).write_bytes(_renewed(known[path].data, known))


def _renewed(record: bytes, known: dict[str, Content]) -> bytes:
    """A record of hashes that takes each file for what it was, if the one that is left looks so."""
    recorded = _recorded(record)
    for path, (numbers, _) in recorded.items():
        if _is_recognized(numbers, known.get(path)):
            found = signature(path)
            assert found is not None
            numbers[:] = astuple(found)
    return json.dumps([checksum_of(recorded), recorded]).encode() if recorded else record


def _recorded(record: bytes) -> dict[str, tuple[list[int], str]]:
    """Path → signature and hash; empty if the record is damaged."""
    try:
        recorded: dict[str, tuple[list[int], str]] = json.loads(record)[1]
    except ValueError:
        return {}
    return recorded


def _is_recognized(numbers: list[int], content: Content | None) -> bool:
    """Whether a file looks as it did when it was recorded, whatever is in it."""
    if content is None or content.signature is None:
        return False
    seen = content.signature
    return [seen.size_bytes, seen.mtime_ns, seen.ctime_ns, seen.inode] == numbers and len(content.data) == numbers[0]


def _files(state: State) -> dict[str, Content]:
    return {path: content for path, content in state if content is not None}


def essence(state: State) -> Hashable:
    """What decides how a run goes on from ``state``: of two that have it in common, one need be tried.

    Left out is what no run reads: temporaries, which it unlinks first of all, and records of runs. Of the record of
    hashes, what counts is which files it takes for what they were.
    """
    known = _files(state)
    found: set[tuple[str, object]] = set()
    for path, content in state:
        if path.endswith(DIGESTS) and content is not None:
            recorded = _recorded(content.data).items()
            hashes = {(name, sha256, _is_recognized(numbers, known.get(name))) for name, (numbers, sha256) in recorded}
            found.add((path, frozenset(hashes) or content.data))
        elif not any(f"/{folder}/" in path for folder in (TEMPORARY, RUNS)):
            found.add((path, content and content.data))
    return frozenset(found)
