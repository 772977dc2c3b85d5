"""What torch's autocast would do again in every pass, done once: the same bits with less to copy.

Under autocast a linear layer casts its weights whenever it is called, and the three projections of an attention each
cast the hidden states that all of them are given. What is cast ahead, autocast takes as it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from batchsent.models.last_layer import layers_of, sharing_weights


def cast_ahead(model: Any, dtype: torch.dtype) -> Any:
    """A view of ``model`` that gives the same bits under autocast to ``dtype``; ``model`` itself if it is another type.

    The linear layers of the view hold weights in ``dtype``, beside those of ``model``. It is for the types of
    :func:`layers_of`: their attention hands what it is given to its projections alone. That of ALBERT adds it to what
    comes out.
    """
    if layers_of(model) is None:
        return model
    view = sharing_weights(model)
    for module in view.modules():
        if isinstance(module, torch.nn.Linear):
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(parameter.to(dtype), requires_grad=False))
    for layer in layers_of(view):
        attention = layer.attention if model.config.model_type == "distilbert" else layer.attention.self
        attention.register_forward_pre_hook(partial(_cast_states, dtype), with_kwargs=True)
    return view


def _cast_states(
    dtype: torch.dtype, _attention: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The hidden states, which are the first argument or have a name, in ``dtype``.

    Where a release of the library names them otherwise, they are left to autocast.
    """
    if arguments:
        return (arguments[0].to(dtype), *arguments[1:]), named
    return arguments, {name: value.to(dtype) if name == "hidden_states" else value for name, value in named.items()}
