"""A model is data: no directory of one runs code, opens a pickle, or has files read that were not hashed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from batchsent.errors import ModelError
from batchsent.models.resolution import MODEL_FILES, ModelSource, resolve_model, sha256_of
from batchsent.models.sequence_classification import SequenceClassifier, describe
from batchsent.stages.encoder import Encoder
from support import batch_of, write_csv

from .conftest import Cli

Change = Callable[[Path], object]

MARKER = "it-ran"
"""Name of the file that code of a model would write, in the working directory."""


class Bomb:
    """A pickle of it leaves the marker when it is opened."""

    def __reduce__(self) -> Any:
        return os.mkdir, (MARKER,)


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]) -> Iterator[None]:
    """After each test: no code of a model ran, no pickle was opened, nobody was asked."""
    opened: list[object] = []
    monkeypatch.setattr(torch, "load", lambda file, *_, **__: opened.append(file))
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / MARKER).exists()
    assert opened == []
    assert no_network == []


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, with Python files beside it that leave the marker when they are imported."""
    directory = tmp_path / "theirs"
    shutil.copytree(tiny_model, directory)
    (directory / "custom_generate").mkdir()
    for name in ("theirs.py", "__init__.py", "conftest.py", "custom_generate/generate.py"):
        (directory / name).write_text(f"import os\nos.mkdir({MARKER!r})\nclass Theirs: ...\n")
    return directory


def load(directory: Path) -> tuple[ModelSource, list[list[float]]]:
    """All that a run does with a model: its files, and the logits of a text."""
    source = resolve_model(str(directory), None, sha256_of)
    describe(directory)
    rows = [ids.tolist() for ids in Encoder(directory, 64).encode(pa.chunked_array([["good film"]])).ids]
    model = SequenceClassifier(directory, precision="fp32", device="cpu", threads=1)
    return source, model.start(batch_of(rows))().tolist()


def settings(file: str, **values: Any) -> Change:
    """Set keys of one of the model's JSON files."""

    def change(directory: Path) -> None:
        path = directory / file
        before = json.loads(path.read_bytes()) if path.exists() else {}
        path.write_text(json.dumps(before | values), encoding="utf-8")

    return change


def escaped_key(directory: Path) -> None:
    """``auto_map``, but not in so many letters."""
    (directory / "tokenizer_config.json").write_text(r'{"\u0061uto_map": {"AutoTokenizer": ["theirs.Theirs", null]}}')


def pickled(name: str) -> Change:
    """A pickle that leaves the marker."""
    return lambda directory: (directory / name).write_bytes(pickle.dumps(Bomb()))


def sharded(name: str) -> Change:
    """An index that says that every weight is in ``name``; the weights have another name."""

    def change(directory: Path) -> None:
        weights = (directory / "model.safetensors").rename(directory / "decoy.safetensors")
        size = int.from_bytes(weights.read_bytes()[:8], "little")
        names = json.loads(weights.read_bytes()[8 : 8 + size]).keys() - {"__metadata__"}
        index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    return change


def both(*changes: Change) -> Change:
    return lambda directory: [change(directory) for change in changes]


AUTO_MAP = {"auto_map": {"AutoConfig": "theirs.Theirs", "AutoModelForSequenceClassification": "theirs.Theirs"}}
PICKLES_ONLY = both(pickled("pytorch_model.bin"), lambda directory: (directory / "model.safetensors").unlink())
REFUSED: dict[str, tuple[Change, str]] = {
    "code of a model": (settings("config.json", **AUTO_MAP), "brings its own Python code"),
    "code of another repository": (
        settings("config.json", auto_map={"AutoConfig": "someone/else--theirs.Theirs"}),
        "brings its own Python code",
    ),
    "code of a part of a model": (settings("config.json", text_config=AUTO_MAP), "brings its own Python code"),
    "code in a list": (settings("config.json", parts=[AUTO_MAP]), "brings its own Python code"),
    "code of a tokenizer": (
        settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["theirs.Theirs", None]}),
        "auto_map in tokenizer_config.json",
    ),
    "an escaped key": (escaped_key, "auto_map in tokenizer_config.json"),
    "code of the generation": (settings("generation_config.json", **AUTO_MAP), "auto_map in generation_config.json"),
    "another configuration": (
        both(
            settings("config.json", configuration_files=["config.1.0.0.json"]),
            settings("config.1.0.0.json", model_type="bert", **AUTO_MAP),
        ),
        "configuration_files in config.json",
    ),
    "another tokenizer": (
        settings("tokenizer_config.json", fast_tokenizer_files=["tokenizer.1.0.0.json"]),
        "fast_tokenizer_files in tokenizer_config.json",
    ),
    "a vocabulary from elsewhere": (
        settings("special_tokens_map.json", vocab_file="/etc/passwd"),
        "vocab_file in special_tokens_map.json",
    ),
    "settings that are no JSON": (
        lambda directory: (directory / "special_tokens_map.json").write_text("["),
        "special_tokens_map.json is not a JSON object",
    ),
    "settings that are nested without end": (
        lambda directory: (directory / "tokenizer_config.json").write_text('{"a":' + "[" * 100_000),
        "tokenizer_config.json is not a JSON object",
    ),
    "quantized": (settings("config.json", quantization_config={"quant_method": "torchao"}), "is quantized"),
    "an adapter": (
        settings("adapter_config.json", base_model_name_or_path="someone/else", peft_type="LORA"),
        "adapter_config.json",
    ),
    "pickles only": (PICKLES_ONLY, "only pytorch_model.bin; expected weights in safetensors, which cannot run code"),
    "a pickle in the index": (both(pickled("w.bin"), sharded("w.bin")), "names 'w.bin'"),
    "weights from elsewhere": (sharded("../elsewhere.safetensors"), "names '../elsewhere.safetensors'"),
    "weights of an absolute path": (sharded("/tmp/w.safetensors"), "names '/tmp/w.safetensors'"),
    "weights in a folder": (sharded("folder/w.safetensors"), "names 'folder/w.safetensors'"),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_is_more_than_data_is_refused(model: Path, change: Change, reason: str) -> None:
    change(model)
    with pytest.raises(ModelError, match=r"theirs|JSON object") as refused:
        load(model)
    assert reason in str(refused.value)


