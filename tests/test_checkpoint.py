"""What counts as done: parts, entries and manifests whose bytes are what they were, and hashes that still hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pytest

from batchsent import storage
from batchsent.checkpoint import (
    MANIFEST,
    PARTS,
    SUCCESS,
    FileEntry,
    Manifest,
    PartFile,
    PartState,
    ShardEntry,
    UnitProgress,
    is_published,
    load_entry,
    load_manifest,
    load_progress,
    part_name,
    save_entry,
    success_line,
    unit_of,
)
from batchsent.digests import DIGESTS, DigestCache
from batchsent.errors import ShardError, StoppedError
from batchsent.identity import SCHEMA_VERSION, Identity
from batchsent.records import Position, ScoredPart, Shard, ShardDigest
from batchsent.stages.writer import write_part
from batchsent.storage import LocalStore, signature

UNIT = "0123456789abcdef" * 2
SHARD = Shard("reviews.csv", "/nowhere/reviews.csv", ".csv", "", 100)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "scored")
    store.create()
    return store


def part_of(index: int, *, is_last: bool = False, value: float = 0.5, unit: str = UNIT) -> ScoredPart:
    table = pa.table({"row_index": pa.array([index], pa.int64()), "probability": pa.array([value], pa.float32())})
    end = Position(index + 1, 10 * (index + 1))
    return ScoredPart(SHARD, unit, index, table, end, is_last, {"stars": ["int"]}, token_count=7)


def entry_of(shard: str = "a.csv", **values: Any) -> ShardEntry:
    defaults: dict[str, Any] = {
        "shard": shard,
        "unit": UNIT,
        "input_sha256": "a" * 64,
        "input_size_bytes": 123,
        "record_count": 6,
        "row_count": 3,
        "reject_counts": {"empty_text": 2, "invalid_json": 1},
        "token_count": 40,
        "truncated_count": 1,
        "label_counts": {"NEGATIVE": 1, "POSITIVE": 2},
        "confidence_counts": (0, 1, 2),
        "length_counts": (3, 0, 0),
        "output": FileEntry(f"{shard}.parquet", "b" * 64, 1000),
        "rejects": FileEntry(f"_batchsent/rejects/{shard}.parquet", "c" * 64, 500),
    }
    return ShardEntry(**(defaults | values))


def flips(data: bytes, *masks: int) -> Iterator[bytes]:
    """``data`` with each of its bytes changed by each of ``masks``: in every single bit and in all if none is given."""
    for position, byte in enumerate(data):
        for mask in masks or (1, 2, 4, 8, 16, 32, 64, 128, 255):
            yield data[:position] + bytes([byte ^ mask]) + data[position + 1 :]


# --- parts


def test_progress_is_what_was_written(store: LocalStore) -> None:
    written = [write_part(store, part_of(index, is_last=index == 2)) for index in (2, 0, 1)]
    progress = load_progress(store, UNIT)
    assert progress.in_order() == sorted(written, key=lambda part: part.index)
    assert progress.is_complete
    assert progress.done == {0: (Position(1, 10), False), 1: (Position(2, 20), False), 2: (Position(3, 30), True)}
    state = progress.parts[2].state
    assert (state.kept_kinds, state.record_count, state.token_count) == ({"stars": ["int"]}, 1, 7)


def test_progress_of_nothing(store: LocalStore) -> None:
    progress = load_progress(store, UNIT)
    assert progress.parts == {}
    assert not progress.is_complete


def test_part_of_equal_content_has_one_name(store: LocalStore) -> None:
    assert write_part(store, part_of(0)) == write_part(store, part_of(0))
    assert len(store.list(f"{PARTS}/{UNIT}")) == 1


def test_every_flipped_byte_of_a_part_is_noticed(store: LocalStore) -> None:
    part = write_part(store, part_of(0, is_last=True))
    data = store.path(part.name).read_bytes()
    for position, byte in enumerate(data):
        store.path(part.name).write_bytes(data[:position] + bytes([byte ^ 1 << position % 8]) + data[position + 1 :])
        assert load_progress(store, UNIT).parts == {}
        assert not store.exists(part.name)
    store.path(part.name).write_bytes(data)
    assert load_progress(store, UNIT).is_complete


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[1:]])
def test_a_part_that_is_cut_or_grown_is_dropped(store: LocalStore, damage: Callable[[bytes], bytes]) -> None:
    whole, broken = write_part(store, part_of(0)), write_part(store, part_of(1, is_last=True))
    store.path(broken.name).write_bytes(damage(store.path(broken.name).read_bytes()))
    progress = load_progress(store, UNIT)
    assert list(progress.parts) == [0]
    assert not progress.is_complete
    assert store.list(f"{PARTS}/{UNIT}") == [Path(whole.name).name]


def test_the_first_of_two_parts_of_one_index_counts(store: LocalStore) -> None:
    twins = [write_part(store, part_of(0, value=value)) for value in (0.1, 0.2, 0.3, 0.4)]
    assert load_progress(store, UNIT).parts[0].name == min(part.name for part in twins)
    # A damaged one is not it.
    store.path(min(part.name for part in twins)).write_bytes(b"")
    assert load_progress(store, UNIT).parts[0].name == sorted(part.name for part in twins)[1]


def test_other_names_are_no_parts(store: LocalStore) -> None:
    part = write_part(store, part_of(0, is_last=True))
    data, sha256 = store.path(part.name).read_bytes(), part.name[-72:-8]
    names = [
        f"{sha256}.parquet", f"0-{sha256}.parquet", f"000000001-{sha256}.parquet", f"00000001-{sha256}.parquet.tmp",
        f"00000001-{sha256.upper()}.parquet", f"x00000001-{sha256}.parquet", "notes.txt", f"0000000a-{sha256}.parquet",
    ]  # fmt: skip
    for name in names:
        store.publish_bytes(f"{PARTS}/{UNIT}/{name}", data)
    assert list(load_progress(store, UNIT).parts) == [0]
    # Nor are they removed: they are somebody else's.
    assert set(names) <= set(store.list(f"{PARTS}/{UNIT}"))


def test_parts_of_another_unit_are_not_looked_at(store: LocalStore) -> None:
    other = write_part(store, part_of(0, unit="f" * 32))
    store.path(other.name).write_bytes(b"damaged")
    assert load_progress(store, UNIT).parts == {}
    assert store.exists(other.name)


def test_a_part_that_goes_meanwhile_is_not_there(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another run has published and removes the parts while this one looks.
    kept, gone = write_part(store, part_of(0)), write_part(store, part_of(1, is_last=True))
    listed = store.list

    def list_then_remove(folder: str) -> list[str]:
        names = listed(folder)
        store.path(gone.name).unlink(missing_ok=True)
        return names

    monkeypatch.setattr(store, "list", list_then_remove)
    assert list(load_progress(store, UNIT).parts) == [0]
    assert store.exists(kept.name)


def test_part_state_round_trip() -> None:
    state = PartState(Position(5, 600), True, {"naïve": ["int", "string"]}, 5, 99)
    assert PartState.from_metadata(state.to_metadata()) == state


@pytest.mark.parametrize(
    ("indices", "last", "complete"),
    [
        ([], None, False),
        ([0], None, False),
        ([0], 0, True),
        ([0, 1, 2], 2, True),
        ([0, 1, 2], None, False),
        ([1, 2], 2, False),
        ([0, 2], 2, False),
        ([2], 2, False),
        ([0, 1, 2, 3], 2, True),
    ],
)
def test_complete_is_from_the_first_to_the_last(indices: list[int], last: int | None, complete: bool) -> None:
    progress = UnitProgress()
    for index in reversed(indices):
        progress.add(PartFile(f"part-{index}", index, PartState(Position(index + 1), index == last, {}, 1, 1)))
    assert progress.is_complete is complete
    assert [part.index for part in progress.in_order()] == indices


def test_part_name_is_what_is_looked_for() -> None:
    assert part_name(UNIT, 12, "a" * 64) == f"{PARTS}/{UNIT}/00000012-{'a' * 64}.parquet"


# --- units


def identity_of(**settings: Any) -> Identity:
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "text_column": "text", "keep": (), "keep_all": False, "label_column": None,
        "encoding": "utf-8", "delimiter": None, "limit": None, "model": "embedded", "requested_revision": None,
        "revision": None, "model_files": {"config.json": "00"}, "labels": ("NEGATIVE", "POSITIVE"),
        "multi_label": False, "task": "sequence-classification", "precision": "fp32",
        "prompt": None, "rendered_prompt": None, "verbalizers": (), "calibrate_prompt": False, "temperature": None,
        "calibration_texts": None, "backend": "torch", "batching": "padded", "compiled": False,
        "batch_tokens": 2048, "threads": 2,
        "rows_per_part": 2048, "max_length": 128, "long_text": "truncate",
        "window_overlap": None, "window_aggregate": None,
    }  # fmt: skip
    return Identity(**(values | settings))


def test_a_unit_is_settings_and_name_and_content(tmp_path: Path) -> None:
    found = signature(tmp_path)
    assert found is not None
    digest = ShardDigest("a" * 64, found)
    units = {
        unit_of(identity_of(), "a.csv", digest),
        unit_of(identity_of(model_files={"config.json": "01"}), "a.csv", digest),
        unit_of(identity_of(), "b.csv", digest),
        unit_of(identity_of(), "a.csv", replace(digest, sha256="b" * 64)),
    }
    assert len(units) == 4
    assert all(len(unit) == 32 and not set(unit) - set("0123456789abcdef") for unit in units)
    # When the file was touched does not matter, only what is in it.
    touched = replace(found, mtime_ns=found.mtime_ns + 1, inode=1)
    assert unit_of(identity_of(), "a.csv", replace(digest, signature=touched)) in units


# --- entries


def test_entry_round_trip(store: LocalStore) -> None:
    assert load_entry(store, UNIT) is None
    entry = entry_of("naïve/日本.csv")
    save_entry(store, entry)
    assert load_entry(store, UNIT) == entry
    assert load_entry(store, "f" * 32) is None
    assert entry.files == (entry.output, entry.rejects)


def test_every_flipped_byte_of_an_entry_is_noticed(store: LocalStore) -> None:
    save_entry(store, entry_of())
    (name,) = store.list(f"{PARTS}/{UNIT}")
    path = store.path(f"{PARTS}/{UNIT}/{name}")
    data = path.read_bytes()
    for damaged in flips(data, 1):
        path.write_bytes(damaged)
        assert load_entry(store, UNIT) is None
    path.write_bytes(data)
    assert load_entry(store, UNIT) == entry_of()


def test_an_entry_is_found_beside_parts_and_a_damaged_one(store: LocalStore) -> None:
    write_part(store, part_of(0))
    store.publish_bytes(f"{PARTS}/{UNIT}/shard-{'0' * 64}.json", b"{}")
    save_entry(store, entry_of())
    assert load_entry(store, UNIT) == entry_of()


# --- manifest


MANIFEST_OF_TWO = Manifest(
    "f" * 64,
    (entry_of("a.csv"), entry_of("b/ü.jsonl", reject_counts={}, label_counts={"POSITIVE": 3})),
    {"c.csv": "row 5: unclosed “quote”"},
)


def test_manifest_round_trip() -> None:
    data = MANIFEST_OF_TWO.to_json()
    assert Manifest.from_json(data) == MANIFEST_OF_TWO
    assert Manifest.from_json(data).to_json() == data
    assert data.endswith(b"\n")
    assert Manifest.from_json(Manifest("f", ()).to_json()) == Manifest("f", ())


def test_every_flipped_byte_of_a_manifest_is_noticed() -> None:
    data = Manifest("f" * 8, (entry_of(),), {"é": "x"}).to_json()
    content = json.loads(data)
    for damaged in flips(data):
        try:
            found = Manifest.from_json(damaged)
        except ValueError:
            continue
        # White space between the values says nothing.
        assert json.loads(damaged) == content
        assert found == Manifest.from_json(data)


@pytest.mark.parametrize("cut", [0, 1, 2, 100, -1, -2, -3])
def test_a_cut_manifest_is_noticed(cut: int) -> None:
    data = MANIFEST_OF_TWO.to_json()
    try:
        assert Manifest.from_json(data[:cut]) == MANIFEST_OF_TWO
        assert data[cut:].isspace()
    except ValueError:
        assert not data[cut:].isspace()


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"5", b"{}", b'{"checksum": 3}', b"\xff", b'"checksum"'])
def test_what_is_no_manifest_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json(data)


def test_totals() -> None:
    totals = MANIFEST_OF_TWO.totals()
    assert totals == {
        "record_count": 12,
        "row_count": 6,
        "token_count": 80,
        "truncated_count": 2,
        "reject_counts": {"empty_text": 2, "invalid_json": 1},
        "label_counts": {"NEGATIVE": 1, "POSITIVE": 5},
        "confidence_counts": [0, 2, 4],
        "length_counts": [6, 0, 0],
    }
    assert json.loads(MANIFEST_OF_TWO.to_json())["totals"] == totals
    assert MANIFEST_OF_TWO.bad_row_count() == 1
    assert Manifest("f", ()).bad_row_count() == 0


def test_load_manifest(store: LocalStore) -> None:
    assert load_manifest(store) is None
    store.publish_bytes(MANIFEST, MANIFEST_OF_TWO.to_json())
    assert load_manifest(store) == MANIFEST_OF_TWO
    store.publish_bytes(MANIFEST, MANIFEST_OF_TWO.to_json().replace(b'"row_count": 6', b'"row_count": 7', 1))
    assert load_manifest(store) is None


# --- _SUCCESS


def test_published(store: LocalStore) -> None:
    assert not is_published(store)
    data = MANIFEST_OF_TWO.to_json()
    store.publish_bytes(SUCCESS, success_line(data).encode())
    assert not is_published(store)
    store.publish_bytes(MANIFEST, data)
    assert is_published(store)
    assert store.read_bytes(SUCCESS) == (hashlib.sha256(data).hexdigest() + "\n").encode()
    store.publish_bytes(MANIFEST, data + b"\n")
    assert not is_published(store)
    store.publish_bytes(MANIFEST, data)
    store.remove(SUCCESS)
    assert not is_published(store)


def test_every_flipped_byte_of_success_is_noticed(store: LocalStore) -> None:
    store.publish_bytes(MANIFEST, MANIFEST_OF_TWO.to_json())
    line = success_line(MANIFEST_OF_TWO.to_json()).encode()
    for damaged in [*flips(line, 1, 32), b"", line[:-1], line.upper(), line + b"\n", "é".encode()]:
        store.path(SUCCESS).write_bytes(damaged)
        assert not is_published(store)
    store.path(SUCCESS).write_bytes(line)
    assert is_published(store)


# --- digests


@pytest.fixture
def review_file(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"text\ngood\n")
    return path


def test_hashing_can_be_stopped(store: LocalStore, review_file: Path) -> None:
    review_file.write_bytes(b"x" * (3 << 20))
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise StoppedError(15)

    with pytest.raises(StoppedError):
        DigestCache(store, check).digest(str(review_file))
    assert len(looks) == 2


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every file that is read for its hash."""
    sizes: list[int] = []
    hash_stream = storage.hash_stream

    def counting(stream: IO[bytes], _check: object) -> str:
        sizes.append(os.fstat(stream.fileno()).st_size)
        return hash_stream(stream)

    monkeypatch.setattr("batchsent.digests.hash_stream", counting)
    return sizes


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_digest_is_trusted_while_the_signature_stands(
    store: LocalStore, review_file: Path, hashed: list[int]
) -> None:
    digests = DigestCache(store)
    first = digests.digest(str(review_file))
    assert first == ShardDigest(sha256_of(review_file), signature(review_file))  # type: ignore[arg-type]
    assert digests.digest(str(review_file)) == first
    digests.save()
    assert DigestCache(store).digest(str(review_file)) == first
    assert len(hashed) == 1


