"""A stock encoder run packed: the texts of a batch in one row, one behind the other, without padding.

Every text attends to itself alone (variable-length attention), its positions begin anew, and the classification head
gets the first token of each, the only one that the last layer computes. The library's own modules do the rest. Passes
of one capacity have one shape, whatever their texts are, so the same kernels run in the same order and a text's logits
do not depend on its neighbours. A text is here what the model reads at once: a window.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention

from batchsent.errors import CompilationError
from batchsent.models.last_layer import Projections, narrow, sharing_weights
from batchsent.records import TokenBatch, packed_window_limit

PACKABLE_TYPES = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra", "albert")
"""Their attention takes a registered function and passes it every argument, and their heads read the first token.

Checked for each of them. Not ModernBERT (its attention has windows), MobileBERT (another result) and T5 (a bias
between any two positions of a row).
"""

_COUNTED_POSITIONS = ("roberta", "xlm-roberta", "camembert")
"""The position of a token is the number of tokens up to it that are not padding, above the padding's own."""

_ENCODER_BELOW_POOLER = ("bert", "albert")
"""Their pooler is part of the base model, and reads the first token already."""

_ATTENTION = "batchsent_packed"

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, int], torch.Tensor]
"""(query, key, value, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k) → what the queries take from values.

The first three and the answer are [tokens, heads, head size] each; the tokens of the queries may be fewer.
"""


def can_pack(config: Any) -> str | None:
    """What of a model with the transformers ``config`` cannot run packed, in a few words; None if it can."""
    if config.model_type not in PACKABLE_TYPES:
        return f"a model of type {config.model_type}"
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "a decoder"
    # Of checkpoints that older releases of the library have saved.
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        return f"positions of type {positions}"
    head_size = config.hidden_size // config.num_attention_heads
    if head_size % 8 or head_size > 256:
        return f"attention heads of size {head_size}"
    return None


