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
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

log = logging.getLogger(__name__)

Select = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states [rows, tokens, hidden] → those of the first token of each text, [rows, texts of a row, hidden]."""


class Projections(NamedTuple):
    """The linear layers of an attention, hidden to hidden."""

    query: torch.nn.Linear
    key: torch.nn.Linear
    value: torch.nn.Linear

    def of(self, first: torch.Tensor, states: torch.Tensor) -> tuple[Any, Any, Any]:
        """The queries of ``first``, and the keys and values of ``states``."""
        states = states.to(self.key.weight.dtype)  # once for both, where autocast would cast it twice
        return self.query(first), self.key(states), self.value(states)


Attend = Callable[
    [Any, Projections, torch.Tensor, torch.Tensor, torch.Tensor | None, dict[str, Any]],
    torch.Tensor,
]
"""(attention, projections, first, states, mask, others) → what first tokens take from all tokens of their texts.

``first`` and the answer are [rows, texts of a row, hidden], ``states`` [rows, tokens, hidden]; ``attention`` is the
library's module, ``mask`` [rows, 1, tokens or 1, tokens] is True where there is a token, and ``others`` is what the
model was called with besides.
"""

_PROBE = ((2, 3, 4, 5, 6, 7, 8, 9), (9, 8, 7, 6, 5))
"""Two texts of token ids, the second of them padded."""
_TOLERANCE = 2e-2
"""Of the logits of the probe, relative to the largest: the roundings of bf16, and less than another computation."""


def sharing_weights(model: Any) -> Any:
    """A copy of ``model`` whose modules may be changed, with the same tensors as weights."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())})


def narrow(model: Any, select: Select, attend: Attend) -> bool:
    """Have the last layer of ``model`` compute what its head reads; False, and nothing is changed, if it cannot.

    Its encoder then gives hidden states [rows, texts of a row, hidden].
    """
    layers = layers_of(model)
    if layers is None or getattr(model.config, "chunk_size_feed_forward", False):
        return False
    layers[-1] = _LAYERS[model.config.model_type](layers[-1], select, attend)
    return True


def layers_of(model: Any) -> Any:
    """The layers of an encoder whose code was read and tested; None for any other model."""
    model_type, base = model.config.model_type, model.base_model
    if model_type not in _LAYERS or getattr(model.config, "is_decoder", False):
        return None
    return base.transformer.layer if model_type == "distilbert" else base.encoder.layer


def narrowed(model: Any) -> Any:
    """A view of ``model`` that gives its logits of padded rows with less to compute; ``model`` itself if none does.

    It is tried on two texts first: a release of the library whose layers compute something else is taken as it is.
    """
    view = sharing_weights(model)
    if model.config._attn_implementation != "sdpa" or not narrow(view, _first_of_each_row, _attend):
        return model
    ids = torch.zeros((2, len(_PROBE[0])), dtype=torch.int64, device=model.device)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(_PROBE):
        ids[row, : len(text)] = torch.tensor(text, device=model.device) % model.config.vocab_size
        mask[row, : len(text)] = 1
    expected, found = (each(input_ids=ids, attention_mask=mask).logits.float() for each in (model, view))
    largest = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max())
    if difference <= _TOLERANCE * largest:  # it may be no number
        return view
    log.warning(
        "the last layer is computed as a whole: for first tokens alone, logits differ by %.2g in a check", difference
    )
    return model


def _first_of_each_row(states: torch.Tensor) -> torch.Tensor:
    return states[:, :1]


def _attend(
    attention: Any,
    projections: Projections,
    first: torch.Tensor,
    states: torch.Tensor,
    mask: torch.Tensor | None,
    _others: dict[str, Any],
) -> torch.Tensor:
    """One query a row, by torch's kernel, as the library has all of them."""
    query, key, value = (
        projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for projected in projections.of(first, states)
    )
    seen = mask if mask is None else mask[:, :, :1]
    attended = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=attention.scaling)
    return attended.transpose(1, 2).flatten(2)


class _NarrowLayer(torch.nn.Module):
    """Takes the place of a layer, whose modules it uses."""

    def __init__(self, layer: Any, select: Select, attend: Attend) -> None:
        super().__init__()
        self._layer, self._select, self._attend = layer, select, attend


class _NarrowBertLayer(_NarrowLayer):
    """BERT's, and that of the models that are built as it is."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_decoders: None, **others: Any
    ) -> torch.Tensor:
        block, attention = self._layer.attention, self._layer.attention.self
        first = self._select(hidden_states)
        projections = Projections(attention.query, attention.key, attention.value)
        attended = self._attend(attention, projections, first, hidden_states, attention_mask, others)
        states: torch.Tensor = self._layer.feed_forward_chunk(block.output(attended, first))
        return states


class _NarrowDistilBertLayer(_NarrowLayer):
    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **others: Any
    ) -> torch.Tensor:
        layer, attention = self._layer, self._layer.attention
        first = self._select(hidden_states)
        projections = Projections(attention.q_lin, attention.k_lin, attention.v_lin)
        attended = self._attend(attention, projections, first, hidden_states, attention_mask, others)
        narrow = layer.sa_layer_norm(attention.out_lin(attended) + first)
        states: torch.Tensor = layer.output_layer_norm(layer.ffn(narrow) + narrow)
        return states


_LAYERS = dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _NarrowBertLayer) | {
    "distilbert": _NarrowDistilBertLayer
}
"""Model types whose code was read and tested. Their heads read the first token. Not ALBERT, whose layers are one."""
