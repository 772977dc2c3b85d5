"""What rejected rows hold, read again from the inputs, if these are still what was scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

from batchsent import checkpoint
from batchsent.digests import DigestCache
from batchsent.errors import BatchsentError, ShardError
from batchsent.html_report.rejects import Reject, RejectExamples
from batchsent.html_report.sources import Findings
from batchsent.identity import Identity
from batchsent.records import Position, Shard, ShardDigest
from batchsent.schema import TEXT
from batchsent.stages.planner import plan_shards
from batchsent.stages.reader import ReaderProcess, ReadRequest
from batchsent.stages.reader.text_stream import field_encoding, open_text, skip_to

EXCERPT_CHARACTERS = 300
_EXCERPT_BYTES = 4 * (EXCERPT_CHARACTERS + 1)
_LINE_END = re.compile(rb"[\r\n]")

_GONE = "the input is not where it was"
_CHANGED = "the input has changed since it was scored"
_UNREADABLE = "the input cannot be read"


def with_texts(findings: Findings, examples: RejectExamples, check: Callable[[], None]) -> RejectExamples:
    """``examples`` with the beginning of what each row holds, or the reason why it cannot be had."""
    inputs = _Inputs(findings, check)
    rejects = sorted(
        (reject for rejects in examples.by_reason.values() for reject in rejects),
        key=lambda reject: (reject.shard, reject.row_index),
    )
    texts: dict[tuple[str, int], Reject] = {}
    for name, of_shard in groupby(rejects, key=lambda reject: reject.shard):
        for reject in _of_shard(inputs, findings.identity, name, list(of_shard), check):
            texts[reject.shard, reject.row_index] = reject
    by_reason = {
        reason: [texts[reject.shard, reject.row_index] for reject in rejects]
        for reason, rejects in examples.by_reason.items()
    }
    return replace(examples, by_reason=by_reason)


class _Inputs:
    """The inputs that the runs have recorded, as they are now."""

    def __init__(self, findings: Findings, check: Callable[[], None]) -> None:
        self._digests = DigestCache(findings.store, check)
        self._identity = findings.identity
        self._units = {entry.shard: entry.unit for entry in findings.shards}
        self._shards: dict[str, Shard] = {}
        for given in findings.inputs:
            try:
                self._shards |= {shard.name: shard for shard in plan_shards((given,), findings.store.root)}
            except (OSError, BatchsentError):
                continue  # what is missing is said where it is needed

    def find(self, name: str) -> tuple[Shard, ShardDigest] | str:
        """The shard, if it holds what was scored; else why not."""
        shard = self._shards.get(name)
        if shard is None:
            return _GONE
        try:
            digest = self._digests.of_shard(shard)
        except FileNotFoundError:
            return _GONE
        except (OSError, ShardError):
            return _UNREADABLE
        is_same = checkpoint.unit_of(self._identity, name, digest) == self._units[name]
        return (shard, digest) if is_same else _CHANGED


def _of_shard(
    inputs: _Inputs, identity: Identity, name: str, rejects: list[Reject], check: Callable[[], None]
) -> Iterator[Reject]:
    found = inputs.find(name)
    if isinstance(found, str):
        yield from (replace(reject, obstacle=found) for reject in rejects)
        return
    shard, digest = found
    texts = _rows if shard.format == ".parquet" else _lines
    done = 0
    try:
        for text in texts(shard, digest, identity, rejects, check):
            yield replace(rejects[done], text=_shortened(text))
            done += 1
    except (OSError, BatchsentError):
        check()
        yield from (replace(reject, obstacle=_UNREADABLE) for reject in rejects[done:])


def _lines(
    shard: Shard, _digest: ShardDigest, identity: Identity, rejects: list[Reject], check: Callable[[], None]
) -> Iterator[str]:
    """The first line of each record: where one that is malformed ends, nobody can say."""
    codec = field_encoding(identity.encoding)
    with open_text(shard, identity.encoding) as stream:
        start, data = 0, b""
        for reject in rejects:
            check()
            offset = reject.byte_offset or 0
            if offset > start + len(data):
                skip_to(stream, offset)
                start, data = offset, b""
            data = data[offset - start :]
            data += stream.read(max(0, _EXCERPT_BYTES - len(data)))
            start = offset
            yield _LINE_END.split(data, maxsplit=1)[0].decode(codec, "replace")


def _rows(
    shard: Shard, digest: ShardDigest, identity: Identity, rejects: list[Reject], check: Callable[[], None]
) -> Iterator[str]:
    """The text column, by the reader and its limit on memory; '' where it holds no text."""
    with ReaderProcess(check) as reader:
        for reject in rejects:
            request = replace(
                ReadRequest.of_texts(shard, digest, identity),
                done={0: (Position(reject.row_index), False)},
                rows_per_part=1,
                limit=reject.row_index + 1,
            )
            (part,) = reader.read(request)
            yield part.records.column(TEXT)[0].as_py() or ""


def _shortened(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARACTERS else f"{text[:EXCERPT_CHARACTERS]}…"
