"""The last layer of a stock encoder, computed for the tokens alone that a classification head reads.

Every head here reads the first token of a text and no other. In the last layer the others are keys and values and
nothing else, so their queries, what they attend to and their feed-forward network are left out: five sixths of the
layer's matrix products, and so a seventh of all of a model with six layers. What remains is what the library computes,
by its own modules; only the shapes of matrices change, and with them last digits.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch

log = logging.getLogger(__name__)

Select = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states [rows, tokens, hidden] → those of the first token of each text, [rows, texts of a row, hidden]."""
Arguments = Callable[[dict[str, Any]], dict[str, Any]]
"""What the layers' attention is passed beside states and mask → the same where the first tokens alone are queries."""

_PROBE = ((2, 3, 4, 5, 6, 7, 8, 9), (9, 8, 7, 6, 5))
"""Two texts of token ids, the second of them padded."""
_TOLERANCES = {torch.float32: 1e-3}
"""Of the logits of the probe, relative to the largest. Another computation would be off by far more."""
_HALF_TOLERANCE = 5e-2


def sharing_weights(model: Any) -> Any:
    """A copy of ``model`` whose modules may be changed, with the same tensors as weights."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def narrow(model: Any, select: Select, arguments: Arguments = dict) -> bool:
    """Have the last layer of ``model`` compute what its head reads; False, and nothing is changed, if it cannot.

    Its encoder then gives hidden states [rows, texts of a row, hidden].
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = model.config
    kind = _LAYERS.get(config.model_type)
    attend = ALL_ATTENTION_FUNCTIONS.get(config._attn_implementation)
    is_decoder, is_chunked = getattr(config, "is_decoder", False), getattr(config, "chunk_size_feed_forward", 0)
    if kind is None or attend is None or is_decoder or is_chunked:
        return False
    base = model.base_model
    layers = base.transformer.layer if config.model_type == "distilbert" else base.encoder.layer
    layers[-1] = kind(layers[-1], attend, select, arguments)
    return True


def narrowed(model: Any) -> Any:
    """A view of ``model`` that gives its logits of padded rows with less to compute; ``model`` itself if none does.

    It is tried on two texts first: a release of the library whose layers compute something else is taken as it is.
    """
    view = sharing_weights(model)
    if not narrow(view, _first_of_each_row):
        return model
    ids = torch.zeros((2, len(_PROBE[0])), dtype=torch.int64, device=model.device)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(_PROBE):
        ids[row, : len(text)] = torch.tensor(text, device=model.device) % model.config.vocab_size
        mask[row, : len(text)] = 1
    expected, found = (each(input_ids=ids, attention_mask=mask).logits.float() for each in (model, view))
    largest = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max())
    if difference <= _TOLERANCES.get(model.dtype, _HALF_TOLERANCE) * largest:  # it may be no number
        return view
    log.warning(
        "the last layer is computed as a whole: for first tokens alone, logits differ by %.2g in a check", difference
    )
    return model


def _first_of_each_row(states: torch.Tensor) -> torch.Tensor:
    return states[:, :1]


class _NarrowLayer(torch.nn.Module):
    """Takes the place of a layer, whose modules it uses."""

    def __init__(self, layer: Any, attend: Callable[..., Any], select: Select, arguments: Arguments) -> None:
        """``attend`` is the model's function of the library's attention interface."""
        super().__init__()
        self._layer, self._attend, self._select, self._arguments = layer, attend, select, arguments

    def _attended(
        self,
        attention: Any,
        projections: tuple[Any, Any, Any],
        states: torch.Tensor,
        first: torch.Tensor,
        mask: torch.Tensor | None,
        others: dict[str, Any],
    ) -> torch.Tensor:
        """What the first tokens take from all tokens, [rows, texts of a row, hidden].

        ``attention`` is the library's module, ``projections`` are its queries', keys' and values'; ``mask`` is
        [rows, 1, tokens or 1, tokens].
        """
        query, key, value = (
            project(given).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
            for project, given in zip(projections, (first, states, states), strict=True)
        )
        attended: torch.Tensor = self._attend(
            attention,
            query,
            key,
            value,
            mask if mask is None else mask[:, :, :1],
            dropout=0.0,
            scaling=attention.scaling,
            **self._arguments(others),
        )[0]
        return attended.flatten(2)


class _NarrowBertLayer(_NarrowLayer):
    """BERT's, and that of the models that are built as it is."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_decoders: None, **others: Any
    ) -> torch.Tensor:
        block = self._layer.attention
        first = self._select(hidden_states)
        projections = (block.self.query, block.self.key, block.self.value)
        attended = self._attended(block.self, projections, hidden_states, first, attention_mask, others)
        states: torch.Tensor = self._layer.feed_forward_chunk(block.output(attended, first))
        return states


class _NarrowDistilBertLayer(_NarrowLayer):
    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **others: Any
    ) -> torch.Tensor:
        layer, block = self._layer, self._layer.attention
        first = self._select(hidden_states)
        projections = (block.q_lin, block.k_lin, block.v_lin)
        attended = self._attended(block, projections, hidden_states, first, attention_mask, others)
        narrow = layer.sa_layer_norm(block.out_lin(attended) + first)
        states: torch.Tensor = layer.output_layer_norm(layer.ffn(narrow) + narrow)
        return states


_LAYERS = dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _NarrowBertLayer) | {
    "distilbert": _NarrowDistilBertLayer
}
"""Model types whose code was read and tested. Their heads read the first token. Not ALBERT, whose layers are one."""
