"""What ``batchsent models`` tells of a model: what it is, and what it does with one text, step by step.

Loads no weights by itself: the model that takes part in the walk is handed in, as is the row that it gets.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from batchsent.errors import ModelError
from batchsent.models.families import Answers
from batchsent.models.pretrained import load_tokenizer
from batchsent.models.prompts import PLACE, Prompt
from batchsent.models.resolution import EMBEDDED, ModelSource, read_model_config
from batchsent.models.weights import weight_files
from batchsent.records import TokenBatch
from batchsent.toml import toml_value

WIDTH = 100
"""Columns of the text that is printed."""
ANSWER_TOKENS = 20
"""That a model writes by itself, at most."""

_MARKS = (
    ("##", "'##' joins a piece to the one before it"),
    ("Ġ", "'Ġ' stands for the space before a word"),
    ("▁", "'▁' stands for the space before a word"),
)
"""How tokenizers write what a piece does not show: WordPiece, byte-level BPE, SentencePiece."""


class Classifier(Protocol):
    """What the walk needs of a model."""

    @property
    def module(self) -> Any: ...
    def full_precision_logits(self, batch: TokenBatch) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Weights:
    """What the headers of the weight files say."""

    parameter_count: int
    size_bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One step of the walk, to be printed under its title."""

    title: str
    lines: tuple[str, ...]


def model_lines(source: ModelSource, answers: Answers) -> list[tuple[str, str]]:
    """(name, value) pairs that say what the model is. Loads no weights."""
    tokenizer, weights = load_tokenizer(source.directory), read_weights(source)
    architectures = read_model_config(source.directory).get("architectures") or ["not named in config.json"]
    function = "sigmoid of each: several may hold" if answers.multi_label else "softmax over them: one holds"
    words = [f" ({word!r})" for word in answers.prompt.words] if answers.prompt else [""] * len(answers.labels)
    labels = ", ".join(
        f"{index} {label}{word}" for index, (label, word) in enumerate(zip(answers.labels, words, strict=True))
    )
    lines = [
        ("model", source.name),
        ("architecture", str(architectures[0])),
        ("task", answers.task),
        ("revision" if source.revision else "hash", source.version),
        ("parameters", f"{weights.parameter_count / 1e6:,.1f} million"),
        ("weights", f"{weights.size_bytes / 1e6:,.1f} MB, {' and '.join(weights.dtypes)}"),
        ("labels", f"{labels} ({function})"),
        ("max length", f"{answers.max_length:,} tokens"),
        ("tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens in its vocabulary"),
    ]
    if answers.prompt:
        lines.append(("prompt", _spelt(answers.prompt.before + PLACE + answers.prompt.after)))
    if not answers.has_label_names:
        lines.append(("note", "the labels have no names; set id2label in its config.json to name them"))
    return lines + [
        ("files" if index == 0 else "", f"{sha256[:12]}  {name}")
        for index, (name, sha256) in enumerate(source.files.items())
    ]


def read_weights(source: ModelSource) -> Weights:
    """Sum up the headers of the files that the weights are loaded from. Raises ModelError if one is damaged."""
    from safetensors import SafetensorError, safe_open

    parameters: dict[str, int] = {}
    dtypes = set()
    names = weight_files(source.directory)
    for name in names:
        try:
            with safe_open(source.directory / name, framework="numpy") as weights:
                for key in weights.keys():  # noqa: SIM118 - not a mapping
                    tensor = weights.get_slice(key)
                    # Older models saved counters and position ids with their weights.
                    if "F" in tensor.get_dtype():
                        parameters[key] = int(np.prod(tensor.get_shape(), dtype=np.int64))
                        dtypes.add(tensor.get_dtype())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{name} of {source.name} cannot be read ({error})",
                "complete safetensors weights",
                "fetch or save it again",
            ) from error
    size_bytes = sum((source.directory / name).stat().st_size for name in names)
    return Weights(sum(parameters.values()), size_bytes, tuple(sorted(dtypes)))


def lock_lines(source: ModelSource) -> list[str]:
    """Lines for a job file that name just this model, with the hashes of its files as comments."""
    if source.revision is not None:
        named = [f"model = {toml_value(source.name)}", f"revision = {toml_value(source.revision)}"]
        comment = "the commit identifies it; SHA-256 of its files:"
    elif source.name == EMBEDDED:
        named = [f"model = {toml_value(EMBEDDED)}"]
        comment = "it comes with batchsent and has no revision: the SHA-256 of its files identify it"
    else:
        named = [f"model = {toml_value(str(source.directory.resolve()))}"]
        comment = "a directory has no revision: the SHA-256 of its files identify it"
    return [*named, f"# {comment}", *(f"# {sha256}  {name}" for name, sha256 in source.files.items())]


# --- the walk


def walk(batch: TokenBatch, whole_count: int, model: Classifier, tokenizer: Any, answers: Answers) -> list[Step]:
    """The steps from a text to its label; of a model that is asked by a prompt, also what it writes by itself.

    ``batch`` is the text as the model gets it; ``whole_count`` its tokens before it was cut.
    """
    ids = batch.token_ids.tolist()
    logits = torch.from_numpy(model.full_precision_logits(batch))
    probabilities = torch.sigmoid(logits) if answers.multi_label else torch.softmax(logits, dim=-1)
    prompt = answers.prompt
    steps = [
        partial(_tokens_step, ids, whole_count, tokenizer),
        partial(_ids_step, ids, int(batch.lengths[0]), tokenizer),
        partial(_likelihoods_step, logits[0].tolist(), prompt)
        if prompt
        else partial(_logits_step, logits[0].tolist(), answers.labels),
        partial(_probabilities_step, probabilities[0].tolist(), answers),
    ]
    if prompt:
        steps = [partial(_prompt_step, prompt), *steps, partial(_answer_step, ids, model.module, tokenizer)]
    return [step(number) for number, step in enumerate(steps, 1)]


