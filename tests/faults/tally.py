"""Injections of faults: which there are, which were done, and what each of them cost.

The quick form (``make test``) takes a few of each fault, spread over all. The full form (``make faults``, which sets
``BATCHSENT_FAULTS=full``) takes every one, remembers those that are done in ``.faults/`` and goes on there when it is
run again; ``table.py`` makes ``docs/reliability.md`` of what it left.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from batchsent.checkpoint import REJECTS
from batchsent.schema import ROW_INDEX
from batchsent.storage import LocalStore
from support import published

T = TypeVar("T")

IS_FULL = os.environ.get("BATCHSENT_FAULTS") == "full"
FOLDER = Path(__file__).parents[2] / ".faults"


@dataclass
class Cost:
    """What an injection did to DIR, compared with a run that nothing happened to."""

    lost: int = 0
    """Records that are in no file."""
    duplicated: int = 0
    """Records that are in the files more than once."""
    differing_bytes: int = 0
    """Of published files, in places where they differ or that only one of them has."""


class Injections:
    """The injections of one test. Whatever costs anything fails the test, after it was written down."""

    def __init__(self, test: str, fault: int, title: str, kind: str) -> None:
        self._about: dict[str, Any] = {"fault": fault, "title": title, "kind": kind, "test": test}
        self._log = FOLDER / f"{test}.jsonl" if IS_FULL else None
        self._cost = Cost()

    def of(self, cases: Sequence[T], *, quick: int) -> Iterator[T]:
        """Each case that is to be injected now; when the next is asked for, this one was survived.

        ``cases`` have to be the same, and in the same order, each time; they are known by their position.
        """
        for index in self._todo(len(cases), quick):
            self._cost = Cost()
            is_survived = False
            try:
                yield cases[index]
                is_survived = self._cost == Cost()
            finally:
                self._write({"case": index, "survived": is_survived, **asdict(self._cost)})
            assert is_survived, f"case {index}, {cases[index]!r}: {self._cost}"

    def compare(self, whole: Path, found: Path) -> None:
        """Count what differs between two directories that should have been published alike."""
        expected, there = published(whole), published(found)
        if expected == there:
            return
        cost = self._cost
        wanted, rows = _rows(whole), _rows(found)
        cost.lost += (wanted - rows).total()
        cost.duplicated += (rows - wanted).total()
        cost.differing_bytes += sum(
            _differing_bytes(expected.get(name, b""), there.get(name, b"")) for name in expected | there
        )

    def _todo(self, count: int, quick: int) -> list[int]:
        if self._log is None:
            step = max(1, count // quick)
            return list(range(0, count, step))[:quick]
        self._log.parent.mkdir(exist_ok=True)
        done: set[int] = set()
        if self._log.exists():
            about, *lines = map(json.loads, self._log.read_text(encoding="utf-8").splitlines())
            done = {line["case"] for line in lines if line["survived"]}
            assert about == {**self._about, "count": count}, f"remove {self._log}: it is of other injections"
        else:
            self._write({**self._about, "count": count})
        return [index for index in range(count) if index not in done]

    def _write(self, line: dict[str, Any]) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")


def _rows(directory: Path) -> Counter[tuple[str, int]]:
    """(shard, record) of every row in the outputs and the rejects."""
    store, rows = LocalStore(directory), Counter[tuple[str, int]]()
    for name in [*store.outputs(), *store.outputs(REJECTS)]:
        with store.open(name) as stream:
            indices = pq.read_table(stream, columns=[ROW_INDEX]).column(ROW_INDEX).to_pylist()
        rows.update((name.removeprefix(f"{REJECTS}/"), index) for index in indices)
    return rows


def _differing_bytes(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip_longest(one, other))