HARMLESS: dict[str, Change] = {
    "a pickle that the configuration asks for": both(
        pickled("adapter_model.bin"), settings("config.json", transformers_weights="adapter_model.bin")
    ),
    "weights that the configuration asks for": settings("config.json", transformers_weights="../w.safetensors"),
    "code on the hub for attention": settings("config.json", _attn_implementation="someone/kernel"),
    "code on the hub for attention, by its newer name": settings("config.json", attn_implementation="some/kernel:f"),
    "switches that are ours": settings("config.json", trust_remote_code=True, use_safetensors=False, custom_code=True),
    "switches of a tokenizer": settings("tokenizer_config.json", trust_remote_code=True, use_fast=False),
    "another name": settings("config.json", _name_or_path="someone/else", base_model_name_or_path="someone/else"),
    "a class of theirs": settings("tokenizer_config.json", tokenizer_class="theirs.Theirs"),
    "a vocabulary from elsewhere": settings("tokenizer_config.json", vocab_file="/etc/passwd", tokenizer_file="/x"),
    "a template that would run": settings(
        "tokenizer_config.json", chat_template=f"{{{{ cycler.__init__.__globals__.os.mkdir('{MARKER}') }}}}"
    ),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_a_model_may_ask_for_is_not_done(model: Path, tiny_model: Path, change: Change) -> None:
    change(model)
    assert load(model)[1] == load(tiny_model)[1]


PICKLES = [
    "pytorch_model.bin",
    "adapter_model.bin",
    "training_args.bin",
    "model.pt",
    "optimizer.pth",
    "x.ckpt",
    "v.pkl",
]


def test_only_what_was_hashed_is_opened(model: Path, tiny_model: Path) -> None:
    """Also a file that the library would prefer to another, were it there."""
    for name in PICKLES:
        pickled(name)(model)
    for name in ("config.1.0.0.json", "tokenizer.1.0.0.json", "processor_config.json", "preprocessor_config.json"):
        (model / name).write_text("not looked at")
    opened: set[str] = set()
    recording = [True]

    def record(event: str, arguments: tuple[Any, ...]) -> None:
        if recording[0] and event == "open" and str(arguments[0]).startswith(str(model)):
            opened.add(os.path.relpath(arguments[0], model))

    sys.addaudithook(record)  # stays, but idle
    source, logits = load(model)
    recording[0] = False
    assert {"config.json", "tokenizer_config.json"} <= opened <= source.files.keys()
    assert logits == load(tiny_model)[1]
    assert not any(fnmatch(name, pattern) for name in PICKLES for pattern in MODEL_FILES)


def test_every_vocabulary_that_the_library_reads_is_hashed() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    checked = 0
    for model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        name: Any = TOKENIZER_MAPPING_NAMES.get(model_type)
        tokenizer: Any = tokenizer_class_from_name(name) if name else None
        try:
            files = tokenizer.vocab_files_names.values() if tokenizer else ()
        except ImportError:  # it wants a package that is not here, and says so when it is used
            continue
        checked += len(files)
        unknown = [file for file in files if not any(fnmatch(file, pattern) for pattern in MODEL_FILES)]
        assert not unknown, model_type
    assert checked > 100


def test_score_refuses_with_one_line_and_leaves_no_settings(cli: Cli, model: Path, tmp_path: Path) -> None:
    PICKLES_ONLY(model)
    reviews = write_csv(tmp_path / "in.csv", ["good film"])
    for more in ([], ["--debug"]):
        code, said = cli("score", reviews, "--output", tmp_path / "out", "--model", model, *more)
        assert code == 2
        assert "only pytorch_model.bin" in said
        assert not (tmp_path / "out/_batchsent/config.json").exists()


@pytest.mark.parametrize("option", ["--trust-remote-code", "--use-safetensors", "--no-use-safetensors"])
def test_there_is_no_option_to_trust_a_model(cli: Cli, option: str, tmp_path: Path) -> None:
    code, said = cli("score", "in.csv", "--output", "out", option)
    assert (code, "has no option" in said) == (2, True)
    job = tmp_path / "job.toml"
    job.write_text(f"{option.removeprefix('--')} = true\n")
    code, said = cli("score", "in.csv", "--output", "out", "--config", job)
    assert (code, "unknown key" in said) == (2, True)


def test_there_is_no_environment_variable_to_trust_a_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("", "HF_", "TRANSFORMERS_", "BATCHSENT_"):
        monkeypatch.setenv(f"{prefix}TRUST_REMOTE_CODE", "1")
        monkeypatch.setenv(f"{prefix}USE_SAFETENSORS", "0")
    settings("config.json", **AUTO_MAP)(model)
    with pytest.raises(ModelError, match="brings its own Python code"):
        load(model)


def test_the_source_never_trusts_a_model() -> None:
    sources = {p: p.read_text(encoding="utf-8") for p in (Path(__file__).parents[2] / "src").rglob("*.py")}
    assert not [path for path, text in sources.items() if "trust_remote_code=True" in text]
    assert not [path for path, text in sources.items() if "use_safetensors=False" in text or "torch.load" in text]
    # Between the job and its own reader, over a socket that the reader inherits; see SECURITY.md.
    assert [path.name for path, text in sources.items() if "import pickle" in text] == ["process.py"]
