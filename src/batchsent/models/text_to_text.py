"""T5 and its like as classifiers: how likely each label's word is to be the answer.

The encoder reads a window once. The decoder is given every word (teacher forcing) instead of writing one, so nothing
has to be parsed and every label gets a probability.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from batchsent.models.likelihoods import WordTree, without_bias
from batchsent.models.pretrained import load_pretrained
from batchsent.models.prompts import PromptIds
from batchsent.models.torch_classifier import Pass, padded
from batchsent.records import TokenBatch


def load(directory: Path, dtype: torch.dtype) -> Any:
    """The library's own model. Raises ModelError."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    return load_pretrained(
        directory,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        dtype,
        expected="a model that writes text",
        remedy="choose another one",
    )


def likelihoods(model: Any, prompt: PromptIds) -> Pass:
    """The pass of a loaded model over windows with ``prompt`` around them: log-likelihoods of the labels' words."""
    words, config = WordTree(prompt.words), model.config
    branch_count = len(words.branches)
    length = max(map(len, words.branches))
    # What stands behind a shorter branch is predicted for nobody.
    decoded = torch.full((branch_count, 1 + length), config.pad_token_id or 0, device=model.device)
    decoded[:, 0] = config.decoder_start_token_id
    for row, branch in zip(decoded, words.branches, strict=True):
        row[1 : 1 + len(branch)] = torch.tensor(branch)

    def compute(batch: TokenBatch) -> torch.Tensor:
        ids, mask = padded(batch, config.pad_token_id or 0, model.device)
        states = model.get_encoder()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states.repeat_interleave(branch_count, 0)),
            attention_mask=mask.long().repeat_interleave(branch_count, 0),
            decoder_input_ids=decoded.repeat(len(ids), 1),
            decoder_attention_mask=torch.ones_like(decoded).repeat(len(ids), 1),
            use_cache=False,
        ).logits
        return words.from_branches(logits.unflatten(0, (len(ids), branch_count)))

    return without_bias(compute, prompt.content_free) if prompt.content_free else compute
