"""Fault 14: CSV made up by hypothesis, held against a parser of its own; no record is ever lost in silence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from batchsent.errors import ShardError
from batchsent.records import Position, Shard, ShardDigest
from batchsent.stages.reader import ReadRequest
from batchsent.stages.reader.process import answers
from batchsent.storage import signature
from faults import rfc4180
from faults.tally import Injections

EXAMPLES = 100
"""A block of them is one injection: 45 blocks here, 45 below."""
HEADER = b"id,text\n"

Row = tuple[int, str | None, str | None, str | None]
"""byte offset, text, reason, id"""

PIECES = [b"good", b"a", b",", b"\n", b"\r", b"\r\n", b'"', b'""', b"\\", b" ", b"\0", b";", b"\t", b"NA"]
PIECES += ["é".encode(), "爱".encode(), "\u2028".encode(), b"\xff", b"\xe9", b"\xed\xa0\x80", b"x" * 50]
BLOCKS = st.sampled_from([1, 2, 3, 7, 64, 256 * 1024])


@st.composite
def _valid(draw: st.DrawFn) -> bytes:
    """Records of any fields, quoted where they have to be and sometimes where not, under any line ends."""
    content = b""
    for _ in range(draw(st.integers(0, 12))):
        fields = []
        for _ in range(draw(st.sampled_from([2, 2, 2, 2, 1, 3]))):
            field = b"".join(draw(st.lists(st.sampled_from(PIECES), max_size=5)))
            if draw(st.booleans()) or field.startswith(b'"') or set(field) & set(b",\r\n"):
                field = b'"' + field.replace(b'"', b'""') + b'"'
            fields.append(field)
        content += b",".join(fields) + draw(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"]))
    return content if draw(st.booleans()) else content.rstrip(b"\r\n")


class _Reader:
    """Reads content as a shard of parts of three records."""

    def __init__(self, folder: str, content: bytes) -> None:
        path = Path(folder) / "r.csv"
        path.write_bytes(HEADER + content)
        self._shard = Shard("r.csv", str(path), ".csv", "", len(content))

    def rows(self, done: dict[int, tuple[Position, bool]]) -> Iterator[tuple[tuple[Position, bool], list[Row]]]:
        """(what is done with it, rows) of each part that is not ``done``."""
        found = signature(self._shard.path)
        assert found is not None
        digest = ShardDigest("", found)
        request = ReadRequest(self._shard, "", digest, done, "text", ("id",), "utf-8", None, 3, None)
        for part in answers(request):
            names = ("byte_offset", "text", "reason", "kept.id")
            columns = [part.records.column(name).to_pylist() for name in names]  # type: ignore[union-attr]
            yield (part.end, part.is_last), list(zip(*columns, strict=True))  # type: ignore[union-attr]


def _expected(record: rfc4180.Record) -> Row:
    assert record.fields is not None
    if len(record.fields) != 2:
        return record.start, None, "field_count", None
    try:
        number, text = (field.decode() for field in record.fields)
    except UnicodeDecodeError:
        return record.start, None, "undecodable", None
    return (record.start, text, None, number) if text.strip() else (record.start, None, "empty_text", number)


def _fuzz(block: int, check: Callable[[str, bytes], None], content: st.SearchStrategy[bytes]) -> None:
    """Call ``check`` with a folder and content for EXAMPLES examples, the same ones for the same ``block``."""
    quiet = settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    with tempfile.TemporaryDirectory() as folder:

        @seed(block)
        @quiet
        @given(content=content, block_bytes=BLOCKS)
        def fuzzed(content: bytes, block_bytes: int) -> None:
            with pytest.MonkeyPatch.context() as patch:
                for module in ("text_stream", "decompression"):
                    patch.setattr(f"batchsent.stages.reader.{module}.BLOCK_BYTES", block_bytes)
                check(folder, content)

        fuzzed()


def _require_round_trip(folder: str, content: bytes) -> None:
    expected = [_expected(record) for record in rfc4180.parse(HEADER + content, len(HEADER))]
    reader = _Reader(folder, content)
    parts = list(reader.rows({}))
    assert [row for _, rows in parts for row in rows] == expected
    for count in range(1, len(parts)):  # begun in the middle, as a resumed run does
        done = {index: parts[index][0] for index in range(count)}
        assert list(reader.rows(done)) == parts[count:]


@pytest.mark.in_process
@pytest.mark.fault(14, f"fuzzing: CSV against an oracle, {EXAMPLES} examples each")
def test_14_round_trip(injections: Injections) -> None:
    for block in injections.of(range(45), quick=1):
        _fuzz(block, _require_round_trip, _valid())


def _require_nothing_lost(folder: str, content: bytes) -> None:
    """Each record that is read, and each that is rejected, is one of the oracle's, and none is between them."""
    try:
        rows: list[Any] = [row for _, rows in _Reader(folder, content).rows({}) for row in rows]
    except ShardError:
        return  # aloud
    data = HEADER + content
    at = len(HEADER)
    for row in rows:
        record = rfc4180.parse(data, at)[0]
        assert record.start == row[0]
        if record.fields is not None:
            assert row == _expected(record)
            at = record.end
        else:
            assert row[2] == "malformed_quotes"
            at = record.start + len(data[record.start :].splitlines(keepends=True)[0])
            assert record.end <= at, "a malformed record that crosses lines may have swallowed others"
    assert rfc4180.parse(data, at) == []


@pytest.mark.in_process
@pytest.mark.fault(14, f"fuzzing: any bytes as CSV, {EXAMPLES} examples each")
def test_14_any_bytes(injections: Injections) -> None:
    anything = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join) | st.binary(max_size=200)
    for block in injections.of(range(45), quick=1):
        _fuzz(block, _require_nothing_lost, anything)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'a,b\r\n\r\n"c\r\n""d""",\r', [[b"a", b"b"], [b'c\r\n"d"', b""]]),
        (b'""\n,\n\n" "', [[b""], [b"", b""], [b" "]]),
        (b'a"b,c"\n"x"y,\n', [[b'a"b', b'c"'], None]),
    ],
)
def test_the_oracle(data: bytes, expected: list[list[bytes] | None]) -> None:
    assert [record.fields for record in rfc4180.parse(data)] == expected
