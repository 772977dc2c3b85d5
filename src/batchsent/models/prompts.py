"""Prompts: how a model that writes text is asked for a label, and the words that stand for the labels.

A prompt is a template with ``{text}`` in it. What the model reads is the template with a review in that place, in the
model's own chat markup where its tokenizer has a template for that; what it is asked for is how likely each label's
word is to follow. Everything is settled here as text, so that config.json can say all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from batchsent.calibration import asked_by
from batchsent.errors import ModelError, UsageError
from batchsent.models.pretrained import load_tokenizer

PLACE = "{text}"
"""Where the review stands in a template."""

CONTENT_FREE = ("N/A", "[MASK]", "")
"""The texts of Zhao et al. (2021)."""

_PROBE = "a"
"""A text for which to ask how a tokenizer joins what stands beside it."""


@dataclass(frozen=True)
class Wording:
    """A way to ask, and the words that answer."""

    template: str
    verbalizers: tuple[tuple[str, str], ...]
    """(label, word), in the order of the labels."""


DEFAULT_WORDING = "sentiment"
WORDINGS: dict[str, dict[str, Wording]] = {
    "sentiment": {
        "text-to-text": Wording(
            "Is the following review positive or negative? {text}", (("NEGATIVE", "negative"), ("POSITIVE", "positive"))
        ),
        "causal": Wording("Review: {text}\nSentiment: ", (("NEGATIVE", "negative"), ("POSITIVE", "positive"))),
        "chat": Wording(
            "Is the sentiment of this review positive or negative? Answer with one word.\n\nReview: {text}",
            (("NEGATIVE", "Negative"), ("POSITIVE", "Positive")),
        ),
    },
    "sentiment-zh": {
        "text-to-text": Wording("下面这条评论是正面的还是负面的？{text}", (("NEGATIVE", "负面"), ("POSITIVE", "正面"))),
        "causal": Wording("评论：{text}\n情感（正面或负面）：", (("NEGATIVE", "负面"), ("POSITIVE", "正面"))),
        "chat": Wording(
            "这条评论的情感是正面还是负面？只回答一个词。\n\n评论：{text}", (("NEGATIVE", "负面"), ("POSITIVE", "正面"))
        ),
    },
}
"""Name → kind of model → how it is asked. What each was chosen for stands in docs/models.md."""


@dataclass(frozen=True)
class Prompt:
    """How a model is asked, settled."""

    task: str
    """'text-to-text' or 'causal'."""
    template: str
    """As it was given, or as its name stands for."""
    before: str
    """What the model reads before a text: the template, in chat markup where there is any, special tokens included."""
    after: str
    labels: tuple[str, ...]
    words: tuple[str, ...]
    """What stands for each label. It follows ``after``."""
    is_calibrated: bool
    """Whether the model's own bias for a label is removed."""

    @property
    def description(self) -> str | None:
        """What a temperature is fitted with."""
        return asked_by(self.template, self.words, is_calibrated=self.is_calibrated)


@dataclass(frozen=True)
class PromptIds:
    """A prompt as token ids: what stands around the ids of a text, which are tokenized apart from it."""

    before: list[int]
    blanks: str
    """Blanks that ``before`` would end with: they belong to the text's first token."""
    after: list[int]
    words: tuple[list[int], ...]
    """Ids of each label's word, as they follow ``after``."""
    content_free: tuple[list[int], ...]
    """The whole prompt around texts that say nothing; empty where the model's bias is to stay."""


def settle(
    directory: Path, task: str, asked: str | None, verbalizers: Sequence[str], *, is_calibrated: bool = False
) -> Prompt:
    """The prompt for the model in ``directory``.

    ``asked`` is a template, a name of WORDINGS, or None for the default; ``verbalizers`` are LABEL=WORD, or none for
    those of a named wording. Raises UsageError or ModelError if they do not do.
    """
    tokenizer = load_tokenizer(directory)
    kind = "chat" if task == "causal" and tokenizer.chat_template else task
    name = asked or DEFAULT_WORDING
    wording = WORDINGS[name][kind] if name in WORDINGS else _given(name, verbalizers)
    pairs = _pairs(verbalizers) if verbalizers else wording.verbalizers
    before, after = _rendered(tokenizer, kind, wording.template)
    prompt = Prompt(
        task,
        wording.template,
        before,
        after,
        labels=tuple(label for label, _ in pairs),
        words=tuple(word for _, word in pairs),
        is_calibrated=is_calibrated,
    )
    _require_answerable(prompt, prompt_ids(tokenizer, prompt), tokenizer.unk_token_id)
    return prompt


