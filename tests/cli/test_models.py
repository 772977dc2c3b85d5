"""``batchsent models``: what it tells of a model is true, and the walk ends where ``score`` ends."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchsent.cli import main
from batchsent.errors import ModelError
from batchsent.models.resolution import ModelSource
from support import make_bert, rows, write_csv


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def walked(capsys: pytest.CaptureFixture[str], model: Path, text: str) -> str:
    code, out, err = run(capsys, "show", str(model), "--text", text)
    assert (code, err) == (0, "")
    return out


def test_what_the_model_is(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForSequenceClassification

    code, out, err = run(capsys, "show", str(tiny_model))
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    assert (code, err) == (0, "")
    assert "tiny-bert" in out
    assert "BertForSequenceClassification" in out
    assert f"{loaded.num_parameters() / 1e6:,.1f} million" in out
    assert "F32" in out
    assert "0 NEGATIVE, 1 POSITIVE (softmax" in out
    assert "128 tokens" in out
    assert re.search(r"tokenizer  BertTokenizer, \d+ tokens", out)
    weights = hashlib.sha256((tiny_model / "model.safetensors").read_bytes()).hexdigest()
    assert f"{weights[:12]}  model.safetensors" in out


def test_the_hash_is_the_one_in_the_settings_of_a_run(
    score: Callable[..., Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from batchsent.directory import recorded_identity
    from batchsent.storage import LocalStore

    score(write_csv(tmp_path / "in.csv", ["good film"]), output=tmp_path / "out")
    identity = recorded_identity(LocalStore(tmp_path / "out"))
    assert identity is not None
    assert identity.model_version in run(capsys, "show", str(tiny_model))[1]


def test_weights_are_counted_once_however_they_are_cut(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    from batchsent.models.walkthrough import read_weights

    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    loaded.save_pretrained(tmp_path, max_shard_size="20KB")
    files = dict.fromkeys(sorted(path.name for path in tmp_path.iterdir()), "")
    assert sum(name.endswith(".safetensors") for name in files) > 1
    shutil.copy(tiny_model / "model.safetensors", tmp_path / "other.safetensors")
    cut = read_weights(ModelSource("cut", tmp_path, None, {**files, "other.safetensors": ""}))
    whole = read_weights(ModelSource("whole", tiny_model, None, {"model.safetensors": ""}))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="is not an index of weights"):
        read_weights(ModelSource("cut", tmp_path, None, files))
    assert cut.parameter_count == whole.parameter_count == loaded.num_parameters()


def test_the_walk_shows_the_four_steps_and_ends_where_score_ends(
    score: Callable[..., Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Good film, 漢 not kettles"
    out = walked(capsys, tiny_model, text)
    assert re.findall(r"^\d  .*", out, re.MULTILINE) == [
        "1  Tokens (9)",
        "2  Ids and attention mask (a row of 9)",
        "3  Logits",
        "4  Probabilities (softmax)",
    ]
    tokens = "[CLS](special) good film , [UNK](unknown) not kettle ##s [SEP](special)"
    assert f"   {tokens}\n" in out
    assert "1 unknown" in out
    assert "'##' joins" in out
    score(write_csv(tmp_path / "in.csv", [text]), output=tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "in.parquet")
    label_id = ["NEGATIVE", "POSITIVE"].index(row["label"])
    assert out.rstrip().endswith(
        f"predicted class id {label_id}, label {row['label']}, probability {row['probability']:.4f}"
    )
    for label, probability in row["probabilities"].items():
        assert re.search(rf"{label} +{probability:.4f}$", out, re.MULTILINE)
    assert "cut off" not in out


def test_ids_and_mask_are_the_row_that_the_model_gets(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    expected = tokenizer("the film is good")
    out = walked(capsys, tiny_model, "the film is good")
    assert f"input_ids\n   {' '.join(map(str, expected['input_ids']))}\n" in out
    assert f"attention_mask\n   {' '.join(map(str, expected['attention_mask']))}\n" in out
    assert "unknown" not in out


def test_a_long_text_says_that_it_was_cut(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = walked(capsys, tiny_model, "good " * 500)
    assert "1  Tokens (128)" in out
    assert "The text has 502 tokens; the model takes 128, the rest was cut off." in out


def test_sigmoid_is_named_and_labels_without_names_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_bert(
        tmp_path / "multi", labels=("LABEL_0", "LABEL_1", "LABEL_2"), problem_type="multi_label_classification"
    )
    capsys.readouterr()  # what the library says while it saves
    out = walked(capsys, model, "good")
    assert "4  Probabilities (sigmoid)" in out
    assert sum(float(value) for value in re.findall(r"LABEL_\d +(0\.\d{4})$", out, re.MULTILINE)) != pytest.approx(1.0)
    described = run(capsys, "show", str(model))[1]
    assert "sigmoid of each" in described
    assert "set id2label" in described


@pytest.mark.parametrize("text", ["", "  \n", "\u200b", "\x00"])
def test_a_text_without_a_token_is_refused_as_score_rejects_it(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    code, out, err = run(capsys, "show", str(tiny_model), "--text", text)
    assert (code, out) == (2, "")
    assert err.startswith("error: the text is blank; expected a text with at least one token; ")


def test_a_text_that_is_not_unicode_is_refused(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "show", str(tiny_model), "--text", "caf\udce9")
    assert code == 2
    assert "not valid UTF-8" in err


def test_what_is_no_model_is_exit_2(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "show", str(tmp_path))[0] == 2
    assert run(capsys, "show")[0] == 2
    damaged = Path(shutil.copytree(tiny_model, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"nothing of the kind")
    code, _, err = run(capsys, "show", str(damaged))
    assert code == 2
    assert err.startswith("error: model.safetensors of damaged cannot be read (")


def test_lock_of_a_directory_is_toml_with_its_hashes(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "lock", str(tiny_model))
    assert (code, err) == (0, "")
    assert tomllib.loads(out) == {"model": str(tiny_model.resolve())}
    for path in tiny_model.iterdir():
        assert f"# {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in out
    assert "a directory has no revision" in out


def test_lock_of_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "lock", "embedded")
    assert code == 0
    assert tomllib.loads(out) == {"model": "embedded"}
    assert "  model.safetensors" in out


def test_lock_of_a_hub_model_names_the_commit(tmp_path: Path) -> None:
    from batchsent.models.walkthrough import lock_lines

    source = ModelSource('some"one/model', tmp_path, "4" * 40, {"config.json": "a" * 64})
    lines = lock_lines(source)
    assert tomllib.loads("\n".join(lines)) == {"model": 'some"one/model', "revision": "4" * 40}
    assert lines[-1] == f"# {'a' * 64}  config.json"


def test_a_job_file_takes_the_lines(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "in.csv", ["good film"])
    named = f"input = {json.dumps(str(tmp_path / 'in.csv'))}\noutput = {json.dumps(str(tmp_path / 'out'))}\n"
    (tmp_path / "job.toml").write_text(named + run(capsys, "lock", str(tiny_model))[1])
    with pytest.raises(SystemExit) as ended:
        main(["score", "--config", str(tmp_path / "job.toml"), "--progress", "none"])
    assert ended.value.code == 0
    assert rows(tmp_path / "out" / "in.parquet")