def _prompt_step(prompt: Prompt, number: int) -> Step:
    explained = f"The model writes text, so it is asked: {PLACE} stands for the review."
    lines = (prompt.before + PLACE + prompt.after).splitlines()
    return Step(f"{number}  Prompt", (*_wrapped(explained), "", *lines))


def _tokens_step(ids: list[int], whole_count: int, tokenizer: Any, number: int) -> Step:
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    explained = "The text is cut into pieces of the model's vocabulary"
    explained += "".join(f"; {meaning}" for mark, meaning in _MARKS if any(mark in token for token in tokens))
    special, unknown = set(tokenizer.all_special_ids), tokenizer.unk_token_id
    shown = []
    for token, token_id in zip(tokens, ids, strict=True):
        if token_id == unknown:
            shown.append(f"{token}(unknown)")
        else:
            shown.append(f"{token}(special)" if token_id in special else token)
    unknown_count = ids.count(unknown)
    notes = []
    if whole_count > len(ids):
        notes.append(f"The text has {whole_count:,} tokens; the model takes {len(ids):,}, the rest was cut off.")
    if unknown_count:
        notes.append(
            f"{unknown_count:,} unknown: the vocabulary has no pieces for them, so the model cannot read them."
        )
    return Step(f"{number}  Tokens ({len(ids):,})", (*_wrapped(explained + "."), *_wrapped(*notes), "", *_row(shown)))


def _ids_step(ids: list[int], length: int, tokenizer: Any, number: int) -> Step:
    padding = tokenizer.pad_token or "a padding token"
    mask = [int(position < length) for position in range(len(ids))]
    explained = (
        "Each token becomes its number in the vocabulary. The attention mask has 1 for what the model reads: here all, "
        f"as the text is alone; in a batch, a row shorter than the longest is filled up with {padding}, masked with 0."
    )
    lines = ["", "input_ids", *_row(ids), "attention_mask", *_row(mask)]
    return Step(f"{number}  Ids and attention mask (a row of {len(ids):,})", (*_wrapped(explained), *lines))


def _logits_step(logits: list[float], labels: tuple[str, ...], number: int) -> Step:
    explained = "The model reads the row and gives each label a number, the logit: the higher, the likelier."
    return Step(
        f"{number}  Logits", (*_wrapped(explained), "", *_per_label(labels, [f"{value:+.4f}" for value in logits]))
    )


def _likelihoods_step(likelihoods: list[float], prompt: Prompt, number: int) -> Step:
    explained = (
        "Each label has a word. The model says how likely it is to write that word next; its logarithm takes the place "
        "of the logit."
    )
    if prompt.is_calibrated:
        explained += " What it says of texts that say nothing is taken off."
    named = tuple(f"{label} {word!r}" for label, word in zip(prompt.labels, prompt.words, strict=True))
    lines = _per_label(named, [f"{value:+.4f}" for value in likelihoods])
    return Step(f"{number}  Log-likelihoods", (*_wrapped(explained), "", *lines))


def _answer_step(ids: list[int], module: Any, tokenizer: Any, number: int) -> Step:
    written = module.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=module.config.pad_token_id or tokenizer.eos_token_id or 0,
    )[0].tolist()
    own = written if module.config.is_encoder_decoder else written[len(ids) :]
    answer = tokenizer.decode(own, skip_special_tokens=True).strip()
    explained = f"What the model writes by itself, the likeliest token each time, {ANSWER_TOKENS} at most:"
    return Step(f"{number}  Answer", (*_wrapped(explained), "", *(answer.splitlines() or ["(nothing)"])))


def _probabilities_step(probabilities: list[float], answers: Answers, number: int) -> Step:
    if answers.multi_label:
        title, explained = "sigmoid", "Each logit x becomes 1 / (1 + exp(-x)), a number from 0 to 1 of its own."
    else:
        of_each = "log-likelihood" if answers.prompt else "logit"
        title, explained = (
            "softmax",
            f"Each {of_each} x becomes exp(x), divided by the sum of them: together they are 1.",
        )
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return Step(
        f"{number}  Probabilities ({title})",
        (
            *_wrapped(explained),
            "",
            *_per_label(answers.labels, [f"{value:.4f}" for value in probabilities]),
            "",
            f"predicted class id {best}, label {answers.labels[best]}, probability {probabilities[best]:.4f}",
        ),
    )


def _per_label(labels: tuple[str, ...], values: list[str]) -> list[str]:
    width = max(map(len, labels))
    index_width = len(str(len(labels) - 1))
    return [f"{index:>{index_width}}  {labels[index]:<{width}}  {value:>8}" for index, value in enumerate(values)]


def _spelt(text: str) -> str:
    """On one line."""
    return text.replace("\n", "\\n")


def _row(values: list[Any]) -> list[str]:
    return textwrap.wrap(" ".join(map(str, values)), WIDTH - 3, break_long_words=False, break_on_hyphens=False)


def _wrapped(*sentences: str) -> list[str]:
    return [line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH - 3)]