def test_what_was_not_saved_is_read_again(store: LocalStore, review_file: Path, hashed: list[int]) -> None:
    DigestCache(store).digest(str(review_file))
    assert DigestCache(store).digest(str(review_file)).sha256 == sha256_of(review_file)
    assert len(hashed) == 2


def test_a_change_that_keeps_size_and_mtime_is_noticed(store: LocalStore, review_file: Path, hashed: list[int]) -> None:
    digests = DigestCache(store)
    for content in (b"text\nevil\n", b"text\nkind\n", b"text\ngood\n"):
        before = signature(review_file)
        assert before is not None
        digests.digest(str(review_file))
        count = len(hashed)
        review_file.write_bytes(content)
        os.utime(review_file, ns=(before.mtime_ns, before.mtime_ns))
        after = signature(review_file)
        assert after is not None
        assert (after.size_bytes, after.mtime_ns, after.inode) == (before.size_bytes, before.mtime_ns, before.inode)
        assert digests.digest(str(review_file)).sha256 == hashlib.sha256(content).hexdigest()
        assert len(hashed) == count + 1


def test_a_file_that_is_replaced_is_noticed(store: LocalStore, review_file: Path) -> None:
    digests = DigestCache(store)
    other = review_file.with_name("other")
    other.write_bytes(b"text\nevil\n")
    stat = review_file.stat()
    os.utime(other, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    first = digests.digest(str(review_file))
    other.replace(review_file)
    second = digests.digest(str(review_file))
    assert second.sha256 != first.sha256
    assert second.sha256 == sha256_of(review_file)


def test_a_link_that_is_turned_is_noticed(store: LocalStore, review_file: Path, tmp_path: Path) -> None:
    digests = DigestCache(store)
    other = tmp_path / "other"
    other.write_bytes(b"text\nevil\n")
    link = tmp_path / "link.csv"
    link.symlink_to(review_file)
    assert digests.digest(str(link)).sha256 == sha256_of(review_file)
    link.unlink()
    link.symlink_to(other)
    assert digests.digest(str(link)).sha256 == sha256_of(other)


def test_no_change_within_one_tick_is_missed(store: LocalStore, review_file: Path) -> None:
    # Written, hashed and written again as fast as can be: the times of the two writes may be the same.
    digests = DigestCache(store)
    for turn in range(20):
        content = b"text\n%04d\n" % turn
        review_file.write_bytes(content)
        assert digests.digest(str(review_file)).sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_changes_once_while_it_is_read(
    store: LocalStore, review_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_stream, turns = storage.hash_stream, [0]

    def hash_and_change(stream: IO[bytes], _check: object) -> str:
        found = hash_stream(stream)
        turns[0] += 1
        if turns[0] == 1:
            review_file.write_bytes(b"text\nlate\n")
        return found

    monkeypatch.setattr("batchsent.digests.hash_stream", hash_and_change)
    assert DigestCache(store).digest(str(review_file)).sha256 == hashlib.sha256(b"text\nlate\n").hexdigest()
    assert turns == [2]


def test_a_file_that_does_not_hold_still_is_refused(
    store: LocalStore, review_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_stream = storage.hash_stream

    def hash_and_grow(stream: IO[bytes], _check: object) -> str:
        found = hash_stream(stream)
        with review_file.open("ab") as handle:
            handle.write(b"more\n")
        return found

    monkeypatch.setattr("batchsent.digests.hash_stream", hash_and_grow)
    digests = DigestCache(store)
    with pytest.raises(ShardError, match=r"reviews\.csv changes while it is read"):
        digests.digest(str(review_file))
    digests.warm(str(review_file))
    monkeypatch.undo()
    assert digests.digest(str(review_file)).sha256 == sha256_of(review_file)


def test_a_file_that_goes_while_it_is_read(
    store: LocalStore, review_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash_stream = storage.hash_stream

    def hash_and_remove(stream: IO[bytes], _check: object) -> str:
        review_file.unlink()
        return hash_stream(stream)

    monkeypatch.setattr("batchsent.digests.hash_stream", hash_and_remove)
    with pytest.raises(FileNotFoundError):
        DigestCache(store).digest(str(review_file))


def test_a_file_that_is_not_there(store: LocalStore, tmp_path: Path) -> None:
    digests = DigestCache(store)
    with pytest.raises(FileNotFoundError):
        digests.digest(str(tmp_path / "none"))
    digests.warm(str(tmp_path / "none"))
    digests.save()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"5", b"null", b"\xff", b'{"a": 5}', b'{"a": [[1], "x"]}', b'{"a": [[1,2,3,4]]}']
)
def test_a_damaged_record_costs_a_second_reading(store: LocalStore, review_file: Path, data: bytes) -> None:
    store.publish_bytes(DIGESTS, data)
    assert DigestCache(store).digest(str(review_file)).sha256 == sha256_of(review_file)


def test_no_flipped_byte_of_the_record_gives_a_wrong_hash(store: LocalStore, review_file: Path) -> None:
    digests = DigestCache(store)
    digests.digest(str(review_file))
    digests.save()
    data = store.read_bytes(DIGESTS)
    assert data is not None
    expected = sha256_of(review_file)
    for position, byte in enumerate(data):
        # Digits become digits, letters letters: what still reads as a record.
        store.path(DIGESTS).write_bytes(data[:position] + bytes([byte ^ 1]) + data[position + 1 :])
        assert DigestCache(store).digest(str(review_file)).sha256 == expected


def test_intact(store: LocalStore) -> None:
    published = store.publish_bytes("x.parquet", b"content")
    entry = FileEntry(published.name, published.sha256, published.size_bytes)
    digests = DigestCache(store)
    assert digests.is_intact(entry)
    assert not digests.is_intact(replace(entry, path="none.parquet"))
    assert not digests.is_intact(replace(entry, size_bytes=8))
    assert not digests.is_intact(replace(entry, sha256="0" * 64))
    store.path("x.parquet").write_bytes(b"CONTENT")
    assert not digests.is_intact(entry)
    store.remove("x.parquet")
    assert not digests.is_intact(entry)


def test_what_this_run_published_is_not_read_again(store: LocalStore, hashed: list[int]) -> None:
    published = store.publish_bytes("x.parquet", b"content")
    entry = FileEntry(published.name, published.sha256, published.size_bytes)
    digests = DigestCache(store)
    digests.remember(published)
    assert digests.is_intact(entry)
    assert hashed == []


def test_what_another_run_put_in_its_place_is_read(store: LocalStore) -> None:
    published = store.publish_bytes("x.parquet", b"content")
    store.publish_bytes("x.parquet", b"CONTENT")
    digests = DigestCache(store)
    digests.remember(published)
    assert not digests.is_intact(FileEntry(published.name, published.sha256, published.size_bytes))


def test_entries_are_plain_values() -> None:
    assert ShardEntry.from_dict(json.loads(json.dumps(asdict(entry_of())))) == entry_of()
