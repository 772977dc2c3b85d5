"""The work of a tokenizer process: review column in, batches out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsent.identity import Identity
from batchsent.models.loading import prompt_of
from batchsent.models.resolution import require_unchanged
from batchsent.records import EncodedPart

if TYPE_CHECKING:
    from batchsent.stages.encoder import Encoder


def make_encoder(directory: Path, identity: Identity) -> Encoder:
    """The tokenizer alone. Raises ModelError as :func:`make_encode`."""
    from batchsent.stages.encoder import Encoder

    encoder = Encoder(
        directory, identity.max_length, prompt=prompt_of(identity), window_overlap=identity.window_overlap
    )
    # A process may make its tokenizer long after the model was loaded and checked.
    files = {name: sha256 for name, sha256 in identity.model_files.items() if not name.endswith(".safetensors")}
    require_unchanged(directory, files)
    return encoder


def make_encode(directory: Path, identity: Identity) -> Callable[[Any], EncodedPart]:
    """Load the tokenizer of the model in ``directory``; what is returned encodes and batches a column of texts.

    Raises ModelError if the tokenizer is not the one that was recorded.
    """
    from batchsent.stages.batcher import batch_part

    encoder = make_encoder(directory, identity)

    def encode(text: Any) -> EncodedPart:
        return batch_part(
            encoder.encode(text),
            batch_tokens=identity.batch_tokens,
            special_token_count=encoder.special_token_count,
            batching=identity.batching,
        )

    return encode
