"""GPT and its like as classifiers: how likely each label's word is to be written next.

What stands before the text is the same for all, so its keys and values are computed once. Behind a text stand the
labels' words (teacher forcing), each of which sees the text and itself alone, so one pass predicts all of their tokens.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from batchsent.models.likelihoods import WordTree, without_bias
from batchsent.models.pretrained import load_pretrained
from batchsent.models.prompts import PromptIds
from batchsent.models.torch_classifier import Pass, padded
from batchsent.records import TokenBatch


def load(directory: Path, dtype: torch.dtype) -> Any:
    """The library's own model. Raises ModelError."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    return load_pretrained(
        directory,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        dtype,
        expected="a model that writes text",
        remedy="choose another one",
    )


def likelihoods(model: Any, prompt: PromptIds) -> Pass:
    """The pass of a loaded model over windows with ``prompt`` around them: log-likelihoods of the labels' words."""
    compute = _Likelihoods(model, prompt)
    return without_bias(compute, prompt.content_free) if prompt.content_free else compute


class _Likelihoods:
    """The pass of a loaded decoder."""

    def __init__(self, model: Any, prompt: PromptIds) -> None:
        self._model, self._device = model, model.device
        self._words = WordTree(prompt.words)
        self._shared_count = len(prompt.before)
        self._shared = self._keys_and_values(prompt.before)
        # Of what stands behind a text: the ids, which branch each belongs to (0 is the text), and its place therein.
        branches = self._words.branches
        self._appended = np.array([i for branch in branches for i in branch], np.int32)
        lengths = [len(branch) for branch in branches]
        self._branch = torch.tensor(np.repeat(np.arange(1, len(branches) + 1), lengths), device=self._device)
        self._offset = torch.tensor([n for length in lengths for n in range(length)], dtype=torch.long).to(self._device)

    def __call__(self, batch: TokenBatch) -> torch.Tensor:
        """Log-likelihoods [windows, labels]."""
        model, shared_count = self._model, self._shared_count
        ids, mask = padded(self._rows(batch), model.config.pad_token_id or 0, self._device)
        text_lengths = torch.from_numpy(batch.lengths - shared_count).to(self._device, non_blocking=True)
        columns = torch.arange(ids.shape[1], device=self._device)
        places = columns - text_lengths[:, None]  # from 0 on, behind the text, those of the words' tokens
        position_ids = shared_count + columns.expand_as(ids)
        branches = torch.zeros_like(ids)
        if len(self._appended):
            is_appended, index = (places >= 0) & mask, places.clamp(0, len(self._appended) - 1)
            branches = torch.where(is_appended, self._branch[index], 0)
            # Every branch goes on from the end of the text.
            ends = shared_count + text_lengths[:, None]
            position_ids = torch.where(is_appended, ends + self._offset[index], position_ids)
        wanted = (text_lengths[:, None] - 1) + torch.arange(1 + len(self._appended), device=self._device)
        with model.base_model.register_forward_hook(partial(_keep, wanted)):
            logits = model(
                input_ids=ids,
                attention_mask=self._attention_mask(mask, branches),
                position_ids=position_ids.masked_fill(~mask, 0),  # the model may have none for what is filled up
                past_key_values=self._cache(len(ids)),
                use_cache=True,
            ).logits
        return self._words.from_row(logits)

    def _rows(self, batch: TokenBatch) -> TokenBatch:
        """What is to be read of each window: without what all share, and the words behind it."""
        ends = np.cumsum(batch.lengths)
        texts = [
            np.concatenate([batch.token_ids[end - length + self._shared_count : end], self._appended])
            for end, length in zip(ends, batch.lengths, strict=True)
        ]
        lengths = batch.lengths - self._shared_count + len(self._appended)
        return TokenBatch(np.concatenate(texts), lengths, batch.window_indices)

    def _attention_mask(self, mask: torch.Tensor, branches: torch.Tensor) -> torch.Tensor:
        """What a token sees: everything before it, but of the words only its own."""
        shared = mask.new_ones(len(mask), self._shared_count)
        if not len(self._appended):
            return torch.cat([shared, mask], 1).long()
        length = mask.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=self._device).tril()
        of_the_same = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
        seen = torch.cat([shared[:, None, :].expand(-1, length, -1), earlier & of_the_same], 2)
        dtype = self._model.dtype
        # The library hands a mask of four dimensions on as it is; added to the scores, it suits each of its kernels.
        added = torch.zeros(seen.shape, dtype=dtype, device=self._device)
        return added.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]

    def _keys_and_values(self, ids: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[1, heads, tokens, head size] of each layer, for what stands before every text."""
        if not ids:
            return []
        row = torch.tensor([ids], device=self._device)
        found = self._model(input_ids=row, use_cache=True, logits_to_keep=1).past_key_values
        return [(layer.keys, layer.values) for layer in found.layers]

    def _cache(self, row_count: int) -> Any:
        from transformers import DynamicCache

        return DynamicCache(
            [
                (keys.expand(row_count, -1, -1, -1), values.expand(row_count, -1, -1, -1))
                for keys, values in self._shared
            ]
            or None
        )


def _keep(wanted: torch.Tensor, _module: Any, _inputs: Any, output: Any) -> None:
    """Leave of a decoder's output [windows, tokens, hidden] what is predicted from: [windows, wanted, hidden]."""
    states = output.last_hidden_state
    output.last_hidden_state = states.gather(1, wanted[:, :, None].expand(-1, -1, states.shape[-1]))
