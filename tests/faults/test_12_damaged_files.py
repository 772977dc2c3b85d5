"""Fault 12: a byte of a checkpoint or of a published file is not what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from batchsent.checkpoint import CONFIG, MANIFEST, REJECTS, SUCCESS
from batchsent.digests import DIGESTS
from batchsent.errors import IncompleteError, UsageError
from batchsent.storage import LocalStore
from batchsent.verify import verify
from faults.inline import Inline, KillAfter, KilledError
from faults.tally import Injections

Reviews = Callable[[int], list[str]]
pytestmark = pytest.mark.in_process

VOUCHED_FOR = (SUCCESS, MANIFEST, CONFIG, "r.parquet", f"{REJECTS}/r.parquet")


@pytest.fixture
def source(tmp_path: Path, reviews: Reviews) -> Path:
    """Records to score, one of them rejected."""
    path = tmp_path / "r.csv"
    lines = [f"{text},{index}\n" for index, text in enumerate(reviews(34))]
    path.write_text("text,id\n" + "".join(lines) + "one,field,too many\n", encoding="utf-8")
    return path


@pytest.fixture
def score(inline: Inline) -> Callable[..., object]:
    """With the gate open for the rejected record."""

    def run(source: Path, output: Path, **options: object) -> object:
        return inline.score(source, output=output, keep=("id",), max_reject_rate=0.5, **options)  # type: ignore[arg-type]

    return run


Score = Callable[..., object]


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << (offset % 8)
    path.write_bytes(data)


def _positions(paths: list[Path], root: Path) -> list[tuple[str, int]]:
    """(name, offset) of every byte."""
    return [(str(path.relative_to(root)), offset) for path in paths for offset in range(path.stat().st_size)]


def _copied(begun: Path, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    return Path(shutil.copytree(begun, out))


@pytest.mark.fault(12, "every byte of a checkpoint flipped")
def test_12_checkpoint_damaged(injections: Injections, score: Score, source: Path, tmp_path: Path) -> None:
    score(source, tmp_path / "whole")
    begun, out = tmp_path / "begun", tmp_path / "out"
    with pytest.raises(KilledError):
        score(source, begun, progress=KillAfter(3))
    part, *_ = sorted(begun.glob("_batchsent/parts/*/*.parquet"))
    for name, offset in injections.of(_positions([part], begun), quick=20):
        _flip(_copied(begun, out) / name, offset)
        score(source, out)
        injections.compare(tmp_path / "whole", out)


@pytest.mark.fault(12, "every byte of a finished shard's entry flipped")
def test_12_entry_damaged(injections: Injections, score: Score, source: Path, tmp_path: Path) -> None:
    score(source, tmp_path / "whole")
    begun, out = tmp_path / "begun", tmp_path / "out"
    with pytest.raises(KilledError):
        score(source, begun, progress=KillAfter(4))  # the last part, and with it the shard, is committed by then
    [entry] = begun.glob("_batchsent/parts/*/shard-*.json")
    for name, offset in injections.of(_positions([entry], begun), quick=8):
        _flip(_copied(begun, out) / name, offset)
        score(source, out)
        injections.compare(tmp_path / "whole", out)


@pytest.mark.fault(12, "every byte of a published file flipped: verify finds it, the next run mends it")
def test_12_published_damaged(injections: Injections, score: Score, source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    score(source, whole)
    for name, offset in injections.of(_positions([whole / name for name in VOUCHED_FOR], whole), quick=40):
        _flip(_copied(whole, out) / name, offset)
        assert verify(LocalStore(out)).problems, f"verify does not see byte {offset} of {name}"
        if name == CONFIG:  # without it nobody knows what the rest was made with
            with pytest.raises(UsageError, match="damaged or of another version"):
                score(source, out)
            shutil.copy(whole / name, out / name)
        score(source, out)
        injections.compare(whole, out)


@pytest.mark.fault(12, "remembered hashes damaged")
def test_12_digests_damaged(injections: Injections, score: Score, source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    score(source, whole)
    size = (whole / DIGESTS).stat().st_size  # it holds paths of this machine, so it is not always as long
    for share in injections.of(range(500), quick=8):
        _flip(_copied(whole, out) / DIGESTS, share * size // 500)
        _flip(out / "r.parquet", 100)  # what a wrong memory would hide
        score(source, out)
        injections.compare(whole, out)


@pytest.mark.fault(12, "a published file cut short, grown or gone")
def test_12_published_cut_or_gone(injections: Injections, score: Score, source: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    score(source, whole)
    cases = [(name, change) for name in VOUCHED_FOR for change in ("cut", "grown", "empty", "gone")]
    for name, change in injections.of(cases, quick=10):
        path = _copied(whole, out) / name
        data = path.read_bytes()
        changed = {"cut": data[:-1], "grown": data + b"\0", "empty": b""}.get(change)
        path.unlink() if changed is None else path.write_bytes(changed)
        if (name, change) == (SUCCESS, "gone"):
            with pytest.raises(IncompleteError, match="is not published"):
                verify(LocalStore(out))
        else:
            assert verify(LocalStore(out)).problems, f"verify does not see that {name} is {change}"
        if name == CONFIG:
            shutil.copy(whole / name, path)
        score(source, out)
        injections.compare(whole, out)
