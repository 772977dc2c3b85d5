"""Whether batches are padded or packed, and passes compiled: what was asked for, what can be had, whether both agree.

Knows the rules and the check. How a pass is packed is in models/packed.py, how batches are cut in stages/batcher.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchsent.errors import CompilationError, UsageError
from batchsent.options import AUTO

if TYPE_CHECKING:
    from batchsent.identity import Identity
    from batchsent.records import TokenBatch

log = logging.getLogger(__name__)

TOLERANCES = {"fp16": 5e-3, "fp16-weights": 5e-3, "bf16": 3e-2}
"""The precisions that variable-length attention has on CUDA, and by how much a probability may differ from padded."""
CHECKED_TEXTS = 32
COMPILED_FROM_BYTES = 4 * 1024**3
"""Of input: from about here on compiled passes save more time than compiling them costs, which is done twice."""


class Obstacle(NamedTuple):
    """Why batches cannot be packed."""

    found: str
    """'… cannot be packed with' this."""
    expected: str


def choose_batching(asked: str, directory: Path, *, precision: str, device: str, max_length: int) -> str:
    """'padded' or 'packed' for ``--batching``, on the first use of DIR.

    ``auto`` packs on CUDA alone, and only if random texts get the same probabilities both ways. Raises UsageError
    if packed batches were asked for by name and cannot be had.
    """
    if asked == "padded" or (asked == AUTO and device == "cpu"):
        return "padded"
    obstacle = _obstacle(directory, precision, device)
    if obstacle and asked == "packed":
        raise UsageError(
            f"--batching packed with {obstacle.found}", obstacle.expected, "leave it out, or pass --batching padded"
        )
    if obstacle:
        log.info("batches are padded: they cannot be packed with %s", obstacle.found)
        return "padded"
    if asked == AUTO and (difference := _disagreement(directory, precision, device, max_length)):
        log.warning("batches are padded: packed, %s", difference)
        return "padded"
    return "packed"


def require_batching(batching: str, directory: Path, *, precision: str, device: str) -> None:
    """Raise UsageError if DIR was begun with packed batches, and they cannot be had on ``device``."""
    obstacle = _obstacle(directory, precision, device) if batching == "packed" else None
    if obstacle:
        raise UsageError(
            f"DIR was begun with packed batches, which cannot be had with {obstacle.found}",
            obstacle.expected,
            "go on where it was begun, or pass --batching padded --restart to discard what is there",
        )


def choose_compiled(identity: Identity, directory: Path, device: str, input_bytes: int) -> bool:
    """Whether torch.compile makes the passes, on the first use of DIR: packed ones on CUDA, where there is much to do.

    Not if random texts get other probabilities than in padded passes that are not compiled.
    """
    if identity.batching != "packed" or device == "cpu" or input_bytes < COMPILED_FROM_BYTES:
        return False
    difference = _disagreement(
        directory, identity.precision, device, identity.max_length, compiled_tokens=identity.batch_tokens
    )
    if difference:
        log.warning("passes are not compiled: compiled, %s", difference)
    return not difference


def _obstacle(directory: Path, precision: str, device: str) -> Obstacle | None:
    from transformers import AutoConfig

    from batchsent.models.packed import PACKABLE_TYPES, can_pack

    reason = can_pack(AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False))
    if reason:
        return Obstacle(reason, f"an encoder as it is usual ({', '.join(PACKABLE_TYPES)})")
    return None if device == "cpu" else _obstacle_on_cuda(precision, device)


def _obstacle_on_cuda(precision: str, device: str) -> Obstacle | None:
    import torch

    if precision not in TOLERANCES:
        return Obstacle(f"precision {precision} on CUDA", " or ".join(TOLERANCES))
    # ROCm's variable-length attention does not promise that a text's result depends on that text alone.
    if torch.version.hip or not torch.backends.cuda.is_flash_attention_available():
        return Obstacle(f"torch {torch.__version__}", "a build for CUDA with variable-length attention")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return Obstacle(torch.cuda.get_device_name(device), "a GPU of compute capability 8.0 or later")
    return None


def _disagreement(
    directory: Path, precision: str, device: str, max_length: int, *, compiled_tokens: int | None = None
) -> str | None:
    """What is wrong with packed batches where nothing is known to be in their way; None if they agree with padded."""
    try:
        difference = largest_difference(
            directory, precision=precision, device=device, max_length=max_length, compiled_tokens=compiled_tokens
        )
    except (RuntimeError, TypeError, AttributeError, CompilationError) as error:
        # A kernel that is not there, too little memory, a library whose models take other arguments: padded may do.
        return f"they fail in a check with random texts ({str(error).partition(chr(10))[0]})"
    tolerance = TOLERANCES[precision]
    if difference <= tolerance:  # it may be no number
        return None
    return f"probabilities differ by up to {difference:.2g} in a check with random texts, over {tolerance:g}"


def largest_difference(
    directory: Path, *, precision: str, device: str, max_length: int, compiled_tokens: int | None = None
) -> float:
    """Between the probabilities of :data:`CHECKED_TEXTS` random texts, packed and padded. Raises ModelError.

    With ``compiled_tokens``, packed passes of that capacity are compiled.
    """
    import numpy as np
    import torch

    from batchsent.machine import available_cores
    from batchsent.models.sequence_classification import SequenceClassifier, describe

    texts, multi_label = _random_texts(directory, max_length), describe(directory).multi_label
    if compiled_tokens is not None:
        fitting = int(np.searchsorted(texts.lengths.cumsum(), compiled_tokens, side="right"))
        texts = replace(texts.between(0, max(1, fitting)), capacity=compiled_tokens)
    probabilities = []
    for packed_length in (max_length, None):
        # One after the other: both may not fit.
        model = SequenceClassifier(
            directory,
            precision=precision,
            device=device,
            threads=available_cores(),
            packed_length=packed_length,
            is_compiled=compiled_tokens is not None,
        )
        logits = torch.from_numpy(model.start(texts)())
        probabilities.append(logits.sigmoid() if multi_label else logits.softmax(-1))
        del model
        if device != "cpu":
            torch.cuda.empty_cache()
    return float((probabilities[0] - probabilities[1]).abs().max())


def _random_texts(directory: Path, max_length: int) -> TokenBatch:
    """The same for the same vocabulary: of every length up to ``max_length``, in a row that they do not fill."""
    import numpy as np
    from transformers import AutoConfig

    from batchsent.records import TokenBatch

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    lengths = np.linspace(max_length, min(3, max_length), CHECKED_TEXTS).astype(np.int64)
    count = int(lengths.sum())
    ids = np.random.default_rng(0).integers(0, config.vocab_size, count, dtype=np.int32)
    return TokenBatch(ids, lengths, np.arange(CHECKED_TEXTS), capacity=count + count // 8)
