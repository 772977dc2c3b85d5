"""Which tokens must be predicted, and where, for the likelihood of every label's word: as few passes as there can be.

The log-likelihood of a word is the sum of those of its tokens, each given the text and the word's tokens before it.
Words that begin alike share what they begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import torch

from batchsent.models.torch_classifier import Pass, batch_of


class WordTree:
    """The words of all labels, folded into branches: what must be read to predict every token of them."""

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        """``words``: the ids of each label's word. No word is the beginning of another."""
        beginnings = {tuple(word[:-1]) for word in words}
        self.branches = sorted(b for b in beginnings if not any(b != o and o[: len(b)] == b for o in beginnings))
        """What has to be read, as ids: every word but for its last token is how one of them begins."""
        starts = [0, *accumulate(map(len, self.branches))]
        # Of each token of all words: its id, its label, and where it is predicted.
        self._ids, self._labels = list(chain.from_iterable(words)), [n for n, word in enumerate(words) for _ in word]
        self._rows, self._offsets, self._places = list[int](), list[int](), list[int]()
        for word in words:
            row = next(n for n, branch in enumerate(self.branches) if branch[: len(word) - 1] == tuple(word[:-1]))
            self._rows += [row] * len(word)
            self._offsets += range(len(word))
            self._places += [0, *range(starts[row] + 1, starts[row] + len(word))]
        self._label_count = len(words)

    @property
    def length(self) -> int:
        """Tokens of all branches."""
        return sum(map(len, self.branches))

    def from_row(self, logits: torch.Tensor) -> torch.Tensor:
        """[windows, 1 + length, vocabulary], predicted at the root and behind each token of the branches, one branch
        after the other → log-likelihoods [windows, labels]."""
        places, ids = _tensors(logits.device, self._places, self._ids)
        return self._summed(_log_probabilities(logits)[:, places, ids])

    def from_branches(self, logits: torch.Tensor) -> torch.Tensor:
        """[windows, branches, longest + 1, vocabulary], predicted at the root and behind each token of its branch
        → log-likelihoods [windows, labels]."""
        rows, offsets, ids = _tensors(logits.device, self._rows, self._offsets, self._ids)
        return self._summed(_log_probabilities(logits)[:, rows, offsets, ids])

    def _summed(self, of_tokens: torch.Tensor) -> torch.Tensor:
        """[windows, tokens of all words] → [windows, labels]"""
        [labels] = _tensors(of_tokens.device, self._labels)
        return of_tokens.new_zeros(len(of_tokens), self._label_count).index_add_(1, labels, of_tokens)


def without_bias(compute: Pass, content_free: Sequence[Sequence[int]]) -> Pass:
    """``compute`` less what the model says of texts that say nothing: contextual calibration (Zhao et al. 2021).

    A label's probability is divided by its mean over ``content_free`` rows of ids; the softmax that follows makes them
    probabilities again.
    """
    bias = torch.softmax(compute(batch_of(content_free)), dim=-1).mean(0).log()
    return lambda batch: compute(batch) - bias


def _tensors(device: torch.device, *lists: list[int]) -> list[torch.Tensor]:
    return [torch.tensor(values, device=device) for values in lists]


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), dim=-1)
