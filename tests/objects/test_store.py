"""DIR in an object store: one atomic put, read back where its answer is in doubt."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchsent.errors import NotAvailableError, StorageError, UsageError
from batchsent.objects import access
from batchsent.objects.spool import CHUNK_BYTES, MEMORY_BYTES
from batchsent.storage import LocalStore
from batchsent.stores import Store, open_store
from objects.cloud import SECRET, Cloud
from objects.proxy import FAULTS, Choose, Fault

pytestmark = pytest.mark.process

LARGE = os.urandom(2 * CHUNK_BYTES + 1000)
"""Put in pieces."""


@pytest.fixture
def store(cloud: Cloud) -> Store:
    return open_store(f"{cloud.bucket()}/out")


@pytest.fixture(autouse=True)
def _quiet(cloud: Cloud) -> Iterator[None]:
    cloud.proxy.begin()
    yield
    cloud.proxy.begin()


def once(fault: Fault, *methods: str) -> Choose:
    """To the first request of these methods."""
    seen: list[int] = []

    def choose(index: int, method: str, _path: str) -> Fault | None:
        if method in methods and not seen:
            seen.append(index)
            return fault
        return None

    return choose


def always(fault: Fault, *methods: str) -> Choose:
    return lambda _index, method, _path: fault if method in methods else None


def test_what_is_written_is_there(store: Store, tmp_path: Path) -> None:
    published = store.publish_bytes("a/b.json", b"hello")
    assert published.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert published.signature == store.signature("a/b.json")
    assert (store.read_bytes("a/b.json"), store.exists("a/b.json")) == (b"hello", True)
    store.publish_bytes("a/b.json", b"")
    assert store.read_bytes("a/b.json") == b""
    with store.open("a/b.json") as stream:
        assert stream.read() == b""


def test_what_is_not_there(store: Store) -> None:
    store.publish_bytes("a/b/c.json", b"x")
    for name in ("a", "a/b", "none", "a/b/c.json/d"):
        assert store.read_bytes(name) is None
        assert not store.exists(name)
        assert store.signature(name) is None
        assert store.modified_seconds(name) is None
        with pytest.raises(FileNotFoundError):
            store.open(name)
        store.remove(name)
    assert store.list("none") == store.folders("none") == list(store.outputs("none")) == []
    assert store.read_bytes("a/b/c.json") == b"x"


def test_it_lists_as_a_directory_does(store: Store, tmp_path: Path) -> None:
    local = LocalStore(tmp_path / "out")
    local.create()
    names = ["a.parquet", "x/b.parquet", "x/_c.parquet", ".y/d.parquet", "_batchsent/rejects/x/b.parquet", "z.csv"]
    names += ["x/y [1]*?/e.parquet", "_batchsent/parts/u/1", "_batchsent/parts/v/2", "_batchsent/parts/3"]
    for each in (store, local):
        for name in names:
            each.publish_bytes(name, name.encode())
    for folder in ("", "x", "_batchsent/parts", "_batchsent/rejects"):
        assert list(store.outputs(folder)) == sorted(local.outputs(folder))
        assert store.list(folder) == local.list(folder)
        assert store.folders(folder) == [name for name in local.folders(folder) if name != "tmp"]
        assert store.size_bytes(folder) == local.size_bytes(folder)
    store.remove_tree("x")
    assert list(store.outputs()) == ["a.parquet"]
    store.remove_tree("x")
    store.remove_tree("_batchsent")
    assert store.folders("") == [".y"]


def test_an_exception_leaves_nothing(store: Store) -> None:
    def fail(handle: object) -> None:
        handle.write(b"x" * (MEMORY_BYTES + 1))  # type: ignore[attr-defined]
        raise RuntimeError

    def late() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.publish("a.parquet", fail)
    with pytest.raises(RuntimeError):
        store.publish("a.parquet", lambda handle: handle.write(b"x"), before_rename=late)
    assert not store.exists("a.parquet")


def test_a_large_object_is_put_in_pieces_and_known_by_its_hash(store: Store, cloud: Cloud) -> None:
    cloud.proxy.begin()
    published = store.publish(
        "a.parquet", lambda handle: [handle.write(LARGE[i : i + 999_983]) for i in range(0, len(LARGE), 999_983)]
    )
    assert sum(request.method == "PUT" for request in cloud.proxy.requests) == 3
    assert published.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert published.signature == store.signature("a.parquet")
    assert store.read_bytes("a.parquet") == LARGE
    with pytest.raises(FileExistsError):
        store.publish("a.parquet", lambda handle: handle.write(LARGE[::-1]), replace=False)
    assert store.publish("a.parquet", lambda handle: handle.write(LARGE), replace=False).sha256 == published.sha256
    assert store.read_bytes("a.parquet") == LARGE


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_a_put_survives_what_happens_once(store: Store, cloud: Cloud, fault: Fault, replace: bool, data: bytes) -> None:
    for methods in (("PUT",), ("POST",)):
        cloud.proxy.begin(once(fault, *methods))
        published = store.publish(f"{methods[0]}.x", lambda handle: handle.write(data), replace=replace)
        cloud.proxy.begin()
        assert published.size_bytes == len(data)
        assert store.read_bytes(f"{methods[0]}.x") == data


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("replace", [True, False])
def test_an_upload_in_pieces_survives_what_happens_to_its_completion(
    store: Store, cloud: Cloud, fault: Fault, replace: bool
) -> None:
    completions = 0

    def choose(_index: int, method: str, path: str) -> Fault | None:
        nonlocal completions
        completions += method == "POST" and "uploadId=" in path
        return fault if completions == 1 and method == "POST" and "uploadId=" in path else None

    cloud.proxy.begin(choose)
    published = store.publish("x", lambda handle: handle.write(LARGE), replace=replace)
    cloud.proxy.begin()
    assert completions >= 1
    assert published.signature == store.signature("x")
    assert store.read_bytes("x") == LARGE


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_survives_what_happens_once(store: Store, cloud: Cloud, fault: Fault) -> None:
    store.publish_bytes("a", LARGE)
    for methods in (("GET",), ("HEAD",)):
        cloud.proxy.begin(once(fault, *methods))
        assert store.read_bytes("a") == LARGE
        cloud.proxy.begin(once(fault, *methods))
        with store.open("a") as stream:
            assert stream.read() == LARGE
        cloud.proxy.begin(once(fault, *methods))
        assert store.list("") == ["a"]


@pytest.mark.parametrize("fault", FAULTS)
def test_removing_survives_what_happens_once(store: Store, cloud: Cloud, fault: Fault) -> None:
    for name in ("a", "b/1", "b/2", "b/3?"):
        store.publish_bytes(name, b"x")
    cloud.proxy.begin(once(fault, "DELETE"))
    store.remove("a")
    cloud.proxy.begin(once(fault, "POST"))
    store.remove_tree("b")
    cloud.proxy.begin()
    assert store.size_bytes("") == 0


def test_a_put_that_was_done_although_no_answer_ever_came(
    store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access.file_system(str(store.root)), "retries", 1)
    for replace in (True, False):
        name = f"a-{replace}"
        cloud.proxy.begin(always("lost", "PUT"))
        published = store.publish(name, lambda handle: handle.write(b"mine"), replace=replace)
        assert len([r for r in cloud.proxy.requests if r.method == "PUT"]) > 1, "the library tried again"
        cloud.proxy.begin()
        assert published.signature == store.signature(name)
        assert store.read_bytes(name) == b"mine"


def test_a_put_that_was_not_done_is_temporary(store: Store, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access.file_system(str(store.root)), "retries", 1)
    store.publish_bytes("a", b"before")
    for replace in (True, False):
        cloud.proxy.begin(always("reset", "PUT"))
        with pytest.raises(StorageError if replace else FileExistsError):
            store.publish("a", lambda handle: handle.write(b"after"), replace=replace)
        with pytest.raises(StorageError) as caught:
            store.publish("b", lambda handle: handle.write(b"after"), replace=replace)
        assert SECRET not in str(caught.value)
        assert f"{store.root}/b" in str(caught.value)
        cloud.proxy.begin()
        assert store.read_bytes("a") == b"before", "nothing is deleted on doubt"
        assert store.read_bytes("b") is None


def test_what_a_bulk_deletion_leaves_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish_bytes("parts/1", b"x")
    monkeypatch.setattr(access.file_system(str(store.root)), "rm", lambda _names: None)
    with pytest.raises(StorageError, match="1 of 1 objects"):
        store.remove_tree("parts")


def test_of_many_writers_one_creates(store: Store) -> None:
    for turn in range(20):
        outcomes: list[str] = []
        barrier = threading.Barrier(4)

        def create(number: int, name: str = f"config-{turn}", go: threading.Barrier = barrier) -> None:
            go.wait()
            try:
                store.publish_bytes(name, b"%d" % number, replace=False)
                outcomes.append(f"{number}")  # noqa: B023 - joined below
            except FileExistsError:
                pass

        threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(store.read_bytes(f"config-{turn}") or b"").decode()] == outcomes


def test_names_that_are_none(store: Store) -> None:
    for name in ("../x", "a/../x", "a//b", "/a", "./a"):
        with pytest.raises(UsageError, match="is no name in"):
            store.publish_bytes(name, b"x")


def test_a_bucket_that_is_not_there(cloud: Cloud) -> None:
    store = open_store("s3://no-such-bucket/out")
    assert store.read_bytes("a") is None
    with pytest.raises(UsageError, match=r"s3://no-such-bucket/out/a cannot be written; expected a bucket") as caught:
        store.publish_bytes("a", b"x")
    assert caught.value.exit_code == 2


def test_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_arguments: object, **_options: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage", name="gcsfs")

    monkeypatch.setattr("fsspec.filesystem", missing)
    access._file_system.cache_clear()
    with pytest.raises(NotAvailableError, match=r"pip install 'batchsent\[gcs\]'") as caught:
        open_store("gs://bucket/x")
    access._file_system.cache_clear()
    assert caught.value.exit_code == 2


def test_folders_are_listed_without_what_lies_below_them(cloud: Cloud) -> None:
    """A run that resumes has thousands of parts, a thousand a request, in a few units."""
    store = open_store(f"{cloud.bucket()}/out")
    for index in range(30):
        store.publish_bytes(f"parts/u{index % 2}/{index}", b"x")
    cloud.proxy.begin()
    assert store.folders("parts") == ["u0", "u1"]
    (request,) = cloud.proxy.requests
    assert "delimiter=" in request.path
