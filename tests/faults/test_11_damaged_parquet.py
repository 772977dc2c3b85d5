"""Fault 11: damaged Parquet input, through the whole job with a real reader process.

However a file is damaged, its shard fails or is read, and the other shard of the run is scored to the last row.
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import IncompleteError
from faults.inline import Inline
from faults.tally import Injections
from support import rows, write_csv

Reviews = Callable[[int], list[str]]

ROW_COUNT = 24
OTHER_COUNT = 15


def _parquet(texts: list[str], **options: Any) -> bytes:
    """Three row groups of a text and a number."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "id": list(range(len(texts)))}), file, row_group_size=10, **options)
    return file.getvalue()


def _score(inline: Inline, folder: Path, content: bytes) -> tuple[list[dict[str, Any]] | None, str]:
    """What was scored of the file with this content, None if it failed, and why; the other shard has to be whole."""
    shutil.rmtree(folder, ignore_errors=True)
    source, out = folder / "in", folder / "out"
    write_csv(source / "a.csv", ["good"] * OTHER_COUNT, id=list(range(OTHER_COUNT)))
    (source / "b.parquet").write_bytes(content)
    message = ""
    try:
        inline.score(source, output=out, keep=("id", "text=kept_text"), max_reject_rate=1.0)
    except IncompleteError as error:
        message = str(error)
        assert message.startswith("1 of 2 shards failed (")
        assert not (out / "b.parquet").exists()
    assert (out / "_SUCCESS").exists() is (not message)
    assert [row["row_index"] for row in rows(out / "a.parquet")] == list(range(OTHER_COUNT)), "the rest goes on"
    return None if message else rows(out / "b.parquet"), message


@pytest.mark.real_process
@pytest.mark.fault(11, "Parquet input cut short at every length")
def test_11_cut_short(injections: Injections, inline_with_reader: Inline, tmp_path: Path, reviews: Reviews) -> None:
    content = _parquet(reviews(ROW_COUNT))
    assert _score(inline_with_reader, tmp_path, content)[0] is not None
    for length in injections.of(range(len(content)), quick=20):
        scored, message = _score(inline_with_reader, tmp_path, content[:length])
        assert scored is None, "a file without its end was taken for a whole one"
        assert "b.parquet is not readable as Parquet" in message


def _flipped(content: bytes, seed: int) -> bytes:
    """One bit changed."""
    chooser = random.Random(seed)
    changed = bytearray(content)
    changed[chooser.randrange(len(content))] ^= 1 << chooser.randrange(8)
    return bytes(changed)


@pytest.mark.real_process
@pytest.mark.fault(11, "bit flips in Parquet input with page checksums")
def test_11_bit_flips_with_checksums(
    injections: Injections, inline_with_reader: Inline, tmp_path: Path, reviews: Reviews
) -> None:
    content = _parquet(reviews(ROW_COUNT), write_page_checksum=True)
    expected, _ = _score(inline_with_reader, tmp_path, content)
    for seed in injections.of(range(2000), quick=25):
        scored, _ = _score(inline_with_reader, tmp_path, _flipped(content, seed))
        assert scored in (None, expected), "a change was not noticed"


@pytest.mark.real_process
@pytest.mark.fault(11, "bit flips in Parquet input without page checksums")
def test_11_bit_flips_without_checksums(
    injections: Injections,
    inline_with_reader: Inline,
    tmp_path: Path,
    reviews: Reviews,
    record_property: Callable[[str, object], None],
) -> None:
    # Nobody can notice a changed letter here; that no row is lost is what is left to promise.
    content = _parquet(reviews(ROW_COUNT))
    expected, _ = _score(inline_with_reader, tmp_path, content)
    silently_wrong = 0
    for seed in injections.of(range(2000), quick=25):
        scored, _ = _score(inline_with_reader, tmp_path, _flipped(content, seed))
        silently_wrong += scored not in (None, expected)
        if scored is not None:
            rejected = rows(tmp_path / "out/_batchsent/rejects/b.parquet")
            assert sorted(row["row_index"] for row in [*scored, *rejected]) == list(range(ROW_COUNT))
    record_property("silently_wrong", silently_wrong)
