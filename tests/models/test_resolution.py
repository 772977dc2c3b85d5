"""A model's name → files that are safe to load; the hub imitated by a cache as huggingface_hub lays it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils._paths import filter_repo_objects

from batchsent.errors import BatchsentError, HubUnreachableError, ModelError
from batchsent.models.resolution import EMBEDDED_DIRECTORY, read_model_config, resolve_model

COMMIT, OLDER = "a" * 40, "b" * 40
SST2 = "distilbert-base-uncased-finetuned-sst-2-english"
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "tokenizer.json": b"{}"}

HashFile = Callable[[str], str]


def hash_file(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def make_directory(directory: Path, **changes: bytes | None) -> Path:
    """A model directory; a change names a file with '__' for '.'; None leaves it out."""
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes | None] = {**FILES, **{name.replace("__", "."): data for name, data in changes.items()}}
    for name, data in files.items():
        if data is not None:
            (directory / name).write_bytes(data)
    return directory


# --- embedded and directories


def test_embedded() -> None:
    source = resolve_model("embedded", None, hash_file)
    assert (source.name, source.directory, source.revision) == ("embedded", EMBEDDED_DIRECTORY, None)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= source.files.keys()
    assert "README.md" not in source.files
    assert source.files["config.json"] == hash_file(str(EMBEDDED_DIRECTORY / "config.json"))


def test_embedded_is_the_embedded_one_whatever_lies_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_directory(tmp_path / "embedded")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("embedded", None, hash_file).directory == EMBEDDED_DIRECTORY
    assert resolve_model("./embedded", None, hash_file).files == {n: hash_file(f"embedded/{n}") for n in FILES}


def test_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_directory(tmp_path / "models/mine")
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(directory), "mine", "./mine", "mine/", "../models/mine", "~/models/mine"):
        source = resolve_model(name, None, hash_file)
        assert (source.name, source.revision) == ("mine", None)
        assert source.files == {n: hashlib.sha256(data).hexdigest() for n, data in FILES.items()}


def test_a_directory_that_moved_is_the_same_model(tmp_path: Path) -> None:
    first = resolve_model(str(make_directory(tmp_path / "a/mine")), None, hash_file)
    second = resolve_model(str(make_directory(tmp_path / "b/mine")), None, hash_file)
    assert (first.name, first.files) == (second.name, second.files)


def test_only_allowed_files_are_hashed(tmp_path: Path) -> None:
    allowed = [
        "generation_config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
        "merges.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "x.bpe.codes",
    ]  # fmt: skip
    others = [
        "pytorch_model.bin", "model.pt", "optimizer.pt", "training_args.bin", "modeling_mine.py", "README.md",
        "model.ckpt", "tf_model.h5", "flax_model.msgpack", "model.onnx", "config.json.bak", "rng_state.pth", "x.pkl",
    ]  # fmt: skip
    directory = make_directory(tmp_path / "mine")
    for name in allowed + others:
        (directory / name).write_bytes(b"{}")
    hashed: list[str] = []

    def recording(path: str) -> str:
        hashed.append(Path(path).name)
        return hash_file(path)

    source = resolve_model(str(directory), None, recording)
    assert sorted(hashed) == sorted([*allowed, *FILES])
    assert list(source.files) == sorted(source.files)
    assert sorted(source.files) == sorted(hashed)


def test_hashing_errors_are_not_hidden(tmp_path: Path) -> None:
    def failing(path: str) -> str:
        raise OSError(5, "Input/output error", path)

    with pytest.raises(OSError, match="Input/output"):
        resolve_model(str(make_directory(tmp_path / "mine")), None, failing)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config__json": b'{"model_type": "bert", "auto_map": {"AutoModel": "m.M"}}'}, "auto_map"),
        ({"config__json": b'{"auto_map": null}'}, "auto_map"),
        ({"config__json": None}, "no config.json"),
        ({"config__json": b""}, "not a JSON object"),
        ({"config__json": b"{"}, "not a JSON object"),
        ({"config__json": b"[]"}, "not a JSON object"),
        ({"config__json": b"null"}, "not a JSON object"),
        ({"config__json": b"\xff\xfe{"}, "not a JSON object"),
        ({"model__safetensors": None}, "no weights"),
        ({"model__safetensors": None, "pytorch_model__bin": b"p"}, "only pytorch_model.bin"),
        ({"model__safetensors": None, "model__pt": b"p", "tf_model__h5": b""}, "only model.pt, tf_model.h5"),
        ({"model__safetensors": None, "pytorch_model-00001-of-00002__bin": b"p"}, "only pytorch_model-00001"),
    ],
)
def test_unsafe_directories_are_refused(tmp_path: Path, changes: dict[str, bytes | None], reason: str) -> None:
    directory = make_directory(tmp_path / "mine", **changes)
    with pytest.raises(ModelError, match=reason) as caught:
        resolve_model(str(directory), None, hash_file)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_nothing_is_hashed_of_what_is_refused(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "mine", config__json=b'{"auto_map": {}}')
    with pytest.raises(ModelError):
        resolve_model(str(directory), None, lambda path: pytest.fail(f"read {path}"))


def test_a_pickle_beside_safetensors_is_not_read(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "mine", pytorch_model__bin=b"p")
    assert set(resolve_model(str(directory), None, hash_file).files) == set(FILES)


def test_a_tokenizer_that_brings_code_is_refused(tmp_path: Path) -> None:
    settings = b'{"auto_map": {"AutoTokenizer": ["tokenization_mine.Mine", null]}}'
    directory = make_directory(tmp_path / "mine", tokenizer_config__json=settings)
    with pytest.raises(ModelError, match="auto_map"):
        resolve_model(str(directory), None, hash_file)


@pytest.mark.parametrize("missing", sorted(FILES))
def test_a_link_to_a_file_that_is_gone_is_a_model_error(tmp_path: Path, missing: str) -> None:
    # So an interrupted download leaves a snapshot in the hub's cache.
    directory = make_directory(tmp_path / "mine")
    (directory / missing).unlink()
    (directory / missing).symlink_to("../blobs/gone")
    with pytest.raises(BatchsentError):
        resolve_model(str(directory), None, hash_file)


def test_a_directory_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--revision main"):
        resolve_model(str(make_directory(tmp_path / "mine")), "main", hash_file)


def test_the_embedded_model_has_no_revision() -> None:
    with pytest.raises(ModelError, match="--revision main"):
        resolve_model("embedded", "main", hash_file)


@pytest.mark.parametrize("name", ["./none", "/none", "~/none", "../none", "a/b/c", "https://hub/a/b", "~no-user-x/m"])
def test_a_path_that_is_no_directory_never_goes_to_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "model_info", lambda *_a, **_k: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="is not a directory"):
        resolve_model(name, None, hash_file)


def test_read_model_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "schlecht — “”"}}), encoding="utf-8")
    assert read_model_config(tmp_path) == {"id2label": {"0": "schlecht — “”"}}


# --- the hub's cache


class Cache:
    """A cache with models in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self, repository: str, commit: str = COMMIT, refs: tuple[str, ...] = ("main",), files: dict[str, bytes] = FILES
    ) -> Path:
        folder = self.root / ("models--" + repository.replace("/", "--"))
        snapshot = folder / "snapshots" / commit
        for part in (folder / "blobs", folder / "refs", snapshot):
            part.mkdir(parents=True, exist_ok=True)
        for name, data in {**files, "README.md": b"x"}.items():
            digest = hashlib.sha256(data).hexdigest()
            (folder / "blobs" / digest).write_bytes(data)
            (snapshot / name).symlink_to(f"../../blobs/{digest}")
        for ref in refs:
            path = folder / "refs" / ref
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit, encoding="ascii")
        return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache, and no network: whoever asks the hub without saying what it answers fails."""
    root = tmp_path / "hub"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    from huggingface_hub.utils import _cache_manager

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(HfApi, "model_info", lambda *_a, **_k: pytest.fail("asked the hub"))
    return Cache(root)


@pytest.fixture
def offline(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_offline_by_exact_id(offline: Cache) -> None:
    snapshot = offline.add("distilbert/" + SST2)
    source = resolve_model("distilbert/" + SST2, None, hash_file)
    assert (source.name, source.revision) == ("distilbert/" + SST2, COMMIT)
    assert source.directory.resolve() == snapshot.resolve()
    assert source.files == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_offline_by_the_name_of_old(offline: Cache) -> None:
    offline.add("distilbert/" + SST2)
    offline.add("distilbert/distilbert-base-uncased", OLDER)
    source = resolve_model(SST2, None, hash_file)
    assert (source.name, source.revision) == ("distilbert/" + SST2, COMMIT)


def test_offline_an_exact_name_wins_over_a_namespace(offline: Cache) -> None:
    offline.add("someone/gpt2", OLDER)
    offline.add("gpt2", COMMIT)
    source = resolve_model("gpt2", None, hash_file)
    assert (source.name, source.revision) == ("gpt2", COMMIT)


def test_offline_a_bare_name_of_two_namespaces_is_refused(offline: Cache) -> None:
    # The cache's order is a set's: which one is taken would change from run to run.
    offline.add("alice/reviews", COMMIT)
    offline.add("bob/reviews", OLDER)
    with pytest.raises(ModelError, match=r"alice/reviews.*bob/reviews"):
        resolve_model("reviews", None, hash_file)


def test_offline_another_namespace_is_another_model(offline: Cache) -> None:
    offline.add("alice/reviews")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve_model("bob/reviews", None, hash_file)


@pytest.mark.parametrize(
    ("revision", "commit"),
    [(None, COMMIT), ("main", COMMIT), ("v1.0", OLDER), ("refs/pr/1", OLDER), (OLDER, OLDER), (COMMIT, COMMIT)],
)
def test_offline_revisions(offline: Cache, revision: str | None, commit: str) -> None:
    offline.add("ns/m", COMMIT, ("main",))
    older = offline.add("ns/m", OLDER, ("v1.0", "refs/pr/1"), {**FILES, "tokenizer.json": b"older"})
    source = resolve_model("ns/m", revision, hash_file)
    assert source.revision == commit
    assert (source.directory.resolve() == older.resolve()) == (commit == OLDER)


def test_offline_a_commit_that_no_branch_names(offline: Cache) -> None:
    offline.add("ns/m", COMMIT, ())
    assert resolve_model("ns/m", COMMIT, hash_file).revision == COMMIT
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve_model("ns/m", None, hash_file)


@pytest.mark.parametrize(("name", "revision"), [("ns/none", None), ("none", None), ("ns/m", "dev"), ("ns/m", "c" * 40)])
def test_offline_and_not_in_the_cache(offline: Cache, name: str, revision: str | None) -> None:
    offline.add("ns/m")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as caught:
        resolve_model(name, revision, hash_file)
    assert name in str(caught.value)


def test_offline_without_a_cache(offline: Cache) -> None:
    offline.root.rmdir()
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve_model("ns/m", None, hash_file)


def test_offline_a_damaged_repository_is_passed_over(offline: Cache) -> None:
    (offline.root / "models--broken").write_bytes(b"")
    (offline.root / "models--empty--one").mkdir()
    (offline.root / "something-else").mkdir()
    offline.add("ns/m")
    assert resolve_model("ns/m", None, hash_file).revision == COMMIT


def test_offline_a_dataset_is_no_model(offline: Cache) -> None:
    offline.add("ns/m")
    (offline.root / "models--ns--m").rename(offline.root / "datasets--ns--m")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve_model("ns/m", None, hash_file)


def test_offline_the_cached_model_must_be_safe(offline: Cache) -> None:
    offline.add("ns/m", files={**FILES, "config.json": b'{"auto_map": {}}'})
    with pytest.raises(ModelError, match="auto_map"):
        resolve_model("ns/m", None, hash_file)


# --- the hub does not answer


def _hub_error(kind: str) -> Exception:
    if kind == "offline mode":
        return hub_errors.OfflineModeIsEnabled("offline")
    if kind == "OSError":
        return OSError(113, "No route to host")
    if kind == "timeout":
        return TimeoutError("timed out")
    library = __import__(hub_errors.HTTPError.__module__.partition(".")[0])  # type: ignore[attr-defined]
    request = library.Request("GET", "https://hub.invalid/api/models/ns/m")
    if kind == "connect":
        return library.ConnectError("refused", request=request)  # type: ignore[no-any-return]
    if kind == "read timeout":
        return library.ReadTimeout("slow", request=request)  # type: ignore[no-any-return]
    if kind == "protocol":
        return library.RemoteProtocolError("cut", request=request)  # type: ignore[no-any-return]
    response = library.Response({"503": 503, "no revision": 404, "no repository": 401}[kind], request=request)
    cls = {
        "503": hub_errors.HfHubHTTPError,
        "no revision": hub_errors.RevisionNotFoundError,
        "no repository": hub_errors.RepositoryNotFoundError,
    }[kind]
    return cls("the hub says no", response=response)


UNREACHABLE = pytest.mark.parametrize(
    "kind", ["offline mode", "OSError", "timeout", "connect", "read timeout", "protocol", "503"]
)


def _raising(error: Exception) -> Callable[..., Any]:
    def model_info(*_arguments: Any, **_named: Any) -> Any:
        raise error

    return model_info


@UNREACHABLE
def test_unreachable_and_cached(cache: Cache, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(HfApi, "model_info", _raising(_hub_error(kind)))
    cache.add("distilbert/" + SST2)
    for name in (SST2, "distilbert/" + SST2):
        source = resolve_model(name, None, hash_file)
        assert (source.name, source.revision) == ("distilbert/" + SST2, COMMIT)


@UNREACHABLE
@pytest.mark.parametrize("revision", [None, "dev"])
def test_unreachable_and_not_cached(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, kind: str, revision: str | None
) -> None:
    monkeypatch.setattr(HfApi, "model_info", _raising(_hub_error(kind)))
    if revision is not None:
        cache.add("ns/m")
    with pytest.raises(HubUnreachableError, match="ns/m is not in the cache") as caught:
        resolve_model("ns/m", revision, hash_file)
    assert caught.value.exit_code == 75


@UNREACHABLE
def test_the_connection_is_lost_while_files_are_fetched(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(HfApi, "model_info", lambda *_a, **_k: SimpleNamespace(id="ns/m", sha=COMMIT))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _raising(_hub_error(kind)))
    with pytest.raises(HubUnreachableError):
        resolve_model("ns/m", None, hash_file)


@pytest.mark.parametrize(("kind", "says"), [("no revision", "no revision 'dev'"), ("no repository", "not on the hub")])
def test_what_the_hub_does_not_have(cache: Cache, monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.setattr(HfApi, "model_info", _raising(_hub_error(kind)))
    cache.add("ns/m", COMMIT, ("main", "dev"))
    with pytest.raises(ModelError, match=says) as caught:
        resolve_model("ns/m", "dev", hash_file)
    assert "ns/m" in str(caught.value)


@pytest.mark.parametrize("name", ["not a hub id!", "ns/has space", "-x", "a--b", "x" * 97, "ns/", "m.git"])
def test_what_is_no_hub_id(cache: Cache, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def no_network(*_arguments: Any, **_named: Any) -> Any:
        pytest.fail("went to the network")

    from huggingface_hub import hf_api

    monkeypatch.setattr(hf_api, "get_session", no_network)
    with pytest.raises(ModelError, match="neither a directory nor a hub id"):
        resolve_model(name, None, hash_file)


# --- the hub answers


def test_the_hub_pins_a_commit(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cache.add("distilbert/" + SST2)
    asked: list[tuple[str, object]] = []

    def model_info(_api: HfApi, name: str, *, revision: str | None = None, **_named: Any) -> Any:
        asked.append((name, revision))
        return SimpleNamespace(id="distilbert/" + SST2, sha=COMMIT)

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert "*.safetensors" in allow_patterns
        return str(snapshot)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = resolve_model(SST2, "v1", hash_file)
    assert asked == [(SST2, "v1"), ("distilbert/" + SST2, COMMIT)]
    assert (source.name, source.revision, source.directory) == ("distilbert/" + SST2, COMMIT, snapshot)


def test_no_pickle_and_no_code_is_ever_fetched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cache.add("ns/m")
    fetched: list[str] = []
    offered = ["pytorch_model.bin", "modeling.py", "config.json", "model.safetensors", "onnx/model.onnx", "run.sh",
               "tokenizer.json", "vocab.txt", "optimizer.pt", "flax_model.msgpack", "README.md", "x.pkl"]  # fmt: skip

    def download(_name: str, *, allow_patterns: list[str], **_named: Any) -> str:
        fetched.extend(filter_repo_objects(offered, allow_patterns=allow_patterns))
        return str(snapshot)

    monkeypatch.setattr(HfApi, "model_info", lambda *_a, **_k: SimpleNamespace(id="ns/m", sha=COMMIT))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve_model("ns/m", None, hash_file)
    assert fetched == ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
