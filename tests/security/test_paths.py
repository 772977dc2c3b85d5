"""Nothing outside DIR is written, removed or listed, whatever names the input has and whatever lies in DIR."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchsent import checkpoint
from batchsent.checkpoint import Manifest, ShardEntry
from batchsent.errors import UsageError
from batchsent.identity import checksum_of
from batchsent.storage import LocalStore, hash_stream
from faults.inline import Inline, KillAfter, KilledError
from support import rows, write_csv

from .conftest import Cli

State = dict[str, tuple[bytes | None, int]]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody's files, two days old: temporaries of that age that nobody writes are cleared in DIR."""
    folder = tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    for name in ("letter.txt", "below/photo.jpg", "victim.parquet"):
        (folder / name).write_bytes(name.encode())
        os.utime(folder / name, (time.time() - 2 * 86_400,) * 2)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_csv(tmp_path / "dumps/2026/a.csv", ["good film"] * 12 + ["", "bad film"])
    write_csv(tmp_path / "dumps/2027/b.csv", ["fine hotel"] * 15)
    return tmp_path / "dumps"


def state(folder: Path) -> State:
    """Every name below a folder, with its content and when it was changed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in sorted([folder, *folder.rglob("*")])
    }


# --- names of the input


@pytest.mark.parametrize("pattern", ["dumps/*/../../../up/*.csv", "{root}/dumps/*/../../../up/*.csv"])
def test_an_input_name_with_dots_writes_nothing_outside(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    work = tmp_path / "work"
    write_csv(work / "dumps/x/a.csv", ["good film"])
    write_csv(tmp_path / "up/b.csv", ["good film"])
    monkeypatch.chdir(work)
    before = state(tmp_path / "up")
    code, said = cli("score", pattern.format(root=work), "--output", "out/deep")
    assert (code, "leads out of" in said) == (2, True)
    assert state(tmp_path / "up") == before
    assert not list(tmp_path.rglob("b.parquet"))


def test_an_absolute_input_is_mirrored_below_dir(inline: Inline, tmp_path: Path, source: Path) -> None:
    (source / "link.csv").symlink_to(source / "2026/a.csv")
    (source / "folder").symlink_to(source / "2027")
    inline.score(source.resolve(), output=tmp_path / "out")
    written = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.parquet")}
    # Of the two names of one folder the first is read.
    assert {name for name in written if not name.startswith("_")} == {
        "2026/a.parquet",
        "2027/b.parquet",
        "link.parquet",
    }


# --- links in DIR

INTERNAL = ["_batchsent", "_batchsent/tmp", "_batchsent/parts", "_batchsent/rejects", "_batchsent/runs"]
LINKS = [*INTERNAL, "2026"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("target", ["outside", "out", "out/elsewhere"])
@pytest.mark.parametrize("is_resumed", [False, True], ids=["first run", "resumed"])
def test_a_folder_of_dir_that_is_a_link_is_refused(
    inline: Inline, cli: Cli, tmp_path: Path, source: Path, outside: Path, name: str, target: str, is_resumed: bool
) -> None:
    out = tmp_path / "out"
    if is_resumed:
        with pytest.raises(KilledError):
            inline.score(source, output=out, progress=KillAfter(3))
    (out / "elsewhere").mkdir(parents=True)
    (out / "elsewhere/kept.txt").write_bytes(b"not ours")
    os.utime(out / "elsewhere/kept.txt", (0, 0))
    if (out / name).exists():
        (out / name).rename(tmp_path / "moved")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).symlink_to(tmp_path / target)
    before, kept = state(outside), state(out / "elsewhere")
    with pytest.raises(UsageError, match="through a link"):
        inline.score(source, output=out)
    for command in ("status", "verify"):
        assert cli(command, out)[0] in (0, 2, 3)
    assert state(outside) == before
    assert state(out / "elsewhere") == kept


@pytest.mark.parametrize("name", ["_batchsent/lock", "_batchsent/config.json", "_batchsent/manifest.json", "_SUCCESS"])
def test_a_file_of_dir_that_is_a_link_is_not_written_through(
    inline: Inline, tmp_path: Path, source: Path, outside: Path, name: str
) -> None:
    out, before = tmp_path / "out", state(outside)
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(outside / "letter.txt")
    try:
        inline.score(source, output=out)
    except UsageError:
        assert not (out / "_SUCCESS").exists() or name == "_SUCCESS"
    else:
        assert not (out / name).is_symlink()
    assert state(outside) == before


def test_an_output_that_is_a_link_is_replaced_or_refused(
    inline: Inline, tmp_path: Path, source: Path, outside: Path
) -> None:
    inline.score(source, output=tmp_path / "other")
    before, other = state(outside), state(tmp_path / "other")
    (tmp_path / "out/2026").mkdir(parents=True)
    output = tmp_path / "out/2026/a.parquet"
    output.symlink_to(outside / "victim.parquet")
    with pytest.raises(UsageError, match="is not batchsent's"):
        inline.score(source, output=tmp_path / "out")
    output.unlink()
    output.symlink_to(tmp_path / "other/2026/a.parquet")  # ours, of another run
    inline.score(source, output=tmp_path / "out")
    assert not output.is_symlink()
    assert len(rows(output)) == 13
    assert (state(outside), state(tmp_path / "other")) == (before, other)


def test_links_among_the_parts_are_not_followed_when_they_are_cleared(
    inline: Inline, tmp_path: Path, source: Path, outside: Path
) -> None:
    out, before = tmp_path / "out", state(outside)
    with pytest.raises(KilledError):
        inline.score(source, output=out, progress=KillAfter(3))
    (unit, *_) = (out / checkpoint.PARTS).iterdir()
    (unit / "folder").symlink_to(outside)
    (unit / f"00000001-{'0' * 64}.parquet").symlink_to(outside / "victim.parquet")
    inline.score(source, output=out)
    assert (out / "_SUCCESS").exists()
    assert state(outside) == before


# --- names in files of DIR


def forged(store: LocalStore, victim: Path, path: str) -> None:
    """A manifest, with all its checksums, that lists ``path`` as the output of the first shard."""
    manifest = checkpoint.load_manifest(store)
    assert manifest is not None
    first, *others = manifest.shards
    with victim.open("rb") as stream:
        file = replace(first.output, path=path, sha256=hash_stream(stream), size_bytes=victim.stat().st_size)
    data = Manifest(manifest.fingerprint, (replace(first, output=file), *others)).to_json()
    (store.root / checkpoint.MANIFEST).write_bytes(data)
    (store.root / checkpoint.SUCCESS).write_text(checkpoint.success_line(data))


ELSEWHERE: dict[str, Callable[[Path], str]] = {
    "upwards": lambda victim: f"../outside/{victim.name}",
    "upwards from a folder": lambda victim: f"2026/../../outside/{victim.name}",
    "absolute": str,
}


@pytest.mark.parametrize("named", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("change", ["nothing", "the input", "the shard is gone"])
def test_a_forged_manifest_leads_nowhere(
    inline: Inline, cli: Cli, tmp_path: Path, source: Path, outside: Path, named: Callable[[Path], str], change: str
) -> None:
    out, victim = tmp_path / "out", outside / "victim.parquet"
    inline.score(source, output=out)
    forged(LocalStore(out), victim, named(victim))
    if change == "the input":
        write_csv(source / "2026/a.csv", ["new"])
    elif change == "the shard is gone":
        (source / "2026/a.csv").unlink()
    before = state(outside)
    code, said = cli("verify", out)
    assert (code, "leads out of" in said) == (3, True)
    refused = pytest.raises(UsageError, match="leads out of") if change == "nothing" else contextlib.nullcontext()
    with refused:
        inline.score(source, output=out)
    assert state(outside) == before


def test_a_forged_entry_leads_nowhere(inline: Inline, tmp_path: Path, source: Path, outside: Path) -> None:
    out, before = tmp_path / "out", state(outside)
    with pytest.raises(KilledError):
        inline.score(source, output=out, progress=KillAfter(2))
    store = LocalStore(out)
    entries = [checkpoint.load_entry(store, unit.name) for unit in (out / checkpoint.PARTS).iterdir()]
    entry = next(entry for entry in entries if entry is not None)
    for path in (out / checkpoint.PARTS / entry.unit).glob("shard-*.json"):
        path.unlink()
    elsewhere = replace(entry.rejects, path="../outside/victim.parquet")
    checkpoint.save_entry(store, ShardEntry(**(vars(entry) | {"rejects": elsewhere})))
    with pytest.raises(UsageError, match="leads out of"):
        inline.score(source, output=out)
    assert state(outside) == before


def test_forged_digests_lead_nowhere(inline: Inline, tmp_path: Path, source: Path, outside: Path) -> None:
    out, before = tmp_path / "out", state(outside)
    inline.score(source, output=out)
    known = {str(outside / "letter.txt"): [[10, 0, 0, 1], "0" * 64], "../outside/letter.txt": [[10, 0, 0, 1], "0" * 64]}
    (out / "_batchsent/digests.json").write_text(json.dumps([checksum_of(known), known]))
    write_csv(source / "2027/b.csv", ["new"])
    inline.score(source, output=out)
    assert len(rows(out / "2027/b.parquet")) == 1
    assert state(outside) == before