def changes(
    asked: str | None, verbalizers: Sequence[str], recorded: str | None, recorded_pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """What of a prompt is asked otherwise than it was ``recorded``, as ``name: recorded → asked``.

    Nothing given means the default, whatever the kind of model.
    """
    if recorded is None:  # a model with a classification head
        return ["prompt: none → given"] if asked or verbalizers else []
    name = asked or DEFAULT_WORDING
    wordings = list(WORDINGS[name].values()) if name in WORDINGS else [Wording(name, ())]
    wordings = [wording for wording in wordings if wording.template == recorded]
    if not wordings:
        return [f"prompt: {recorded!r} → {name!r}"]
    wanted = [tuple(item.partition("=")[::2]) for item in verbalizers] or list(wordings[0].verbalizers)
    if wanted == list(recorded_pairs):
        return []
    return [f"verbalizer: {_shown(recorded_pairs)} → {_shown(wanted)}"]


def _shown(pairs: Sequence[tuple[str, ...]]) -> str:
    return ",".join("=".join(pair) for pair in pairs)


def answer_length(directory: Path, prompt: Prompt) -> int:
    """Tokens behind the prompt for which a decoder needs positions: of a word all but the last one."""
    return max(len(word) - 1 for word in prompt_ids(load_tokenizer(directory), prompt).words)


def _given(template: str, verbalizers: Sequence[str]) -> Wording:
    if template.count(PLACE) != 1:
        raise UsageError(
            f"--prompt {template!r} has {template.count(PLACE)} times {PLACE}",
            f"a template with {PLACE} once, or one of {', '.join(WORDINGS)}",
            "put it where the review belongs",
        )
    if not verbalizers:
        raise UsageError(
            "--prompt without --verbalizer",
            "a word for each label",
            "add them, such as --verbalizer NEGATIVE=bad --verbalizer POSITIVE=good",
        )
    return Wording(template, ())


def _pairs(verbalizers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = tuple((label, word) for label, _, word in (item.partition("=") for item in verbalizers))
    for item, (label, word) in zip(verbalizers, pairs, strict=True):
        if not label or not word:
            raise UsageError(f"--verbalizer {item!r}", "LABEL=WORD", "name a label and a word")
    labels = [label for label, _ in pairs]
    if len(set(labels)) < max(2, len(labels)):
        raise UsageError(
            f"--verbalizer for {', '.join(labels)}", "two labels or more, each once", "one word stands for a label"
        )
    return pairs


def _rendered(tokenizer: Any, kind: str, template: str) -> tuple[str, str]:
    """What stands before and after a text, with all that the model's tokenizer puts around it."""
    if kind == "chat":
        try:
            whole = tokenizer.apply_chat_template(
                [{"role": "user", "content": template}], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # the template is a program, and raises what it likes
            raise ModelError(
                f"the chat template of the model cannot be applied ({type(error).__name__})",
                "one that takes a user's message",
                "choose another model",
            ) from error
    else:
        first, last = _special_tokens(tokenizer)
        # A decoder goes on writing: what would end the text does not belong there.
        whole = first + template + (last if kind == "text-to-text" else "")
    before, place, after = whole.partition(PLACE)
    if not place or PLACE in after:
        raise ModelError(
            "the chat template of the model changes the prompt", "one that keeps it", "choose another model"
        )
    return before, after


def _special_tokens(tokenizer: Any) -> tuple[str, str]:
    """What the tokenizer puts before and after a text, as text."""
    bare = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    whole = tokenizer(_PROBE)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            around = (whole[:start], whole[start + len(bare) :])
            first, last = ("".join(tokenizer.convert_ids_to_tokens(ids)) for ids in around)
            return first, last
    raise ModelError("the tokenizer has no template around a text", "one that adds to its ends", "choose another model")


def prompt_ids(tokenizer: Any, prompt: Prompt) -> PromptIds:
    """``prompt`` as ids, in pieces that join as the tokenizer would join them in a whole, where it can be had."""
    before, blanks = _split_before(tokenizer, prompt.before)
    if prompt.task == "text-to-text":  # the answer begins anew, in the decoder
        asked, words = prompt.after, [_ids(tokenizer, word) for word in prompt.words]
    else:  # blanks at the end of the question go with the answer
        asked = prompt.after.rstrip(" ")
        words = [_follows(tokenizer, _PROBE + asked, prompt.after[len(asked) :] + word) for word in prompt.words]
    after = _follows(tokenizer, _PROBE, asked)
    content_free = [before + _ids(tokenizer, blanks + text) + after for text in CONTENT_FREE if text or after]
    return PromptIds(before, blanks, after, tuple(words), tuple(content_free) if prompt.is_calibrated else ())


def _split_before(tokenizer: Any, before: str) -> tuple[list[int], str]:
    """Ids before a text, and the blanks that go with the text instead, as most tokenizers do it."""
    stripped = before.rstrip(" ")
    ids, spaces = _ids(tokenizer, stripped), before[len(stripped) :]
    whole = _ids(tokenizer, before + _PROBE)
    # Some put a blank before a text by themselves.
    for blanks in dict.fromkeys((spaces, spaces[:-1])):
        if ids + _ids(tokenizer, blanks + _PROBE) == whole:
            return ids, blanks
    return ids, spaces


def _follows(tokenizer: Any, before: str, piece: str) -> list[int]:
    """Ids of ``piece`` where it follows ``before``; of ``piece`` alone where the two do not come apart."""
    ids, whole = _ids(tokenizer, before), _ids(tokenizer, before + piece)
    return whole[len(ids) :] if whole[: len(ids)] == ids else _ids(tokenizer, piece)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids


def _require_answerable(prompt: Prompt, ids: PromptIds, unknown_id: int | None) -> None:
    """Words of tokens that the model knows, none of which is how another one begins.

    Such a word would always be the likelier of the two, whatever the text says.
    """
    named = list(zip(prompt.words, ids.words, strict=True))
    for word, tokens in named:
        if not tokens:
            raise UsageError(f"the word {word!r} has no token of this model", "a word that it knows", "choose another")
        if unknown_id in tokens:
            raise UsageError(
                f"the word {word!r} is not in this model's vocabulary",
                "words that it can write",
                "choose others with --verbalizer, or a model of that language",
            )
    for (word, tokens), (other, others) in permutations(named, 2):
        if others[: len(tokens)] == tokens:
            raise UsageError(
                f"the word {other!r} begins as {word!r} does in this model's tokens",
                "words that differ before the shorter one ends",
                "choose others with --verbalizer",
            )
