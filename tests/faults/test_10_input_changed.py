"""Fault 10: the input, the model or its tokenizer change between runs and during one.

Noticed always: what is published comes from one content of each file, whole, and the next run publishes what a fresh
run would.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent import job
from batchsent.checkpoint import Work
from batchsent.errors import IncompleteError
from batchsent.records import Inspection, Part
from batchsent.stages.committer import commit_shard, publish_success
from batchsent.stages.reader import InspectRequest, ReadRequest
from batchsent.storage import hash_stream
from faults.inline import Inline, InlineReader, KillAfter, KilledError
from faults.tally import Injections
from support import published, write_csv

Reviews = Callable[[int], list[str]]


def _csv(path: Path, texts: list[str]) -> None:
    write_csv(path, texts)


def _gzipped_lines(path: Path, texts: list[str]) -> None:
    # Stored, not compressed, so that each text has its own bytes in the file.
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(lines, 0, mtime=0))


def _parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts}), path, row_group_size=7, use_dictionary=False, compression="none")


FORMATS: dict[str, Callable[[Path, list[str]], None]] = {
    "r.csv": _csv,
    "r.jsonl.gz": _gzipped_lines,
    "r.parquet": _parquet,
}
ROW_COUNT = 35
"""Four parts."""


def _one_letter(texts: list[str], at: int) -> list[str]:
    """Another text of the same length; no word begins with a z."""
    return [*texts[:at], f"z{texts[at][1:]}", *texts[at + 1 :]]


CONTENTS: dict[str, Callable[[list[str]], list[str]]] = {
    "first text": lambda texts: _one_letter(texts, 0),
    "text of the second part": lambda texts: _one_letter(texts, 13),
    "last text": lambda texts: _one_letter(texts, ROW_COUNT - 1),
    "appended": lambda texts: [*texts, "one more"],
    "cut short": lambda texts: texts[:-1],
    "reversed": lambda texts: texts[::-1],
    "two swapped": lambda texts: [*texts[:8], texts[9], texts[8], *texts[10:]],
}
WAYS = ("in place", "by rename", "in place, old mtime", "by rename, old mtime")


def _write(name: str, path: Path, texts: list[str], way: str) -> None:
    """Give a shard other content, as a program does it that has no wish to be noticed."""
    before = path.stat()
    new = path.with_name("_new")
    FORMATS[name](new, texts)
    if way.startswith("by rename"):
        new.replace(path)
    else:
        with path.open("r+b") as file:
            file.write(new.read_bytes())
            file.truncate()
        new.unlink()
    if way.endswith("old mtime"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _fresh(inline: Inline, folder: Path, name: str, content: str, texts: list[str]) -> Path:
    """DIR of a run on these texts and on a shard that never changes; its input lies beside it. Made once."""
    source, out = folder / name / content / "in", folder / name / content / "out"
    if not source.exists():
        source.mkdir(parents=True)
        FORMATS[name](source / name, texts)
        write_csv(source / "other.csv", ["good film"] * 12)
        inline.score(source, output=out)
    return out


@pytest.mark.in_process
@pytest.mark.fault(10, "input changed between runs")
def test_10_input_changed_between_runs(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews
) -> None:
    texts = reviews(ROW_COUNT)
    cases = list(product(FORMATS, CONTENTS, WAYS, (1, 3, 4, None)))
    for name, content, way, parts in injections.of(cases, quick=9):
        changed = CONTENTS[content](texts)
        old, whole = (_fresh(inline, tmp_path, name, *of) for of in (("old", texts), (content, changed)))
        assert published(whole) != published(old)
        found, source, out = tmp_path / "found", tmp_path / "found/in", tmp_path / "found/out"
        shutil.rmtree(found, ignore_errors=True)
        shutil.copytree(old.parent / "in", source)
        if parts is None:
            inline.score(source, output=out)
        else:  # that run was killed
            with pytest.raises(KilledError):
                inline.score(source, output=out, progress=KillAfter(parts))
        _write(name, source / name, changed, way)
        inline.score(source, output=out)
        injections.compare(whole, out)


MOMENTS = ("inspected", "hashed", "read 0", "read 1", "read 3", "merged", "published")


def _at(moment: str, path: Path, change: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Make ``change`` once, when the run comes to ``moment`` with the shard at ``path``."""
    todo = [change]

    def now() -> None:
        if todo:
            todo.pop()()

    class Reader(InlineReader):
        def inspect(self, requests: list[InspectRequest]) -> Iterator[Inspection]:
            yield from super().inspect(requests)
            if moment == "inspected":
                now()

        def read(self, request: ReadRequest) -> Iterator[Part]:
            for part in super().read(request):
                yield part
                if request.shard.path == str(path) and moment == f"read {part.index}":
                    now()

    def hashing(stream: Any, check: Callable[[], None] = lambda: None) -> str:
        def check_and_change() -> None:
            check()
            if moment == "hashed" and stream.name == str(path):
                now()

        return hash_stream(stream, check_and_change)

    def merging(store: Any, identity: Any, work: Work, *arguments: Any) -> Any:
        if moment == "merged" and work.shard.path == str(path):
            now()
        return commit_shard(store, identity, work, *arguments)

    def publishing(*arguments: Any) -> None:
        if moment == "published":
            now()
        publish_success(*arguments)

    patch.setattr(job, "ReaderProcess", Reader)
    patch.setattr("batchsent.digests.hash_stream", hashing)
    patch.setattr("batchsent.ledger.commit_shard", merging)
    patch.setattr("batchsent.stages.committer.publish_success", publishing)


@pytest.mark.in_process
@pytest.mark.fault(10, "input changed during a run")
def test_10_input_changed_during_a_run(
    injections: Injections, inline: Inline, tmp_path: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts longer than every buffer, so that what is read after a change could be what was written by it.
    for module in ("text_stream", "decompression"):
        monkeypatch.setattr(f"batchsent.stages.reader.{module}.BLOCK_BYTES", 1024)
    texts = [f"{text} " * (3000 // len(text)) for text in reviews(ROW_COUNT)]
    cases = list(product(MOMENTS, FORMATS, CONTENTS, WAYS))
    for moment, name, content, way in injections.of(cases, quick=7):
        changed = CONTENTS[content](texts)
        old, whole = (_fresh(inline, tmp_path, name, *of) for of in (("old", texts), (content, changed)))
        found, source, out = tmp_path / "found", tmp_path / "found/in", tmp_path / "found/out"
        shutil.rmtree(found, ignore_errors=True)
        shutil.copytree(old.parent / "in", source)
        with monkeypatch.context() as patch:
            _at(moment, source / name, partial(_write, name, source / name, changed, way), patch)
            with contextlib.suppress(IncompleteError):  # the shard failed
                inline.score(source, output=out)
        if (out / "_SUCCESS").exists():
            assert published(out) in (published(old), published(whole)), "a mixture of two contents"
        # No part of the other content waits for the day when this one comes back.
        for content_now, expected in ((texts, old), (changed, whole)):
            _write(name, source / name, content_now, way)
            inline.score(source, output=out)
            injections.compare(expected, out)
