"""The store: all or nothing, durable in the right order, nothing outside DIR, one run at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.errors import BatchsentError, LockedError, StorageError, UsageError
from batchsent.storage import LOCK, TEMPORARY, LocalStore, hash_stream, signature

WRITES = pytest.mark.parametrize("replace", [True, False])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "scored")
    store.create()
    return store


def temporaries(store: LocalStore) -> list[str]:
    return sorted(path.name for path in (store.root / TEMPORARY).iterdir())


def content_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- publish


def test_publish(store: LocalStore) -> None:
    published = store.publish("a/b/c.bin", lambda handle: (handle.write(b"one"), handle.write(b"two")))
    assert store.read_bytes("a/b/c.bin") == b"onetwo"
    assert (published.name, published.size_bytes) == ("a/b/c.bin", 6)
    assert published.sha256 == hashlib.sha256(b"onetwo").hexdigest()
    assert temporaries(store) == []


def test_publish_replaces(store: LocalStore) -> None:
    store.publish_bytes("x", b"a longer old content")
    store.publish_bytes("x", b"new")
    assert content_of(store.root) == {"x": b"new"}


def test_publish_nothing(store: LocalStore) -> None:
    assert store.publish_bytes("x", b"").sha256 == hashlib.sha256().hexdigest()
    assert store.read_bytes("x") == b""


def test_what_is_published_is_readable_by_others_as_the_umask_says(store: LocalStore) -> None:
    old = os.umask(0o027)
    try:
        store.publish_bytes("x", b"x")
    finally:
        os.umask(old)
    assert store.path("x").stat().st_mode & 0o777 == 0o640


@WRITES
@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_midway_publishes_nothing(store: LocalStore, raised: type[BaseException], replace: bool) -> None:
    store.publish_bytes("there", b"old")
    before = content_of(store.root)

    def write(handle: IO[bytes]) -> None:
        handle.write(b"x" * (3 << 20))  # More than the buffer holds: some is on the disk.
        raise raised

    for name in ("there", "fresh"):
        with pytest.raises(raised):
            store.publish(name, write, replace=replace)
    assert content_of(store.root) == before


def test_a_parquet_writer_that_is_left_by_an_exception_publishes_nothing(store: LocalStore) -> None:
    schema = pa.schema([("a", pa.int64())])

    def write(handle: Any) -> None:
        with pq.ParquetWriter(handle, schema) as writer:
            writer.write_table(pa.table({"a": [1, 2]}, schema=schema))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        store.publish("x.parquet", write)
    assert content_of(store.root) == {}


def test_a_parquet_writer_gives_the_hash_of_the_file(store: LocalStore) -> None:
    table = pa.table({"a": list(range(100_000)), "b": [str(i) for i in range(100_000)]})

    def write(handle: Any) -> None:
        with pq.ParquetWriter(handle, table.schema) as writer:
            writer.write_table(table)

    published = store.publish("x.parquet", write)
    data = store.path("x.parquet").read_bytes()
    assert (published.sha256, published.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert pq.read_table(store.path("x.parquet")).equals(table)


def test_a_writer_that_closes_does_not_decide(store: LocalStore) -> None:
    def write(handle: IO[bytes]) -> None:
        handle.write(b"one")
        handle.close()
        handle.write(b"two")

    store.publish("x", write)
    assert store.read_bytes("x") == b"onetwo"


def test_nothing_has_the_name_while_it_is_written(store: LocalStore) -> None:
    store.publish_bytes("x", b"old")

    def write(handle: IO[bytes]) -> None:
        handle.write(b"new")
        handle.flush()
        assert store.read_bytes("x") == b"old"
        assert store.list("") == ["x"]
        assert list(store.outputs()) == []

    store.publish("x", write)
    assert store.read_bytes("x") == b"new"


# --- create-only


def test_create_only(store: LocalStore) -> None:
    store.publish_bytes("x", b"first", replace=False)
    with pytest.raises(FileExistsError):
        store.publish_bytes("x", b"second", replace=False)
    assert content_of(store.root) == {"x": b"first"}


def test_only_one_of_two_creates(store: LocalStore) -> None:
    for turn in range(50):
        barrier = threading.Barrier(2)
        won: list[bytes] = []
        lost: list[bytes] = []

        def create(data: bytes, name: str, barrier: threading.Barrier, won: list[bytes], lost: list[bytes]) -> None:
            def write(handle: IO[bytes]) -> None:
                handle.write(data)
                barrier.wait(10)

            try:
                store.publish(name, write, replace=False)
                won.append(data)
            except FileExistsError:
                lost.append(data)

        name = f"turn-{turn}"
        racers = [threading.Thread(target=create, args=(d, name, barrier, won, lost)) for d in (b"a", b"b")]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert (len(won), len(lost)) == (1, 1)
        assert store.read_bytes(name) == won[0]
    assert temporaries(store) == []


# --- durable, in order


class Recorder:
    """Records the calls of os that make something durable or visible, and lets them through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        for name in ("fsync", "replace", "rename", "link", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            subject = arguments[0] if name in ("fsync", "unlink", "mkdir") else arguments[1]
            path = Path(f"/proc/self/fd/{subject}").readlink() if name == "fsync" else subject
            self.calls.append((name, str(path)))
            return function(*arguments, **named)

        return call

    def position(self, name: str, path: Path) -> int:
        return self.calls.index((name, str(path)))


@WRITES
def test_the_file_is_durable_before_it_has_a_name_and_the_name_after(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    store.publish_bytes("folder/other", b"so that the folder is there")
    recorder = Recorder(monkeypatch)
    store.publish_bytes("folder/x", b"data", replace=replace)
    steps = [
        (name, "temporary" if TEMPORARY in path else str(Path(path).relative_to(store.root)))
        for name, path in recorder.calls
        if name != "unlink"
    ]
    assert steps == [("fsync", "temporary"), ("replace" if replace else "link", "folder/x"), ("fsync", "folder")]


def test_everything_is_written_before_the_fsync(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    store.publish_bytes("x", b"y" * 1000)
    assert sizes[0] == 1000


def test_new_folders_are_made_durable_in_their_parents(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    store.publish_bytes("a/b/x", b"data")
    root = store.root
    order = [
        recorder.position("mkdir", root / "a"),
        recorder.position("fsync", root),
        recorder.position("mkdir", root / "a/b"),
        recorder.position("fsync", root / "a"),
        recorder.position("replace", root / "a/b/x"),
        recorder.position("fsync", root / "a/b"),
    ]
    assert order == sorted(order)


def test_create_makes_every_new_folder_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    LocalStore(tmp_path / "new/scored").create()
    for parent, child in ((tmp_path, "new"), (tmp_path / "new", "scored"), (tmp_path / "new/scored", "_batchsent")):
        assert recorder.position("mkdir", parent / child) < recorder.position("fsync", parent)


def test_what_a_killed_run_removed_is_made_durable_too(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "a/b/x", ".hidden/x", "_batchsent/rejects/a/x"):
        store.publish_bytes(name, b"data")
    store.path("a/b/x").unlink()
    recorder = Recorder(monkeypatch)
    store.make_durable(["x"], trees=["", "_batchsent/rejects"])
    synced = [Path(path) for _, path in recorder.calls]
    own = [path.relative_to(store.root).as_posix() for path in synced if path.is_relative_to(store.root)]
    assert own == ["a/b", "a", "_batchsent/rejects/a", "_batchsent/rejects", "."], "from the bottom up"
    assert set(store.root.parents) <= set(synced)


def test_removal_is_durable(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish_bytes("a/x", b"data")
    recorder = Recorder(monkeypatch)
    store.remove("a/x")
    assert recorder.calls == [("unlink", str(store.root / "a/x")), ("fsync", str(store.root / "a"))]
    store.remove("a/x")
    store.remove("never/was")


# --- what the disk answers


def failing(error_number: int, count: list[int] | None = None) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_named: Any) -> Any:
        if count is not None:
            count[0] += 1
        raise OSError(error_number, os.strerror(error_number))

    return fail


@WRITES
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_fsync_is_never_tried_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, replace: bool
) -> None:
    count = [0]
    monkeypatch.setattr(os, "fsync", failing(number, count))
    with pytest.raises(StorageError):
        store.publish_bytes("x", b"data", replace=replace)
    assert count == [1]
    assert content_of(store.root) == {}


def test_a_failed_fsync_of_the_folder_is_an_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    fsync = os.fsync

    def second_fails(descriptor: int) -> None:
        count[0] += 1
        if count[0] == 2:
            raise OSError(errno.EIO, "injected")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(StorageError):
        store.publish_bytes("x", b"data")
    assert count == [2]
    assert temporaries(store) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_full_or_failing_disk_is_temporary(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    store.publish_bytes("x", b"old")
    if step != "write":
        monkeypatch.setattr(os, step, failing(number))
    with pytest.raises(StorageError) as caught:
        store.publish("x", failing(number) if step == "write" else lambda handle: handle.write(b"new"))
    monkeypatch.undo()
    assert caught.value.exit_code == 75
    assert ("free space" in str(caught.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert content_of(store.root) == {"x": b"old"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("step", ["open", "replace", "mkdir", "unlink"])
def test_what_is_forbidden_is_for_a_person_to_mend(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    store.publish_bytes("old", b"old")
    monkeypatch.setattr(os, step, failing(number))
    action: Callable[[], object] = {
        "unlink": lambda: store.remove("old"),
        "mkdir": lambda: store.publish_bytes("new/x", b"new"),
    }.get(step, lambda: store.publish_bytes("x", b"new"))
    with pytest.raises(UsageError, match="cannot be written") as caught:
        action()
    assert caught.value.exit_code == 2


def test_create_where_it_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", failing(errno.EROFS))
    with pytest.raises(UsageError, match="cannot be written"):
        LocalStore(tmp_path / "scored").create()


@pytest.mark.parametrize("name", ["n" * 300 + ".parquet", "folder"])
def test_a_name_that_no_retry_can_write_is_for_a_person_to_mend(store: LocalStore, name: str) -> None:
    # Exit 75 would have a scheduler try for ever.
    (store.root / "folder/below").mkdir(parents=True)
    with pytest.raises(UsageError):
        store.publish_bytes(name, b"data")
    assert temporaries(store) == []


@pytest.mark.parametrize("root", ["file", "file/below"])
def test_dir_is_a_file(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        LocalStore(tmp_path / root).create()


def test_a_folder_of_an_output_is_a_file(store: LocalStore) -> None:
    store.publish_bytes("a", b"data")
    with pytest.raises(UsageError, match="is a file"):
        store.publish_bytes("a/b/x", b"data")


def test_create_again_changes_nothing(store: LocalStore) -> None:
    store.publish_bytes("x", b"data")
    store.create()
    assert content_of(store.root) == {"x": b"data"}


# --- nothing leaves DIR


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/b/../../../x", "..", "a/..", ".", ""])
def test_no_name_leads_out(store: LocalStore, name: str) -> None:
    (store.root / "a/b").mkdir(parents=True)
    around = content_of(store.root.parent)
    for action in (lambda: store.publish_bytes(name, b"bad"), lambda: store.open(name), lambda: store.path(name)):
        with pytest.raises(UsageError, match="leads out of"):
            action()
    assert content_of(store.root.parent) == around


def test_no_absolute_name(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leads out of"):
        store.publish_bytes(str(tmp_path / "x"), b"bad")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("depth", ["link/x", "link/below/x", "inner/link/x"])
def test_a_link_in_dir_leads_nothing_out(store: LocalStore, tmp_path: Path, depth: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"not ours")
    (store.root / "inner").mkdir()
    (store.root / "inner/link").symlink_to(outside)
    (store.root / "link").symlink_to("../outside")
    for action in (store.remove, store.remove_tree, store.exists, store.read_bytes, store.open):
        with pytest.raises(UsageError, match="leads out of"):
            action(depth)
    with pytest.raises(UsageError, match="leads out of"):
        store.publish_bytes(depth, b"bad")
    assert content_of(outside) == {"x": b"not ours"}


def test_a_link_that_stays_inside_is_not_followed(store: LocalStore) -> None:
    # Two shards would have one output.
    (store.root / "real").mkdir()
    (store.root / "link").symlink_to("real")
    with pytest.raises(UsageError, match="through a link"):
        store.publish_bytes("link/x", b"data")
    assert content_of(store.root) == {}


@WRITES
def test_a_link_with_the_name_itself_is_not_written_through(store: LocalStore, tmp_path: Path, replace: bool) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    store.path("x").symlink_to(outside)
    if replace:
        store.publish_bytes("x", b"ours")
        assert store.read_bytes("x") == b"ours"
        assert not store.path("x").is_symlink()
    else:
        with pytest.raises(FileExistsError):
            store.publish_bytes("x", b"ours", replace=False)
    assert outside.read_bytes() == b"not ours"


def test_a_link_to_itself_is_an_error_of_ours(store: LocalStore) -> None:
    (store.root / "loop").symlink_to("loop")
    with pytest.raises(BatchsentError):
        store.publish_bytes("loop/x", b"data")


def test_dir_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = LocalStore(tmp_path / "link")
    store.create()
    store.publish_bytes("x", b"data")
    assert (tmp_path / "real/x").read_bytes() == b"data"


# --- orphans


def orphan(store: LocalStore, *, host: str = "", pid: int = 1) -> Path:
    """A temporary that nobody writes."""
    path = store.root / TEMPORARY / f"{host or platform.node()}-{pid}-0123456789abcdef"
    path.write_bytes(b"half")
    return path


def test_orphans_are_removed(store: LocalStore) -> None:
    for pid in (1, 2):
        orphan(store, pid=pid)
    store.publish_bytes("x", b"data")
    assert store.remove_orphans() == 2
    assert content_of(store.root) == {"x": b"data"}
    assert store.remove_orphans() == 0


def test_another_host_s_temporary_is_an_orphan_after_a_day(store: LocalStore) -> None:
    path = orphan(store, host="another-node")
    assert store.remove_orphans() == 0, "its lock may not be seen from here"
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    with path.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert store.remove_orphans() == 0, "it is old, but its lock is seen"
    assert store.remove_orphans() == 1


def test_where_there_are_no_locks_a_run_goes_on(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = orphan(store)
    with store.lock():
        store.publish_bytes("x", b"data")
        assert not store.is_locked()
        assert store.remove_orphans() == 0
    assert path.exists()
    assert "without locks" in caplog.text


def test_what_is_being_written_is_no_orphan(store: LocalStore) -> None:
    orphan(store)

    def write(handle: IO[bytes]) -> None:
        handle.write(b"one")
        handle.flush()
        assert LocalStore(store.root).remove_orphans() == 1
        handle.write(b"two")

    store.publish("x", write)
    assert content_of(store.root) == {"x": b"onetwo"}


def test_what_another_process_writes_is_no_orphan(store: LocalStore) -> None:
    program = """
import sys
from batchsent.storage import LocalStore
def write(handle):
    handle.write(b"from elsewhere")
    handle.flush()
    print("writing", flush=True)
    sys.stdin.readline()
LocalStore(sys.argv[1]).publish("x", write)
"""
    orphan(store)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        assert store.remove_orphans() == 1
        assert len(temporaries(store)) == 1
        other.communicate("go on\n", timeout=30)
    assert other.returncode == 0
    assert content_of(store.root) == {"x": b"from elsewhere"}


def test_what_has_just_been_made_is_no_orphan(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another rank clears orphans after this one has made its temporary and before it has locked it.
    flock, cleared = fcntl.flock, [False]

    def clear_then_lock(handle: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not cleared[0]:
            cleared[0] = True
            LocalStore(store.root).remove_orphans()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", clear_then_lock)
    store.publish_bytes("x", b"data")
    assert cleared == [True]
    assert content_of(store.root) == {"x": b"data"}


# --- the lock


def test_lock(store: LocalStore) -> None:
    assert not store.is_locked()
    with store.lock():
        assert store.is_locked()
        with pytest.raises(LockedError, match="another run holds") as caught, LocalStore(store.root).lock():
            pass
        assert caught.value.exit_code == 75
    assert not store.is_locked()
    with store.lock():
        pass


def test_a_lock_that_another_process_holds(store: LocalStore) -> None:
    program = """
import sys
from batchsent.storage import LocalStore
with LocalStore(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert store.is_locked()
        with pytest.raises(LockedError), store.lock():
            pass
        other.kill()
    # The kernel gives it back: a run that was killed blocks nobody.
    assert not store.is_locked()
    with store.lock():
        assert store.is_locked()


def test_is_locked_writes_nothing(tmp_path: Path) -> None:
    assert not LocalStore(tmp_path / "none").is_locked()
    assert list(tmp_path.iterdir()) == []
    store = LocalStore(tmp_path / "scored")
    store.create()
    assert not store.is_locked()
    assert not (store.root / LOCK).exists()
    with store.lock():
        before = signature(store.root / LOCK), signature(store.root / "_batchsent")
        assert store.is_locked()
        assert (signature(store.root / LOCK), signature(store.root / "_batchsent")) == before


def test_asking_for_the_lock_leaves_it_free(store: LocalStore) -> None:
    with store.lock():
        pass
    assert not store.is_locked()
    assert not store.is_locked()
    with store.lock():
        pass


@pytest.mark.parametrize(("number", "error"), [(errno.EROFS, UsageError), (errno.EIO, StorageError)])
def test_a_lock_that_cannot_be_made(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[BatchsentError]
) -> None:
    monkeypatch.setattr(os, "open", failing(number))
    with pytest.raises(error), store.lock():
        pass


# --- reading


def test_what_is_not_there(store: LocalStore) -> None:
    store.publish_bytes("file", b"data")
    for name in ("none", "none/below", "file/below"):
        assert store.read_bytes(name) is None
        assert store.signature(name) is None
        assert not store.exists(name)
        assert store.list(name) == []
    with pytest.raises(FileNotFoundError):
        store.open("none")
    assert not store.exists("_batchsent")


def test_list(store: LocalStore) -> None:
    for name in ("folder/b", "folder/a", "folder/_c", "folder/below/d"):
        store.publish_bytes(name, b"")
    store.path("folder/link").symlink_to("b")
    assert store.list("folder") == ["_c", "a", "b"]


def test_outputs_are_what_is_not_internal_or_hidden(store: LocalStore) -> None:
    outputs = ["a.parquet", "b/c.parquet", "b/d/e.parquet", "z.parquet"]
    others = [
        "a.csv", "_SUCCESS", "_x.parquet", ".x.parquet", "_batchsent/parts/u/0.parquet", "_batchsent/tmp/x.parquet",
        ".hidden/x.parquet", "b/_internal/x.parquet", "b/.x.parquet", "x.parquet.gz", "parquet",
    ]  # fmt: skip
    for name in outputs + others:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert sorted(store.outputs()) == outputs
    assert list(store.outputs()) == list(store.outputs())
    assert sorted(store.outputs("b")) == ["b/c.parquet", "b/d/e.parquet"]
    assert sorted(store.outputs("_batchsent/parts")) == ["_batchsent/parts/u/0.parquet"]
    assert list(store.outputs("none")) == []


def test_remove_tree(store: LocalStore) -> None:
    store.publish_bytes("a/b/c", b"data")
    store.publish_bytes("d", b"data")
    store.remove_tree("a")
    store.remove_tree("a")
    assert content_of(store.root) == {"d": b"data"}


def test_free_bytes(store: LocalStore) -> None:
    assert store.free_bytes() > 0


def test_signature_notices_what_a_user_cannot_set_back(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    before = signature(path)
    assert before is not None
    assert (before.size_bytes, before.mtime_ns) == (3, 1)
    path.write_bytes(b"new")
    os.utime(path, ns=(1, 1))
    after = signature(path)
    assert after is not None
    assert (after.size_bytes, after.mtime_ns, after.inode) == (before.size_bytes, before.mtime_ns, before.inode)
    assert signature(tmp_path / "none") is None
    assert signature(path / "below") is None


def test_hash_stream_hashes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"head" + b"rest" * 100_000)
    with path.open("rb") as stream:
        stream.read(4)
        assert hash_stream(stream) == hashlib.sha256(b"rest" * 100_000).hexdigest()
