"""``batchsent verify``: one byte that differs, anywhere, is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchsent
from batchsent.checkpoint import CONFIG, MANIFEST, SUCCESS, FileEntry, Manifest, ShardEntry, success_line
from batchsent.cli import main
from batchsent.identity import Identity
from batchsent.storage import LocalStore
from batchsent.verify import verify
from support import write_csv


@pytest.fixture(scope="module")
def published(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DIR with one shard, in a folder, with a row and a reject: as few bytes as there can be."""
    root = tmp_path_factory.mktemp("verify")
    write_csv(root / "in" / "more" / "b.csv", ["good film", ""])
    batchsent.score(str(root / "in"), output=str(root / "out"), model=str(tiny_model), precision="fp32", threads=1)
    return root / "out"


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> LocalStore:
    """Its own copy for a test that damages it."""
    return LocalStore(shutil.copytree(published, tmp_path / "out"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stdout, lines on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["verify", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.splitlines(), err.splitlines()


def published_files(root: Path) -> list[str]:
    """Everything that _SUCCESS vouches for, itself included."""
    manifest = Manifest.from_json((root / MANIFEST).read_bytes())
    return [SUCCESS, MANIFEST, CONFIG, *(file.path for entry in manifest.shards for file in entry.files)]


def republish(store: LocalStore, manifest: Manifest) -> None:
    """As if ``manifest`` had been published: it and _SUCCESS fit each other."""
    store.publish_bytes(MANIFEST, manifest.to_json())
    store.publish_bytes(SUCCESS, success_line(manifest.to_json()).encode())


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file there is."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def entry_with(entry: ShardEntry, **changes: object) -> ShardEntry:
    """``entry``, were it otherwise."""
    return ShardEntry.from_dict(asdict(entry) | changes)


def test_what_was_published_is_verified_in_one_line(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = published_files(published)
    before = snapshot(published)
    code, out, err = run(capsys, str(published))
    size_bytes = sum((published / name).stat().st_size for name in files)
    assert (code, err) == (0, [])
    assert out == [f"verified {published}: 5 files, 1 row, {size_bytes:,} bytes, all as they were published"]
    assert snapshot(published) == before


def test_every_single_byte_counts(copy: LocalStore) -> None:
    for name in published_files(copy.root):
        path = copy.path(name)
        for position in flipped_bytes(path):
            assert verify(copy).problems, f"byte {position} of {name} was flipped and verify saw nothing"
    assert not verify(copy).problems


def flipped_bytes(path: Path) -> Iterator[int]:
    """One position after the other, while the byte there is another one."""
    original = path.read_bytes()
    with path.open("r+b", buffering=0) as handle:
        for position, byte in enumerate(original):
            handle.seek(position)
            handle.write(bytes([byte ^ (1 << position % 8)]))
            yield position
            handle.seek(position)
            handle.write(bytes([byte]))


@pytest.mark.parametrize("index", range(5))
def test_a_flipped_byte_in_any_file_is_exit_3(copy: LocalStore, capsys: pytest.CaptureFixture[str], index: int) -> None:
    name = published_files(copy.root)[index]
    next(flipped_bytes(copy.path(name)))
    code, out, err = run(capsys, str(copy.root))
    assert code == 3
    assert len(out) == len(err) == 1
    assert out[0].startswith(name)
    assert err[0].startswith(f"error: 1 problem in {copy.root}; expected every file as it was published; ")


def test_the_recorded_hashes_are_not_trusted(copy: LocalStore) -> None:
    # A file damaged behind the file system's back keeps the size and the times that digests.json knows.
    name = published_files(copy.root)[-1]
    store_digests = copy.read_bytes("_batchsent/digests.json")
    next(flipped_bytes(copy.path(name)))
    assert copy.read_bytes("_batchsent/digests.json") == store_digests
    assert [problem for problem in verify(copy).problems if problem.startswith(name)]


@pytest.mark.parametrize(("length", "said"), [(0, "has 0 bytes"), (100, "has 100 bytes instead of")])
def test_truncated_and_missing_files(copy: LocalStore, length: int, said: str) -> None:
    truncated, missing = "more/b.parquet", "_batchsent/rejects/more/b.parquet"
    with copy.path(truncated).open("r+b") as handle:
        handle.truncate(length)
    copy.path(missing).unlink()
    problems = verify(copy).problems
    assert len(problems) == 2
    assert problems[0].startswith(f"{truncated} {said}")
    assert problems[1] == f"{missing} is missing"


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
def test_the_records_themselves_may_be_missing(copy: LocalStore, name: str) -> None:
    copy.path(name).unlink()
    assert verify(copy).problems == (f"{name} is missing",)


@pytest.mark.parametrize("name", ["stray.parquet", "more/stray.parquet", "_batchsent/rejects/stray.parquet"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_stray_output_is_a_problem_whoever_wrote_it(copy: LocalStore, name: str, is_ours: bool) -> None:
    if is_ours:
        shutil.copy(copy.path("more/b.parquet"), copy.path(name))
    else:
        pq.write_table(pa.table({"x": [1]}), copy.path(name))
    problems = verify(copy).problems
    assert len(problems) == 1
    assert problems[0].startswith(f"{name} is not in the manifest")


def test_the_configuration_must_be_the_one_of_the_manifest(copy: LocalStore) -> None:
    settings = json.loads(copy.read_bytes(CONFIG) or b"")
    other = replace(Identity.from_json(copy.read_bytes(CONFIG) or b""), max_length=31)
    copy.publish_bytes(CONFIG, other.to_json())
    assert verify(copy).problems == (
        f"{CONFIG} was changed: its settings are not those that the manifest was made with",
    )
    copy.publish_bytes(CONFIG, json.dumps(settings).encode())
    assert verify(copy).problems == (f"{CONFIG} was changed: the same settings, but not as they were written",)


def test_white_space_in_the_manifest_counts(copy: LocalStore) -> None:
    copy.publish_bytes(MANIFEST, (copy.read_bytes(MANIFEST) or b"") + b"\n")
    assert verify(copy).problems[0].startswith(f"{MANIFEST} was changed")


def test_counts_that_do_not_fit_the_footers(copy: LocalStore) -> None:
    manifest = Manifest.from_json(copy.read_bytes(MANIFEST) or b"")
    wrong = entry_with(manifest.shards[0], row_count=5)
    republish(copy, Manifest(manifest.fingerprint, (wrong, *manifest.shards[1:])))
    assert verify(copy).problems == (
        "more/b.parquet has 1 rows; the manifest counts 5",
        "more/b.csv: 5 scored and 1 rejected rows are not its 2 records",
    )


def test_a_folder_that_leads_elsewhere(copy: LocalStore, tmp_path: Path) -> None:
    shutil.move(copy.path("more"), tmp_path / "elsewhere")
    copy.path("more").symlink_to(tmp_path / "elsewhere")
    assert verify(copy).problems[0].startswith("more/b.parquet cannot be read (more/b.parquet leads out of")


def test_many_problems_are_counted_not_listed(copy: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.from_json(copy.read_bytes(MANIFEST) or b"")
    gone = [
        entry_with(manifest.shards[0], output=asdict(FileEntry(f"gone-{index}.parquet", "0" * 64, 1)))
        for index in range(25)
    ]
    republish(copy, Manifest(manifest.fingerprint, (*manifest.shards, *gone)))
    code, out, err = run(capsys, str(copy.root))
    assert code == 3
    assert len(out) == 21
    assert out[-1] == "... and 5 more"
    assert err[0].startswith("error: 25 problems in ")


def test_what_is_not_published_is_exit_3_and_says_what_to_do(
    copy: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.path(SUCCESS).unlink()
    code, out, err = run(capsys, str(copy.root))
    assert (code, out) == (3, [])
    assert err == [
        f"error: {copy.root} is not published: it has no _SUCCESS; "
        f"expected the output of a run that has published it; 'batchsent status {copy.root}' says why, and what to do"
    ]


def test_damage_while_a_run_works_on_it_is_temporary(copy: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    copy.path("more/b.parquet").unlink()
    with copy.lock():
        code, out, err = run(capsys, str(copy.root))
    assert (code, out) == (75, [])
    assert "a run is changing" in err[0]


@pytest.mark.parametrize("name", ["", "nothing-here"])
def test_not_a_batchsent_directory_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = run(capsys, str(tmp_path / name))
    assert (code, out) == (2, [])
    assert "expected the --output directory of 'batchsent score'" in err[0]
    assert not list(tmp_path.iterdir())
