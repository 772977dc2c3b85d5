"""The three families of models, and what a model of each answers: which labels, of how many tokens.

'sequence-classification' is any encoder or decoder with a classification head; 'text-to-text' (T5) and 'causal' (GPT)
are models that write text, asked by a prompt. Loads no weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchsent.errors import ModelError, UsageError
from batchsent.models import prompts
from batchsent.models.pretrained import max_length, read_config
from batchsent.models.prompts import Prompt
from batchsent.models.sequence_classification import describe
from batchsent.options import AUTO

CLASSIFICATION, TEXT_TO_TEXT, CAUSAL = "sequence-classification", "text-to-text", "causal"

_ENDINGS = {
    "ForSequenceClassification": CLASSIFICATION,
    "ForConditionalGeneration": TEXT_TO_TEXT,
    "ForCausalLM": CAUSAL,
    "LMHeadModel": CAUSAL,
}
"""How the library's architectures are called, by what they do."""


@dataclass(frozen=True)
class Answers:
    """What a model answers when it is asked of a text."""

    task: str
    labels: tuple[str, ...]
    """In the order of its logits."""
    multi_label: bool
    max_length: int
    """Tokens of a window at most: with its prompt, and room for the answer."""
    has_label_names: bool
    """False where the labels are only LABEL_0, LABEL_1, …"""
    prompt: Prompt | None
    """None where a classification head answers."""


def task_of(directory: Path, asked: str = AUTO) -> str:
    """The task of the model in ``directory``: what was ``asked`` for by name, or what its config.json says.

    Raises ModelError if the model cannot do it.
    """
    config = read_config(directory)
    if asked == AUTO:
        architecture = (getattr(config, "architectures", None) or [""])[0]
        task = next((task for ending, task in _ENDINGS.items() if architecture.endswith(ending)), CLASSIFICATION)
    else:
        task = asked
    obstacle = _obstacle(config, task)
    if obstacle:
        raise ModelError(
            f"{directory.name} is a {config.model_type} model, asked for {task}",
            obstacle,
            "choose another --task or model",
        )
    return task


def _obstacle(config: Any, task: str) -> str | None:
    from transformers.models.auto import modeling_auto

    if task == TEXT_TO_TEXT and type(config) not in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "an encoder and decoder that write text, such as T5"
    if task == CAUSAL and (
        type(config) not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING or getattr(config, "is_encoder_decoder", False)
    ):
        return "a decoder that writes text, such as GPT-2"
    return None


def answers_of(
    directory: Path,
    *,
    task: str = AUTO,
    prompt: str | None = None,
    verbalizer: tuple[str, ...] = (),
    calibrate_prompt: bool = False,
) -> Answers:
    """What the model in ``directory`` answers. Raises ModelError, or UsageError if it takes no such prompt."""
    task = task_of(directory, task)
    if task == CLASSIFICATION:
        given = {"--prompt": prompt, "--verbalizer": verbalizer, "--calibrate-prompt": calibrate_prompt}
        if named := [name for name, value in given.items() if value]:
            raise UsageError(
                f"{' and '.join(named)} for {directory.name}, which has a classification head",
                "a model that is asked by a prompt",
                "leave it out, or choose a --task",
            )
        found = describe(directory)
        return Answers(task, found.labels, found.multi_label, found.max_length, found.has_label_names, None)
    settled = prompts.settle(directory, task, prompt, verbalizer, is_calibrated=calibrate_prompt)
    config = read_config(directory)
    limit = max_length(directory, config)
    if task == CAUSAL:
        # Its layers may see no further back than that: a mask of ours would have to know which of them.
        limit = min(limit, getattr(config, "sliding_window", None) or limit)
        limit -= prompts.answer_length(directory, settled)
    return Answers(task, settled.labels, False, limit, True, settled)