class PackedModel:
    """A loaded classifier whose passes are packed: token batch in, logits out."""

    def __init__(self, model: Any, *, max_length: int, is_compiled: bool = False) -> None:
        """Compute with the weights of ``model``, which :func:`can_pack`. No text is over ``max_length``.

        ``is_compiled`` has torch.compile make the passes of the capacity that comes first; the first of them takes
        a while. Smaller ones, after memory ran out, are computed as they are.
        """
        from transformers import AttentionInterface

        model = sharing_weights(model)
        config = model.config
        self._model, self._max_length = model, max_length
        self._device: torch.device = model.device
        name = f"{_ATTENTION}_{self._device.type}"
        # Chosen here: what is compiled is to meet no choice.
        attend: Attend = _attend_text_by_text if self._device.type == "cpu" else partial(_attend, _kernel())
        AttentionInterface.register(name, partial(_attention, attend))
        model.set_attn_implementation(name)
        self._compiled = torch.compile(model, fullgraph=True, dynamic=False) if is_compiled else None
        self._compiled_capacity = 0
        self._padding_id = config.pad_token_id or 0
        self._counts_positions = config.model_type in _COUNTED_POSITIONS
        self._first_tokens = torch.empty(0, dtype=torch.int32)
        """[texts]: where each begins in the row of the pass that is being computed."""
        self._is_narrow = narrow(model, self._first_of_each_text, partial(_attend_once_a_text, attend))
        encoder = model.base_model.encoder if config.model_type in _ENCODER_BELOW_POOLER else model.base_model
        encoder.register_forward_hook(self._give_head_its_rows)

    def __call__(self, batch: TokenBatch) -> torch.Tensor:
        """Begin a pass: float32 logits [texts, labels] on the device. Raises torch.OutOfMemoryError.

        Raises RuntimeError if the model's head did not get the first token of each text, and CompilationError.
        """
        capacity = max(batch.capacity, len(batch.token_ids))
        text_limit = max(packed_window_limit(batch.capacity), len(batch.lengths))
        row = self._row(batch, capacity, text_limit).to(self._device, non_blocking=True)
        cu_seq_lens = row[2 * capacity :]
        # Blocks of threads for every text that there could be, most of them idle, would take time for nothing; a
        # text's own do not depend on how many others there are.
        attended = cu_seq_lens[: min(text_limit, _power_of_two(len(batch.lengths))) + 1]
        self._first_tokens = cu_seq_lens[:-1].clamp(max=capacity - 1)
        compute = self._model if self._compiled is None else self._compiled_for(batch.capacity, capacity, attended)
        try:
            logits: torch.Tensor = compute(
                input_ids=row[None, :capacity].long(),
                position_ids=row[None, capacity : 2 * capacity].long(),
                cu_seq_lens_q=attended,
                cu_seq_lens_k=attended,
                max_length_q=self._max_length,
                max_length_k=self._max_length,
            ).logits
        except torch._dynamo.exc.TorchDynamoException as error:
            raise CompilationError(
                f"torch.compile fails ({str(error).strip().partition(chr(10))[0][:200]})",
                "a machine on which it works, as where DIR was begun",
                "go on there, or pass --restart to discard what is there",
            ) from error
        if len(logits) != text_limit:  # assigned to all texts of the batch, too few would go unnoticed
            raise RuntimeError(f"{len(logits)} rows of logits for {text_limit} texts")
        return logits[: len(batch.lengths)].float()

    def _compiled_for(self, asked: int, capacity: int, attended: torch.Tensor) -> Any:
        """What computes a pass of ``capacity`` tokens, of which ``asked`` were to be filled."""
        self._compiled_capacity = self._compiled_capacity or asked
        if capacity != self._compiled_capacity:
            return self._model
        torch._dynamo.maybe_mark_dynamic(attended, 0)  # the one thing that differs from pass to pass
        return self._compiled

    def _first_of_each_text(self, states: torch.Tensor) -> torch.Tensor:
        """[1, tokens, hidden] → [1, texts, hidden]."""
        return states.index_select(1, self._first_tokens)

    def _give_head_its_rows(self, _module: Any, _inputs: Any, output: Any) -> None:
        """Turn an encoder's output into [texts, 1, hidden]: what every head reads of it."""
        states = output.last_hidden_state
        output.last_hidden_state = (states if self._is_narrow else self._first_of_each_text(states)).transpose(0, 1)

    def _row(self, batch: TokenBatch, capacity: int, text_limit: int) -> torch.Tensor:
        """int32 [2 * capacity + text_limit + 1] on the host: ids, positions, and where each text begins and ends.

        One piece of page-locked memory, so that one copy takes it to the device and nobody waits for it.
        """
        count = len(batch.token_ids)
        row = torch.empty(2 * capacity + text_limit + 1, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        ids, positions, cu_seq_lens = np.split(row.numpy(), [capacity, 2 * capacity])
        ids[:count], ids[count:] = batch.token_ids, self._padding_id
        positions[:count], positions[count:] = self._positions(batch), 0
        cu_seq_lens[0] = 0
        np.cumsum(batch.lengths, out=cu_seq_lens[1 : len(batch.lengths) + 1])
        cu_seq_lens[len(batch.lengths) + 1 :] = count  # no text, so no token: what is behind the last belongs to none
        return row

    def _positions(self, batch: TokenBatch) -> npt.NDArray[Any]:
        """[tokens]: the index into the position embeddings, as the model computes it of a text alone."""
        begins = np.repeat(np.cumsum(batch.lengths) - batch.lengths, batch.lengths)
        if not self._counts_positions:
            return np.arange(len(batch.token_ids)) - begins
        # A text may spell the padding token.
        is_token = batch.token_ids != self._padding_id
        counts = np.concatenate([[0], np.cumsum(is_token)])
        return np.where(is_token, counts[1:] - counts[begins], 0) + self._padding_id


def _power_of_two(count: int) -> int:
    """The smallest that is not below ``count``."""
    return 1 << (count - 1).bit_length()


def _attention(
    attend: Attend,
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: None,
    *,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    max_length_q: int,
    max_length_k: int,
    **_others: Any,
) -> tuple[torch.Tensor, None]:
    """The library's attention interface: [1, heads, tokens, head size] each, to [1, tokens, heads, head size].

    The scale is the kernel's own, one over the root of the head size, as it is in all of PACKABLE_TYPES.
    """
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return attend(query, key, value, cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)[None], None


def _attend_once_a_text(
    attend: Attend,
    attention: Any,
    projections: Projections,
    first: torch.Tensor,
    states: torch.Tensor,
    _mask: None,
    others: dict[str, Any],
) -> torch.Tensor:
    """Of the last layer: [1, texts, hidden] of first tokens, each the only query of its text, and the same back."""
    query, key, value = (
        projected[0].unflatten(-1, (-1, attention.attention_head_size)) for projected in projections.of(first, states)
    )
    begins = others["cu_seq_lens_k"]
    each = torch.arange(len(begins), dtype=begins.dtype, device=begins.device)
    return attend(query, key, value, each, begins, 1, others["max_length_k"]).flatten(1)[None]


def _attend(
    kernel: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *extents: Any,
) -> torch.Tensor:
    """By one ``kernel`` for all texts. What belongs to no text gets any value."""
    if query.dtype not in (torch.float16, torch.bfloat16):
        raise TypeError(f"variable-length attention takes float16 or bfloat16, not {query.dtype}")
    attended: torch.Tensor = kernel(query, key, value, *extents)
    return attended


def _kernel() -> Callable[..., torch.Tensor]:
    """torch's variable-length attention; of its arguments only the first seven are the same in every release."""
    from torch.nn.attention.varlen import varlen_attn

    kernel: Callable[..., Any] = varlen_attn
    # From 2.12 on keys may be split among blocks, and how depends on the batch, unless this is asked for.
    return partial(kernel, num_splits=1) if "num_splits" in inspect.signature(kernel).parameters else kernel


def _attend_text_by_text(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens_q: torch.Tensor,
    cu_seq_lens_k: torch.Tensor,
    *_max_lengths: int,
) -> torch.Tensor:
    """The same where there is no such kernel: on the CPU."""
    attended = torch.zeros_like(query)
    bounds = (pairwise(cu_seq_lens.tolist()) for cu_seq_lens in (cu_seq_lens_q, cu_seq_lens_k))
    for asked, (start, end) in zip(*bounds, strict=True):
        if start < end:
            queries = query[None, slice(*asked)].transpose(1, 2)
            keys, values = (tensor[None, start:end].transpose(1, 2) for tensor in (key, value))
            attended[slice(*asked)] = scaled_dot_product_attention(queries, keys, values)[0].transpose(0, 1)
    return attended
