"""What the tests of training share: a tiny base model without a head, and texts that tell their label."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchsent.stop import StopSignal
from batchsent.training.recipe import FinetuneConfig
from batchsent.training.run import Finished, finetune
from support import make_tokenizer

GOOD, BAD = ("good", "great", "love", "works"), ("bad", "awful", "hate", "broke")
_FILLER = ("the", "a", "it", "is", "was", "kettle", "film", "shoes", "coffee", "hotel", "day", "week", "box", "red")

Train = Callable[..., Finished]

CROPPED: dict[str, Any] = {"evaluations_per_epoch": 2, "random_crop": True, "max_length": 12}


def labelled(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """``count`` different texts of 6 to 15 words, three of which tell the label."""
    chooser = random.Random(seed)
    texts: dict[str, str] = {}
    while len(texts) < count:
        label = chooser.choice(["NEGATIVE", "POSITIVE"])
        words = chooser.choices(_FILLER, k=chooser.randint(3, 12))
        for _ in range(3):
            words.insert(chooser.randrange(len(words) + 1), chooser.choice(GOOD if label == "POSITIVE" else BAD))
        texts[" ".join(words)] = label
    return list(texts), list(texts.values())


def make_base(directory: Path, **settings: Any) -> Path:
    """A random BERT without a head, of a few thousand parameters."""
    import torch
    from transformers import BertConfig, BertModel

    make_tokenizer(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.1,
        **settings,
    )
    BertModel(config).save_pretrained(directory)
    return directory


def trainer_of(base: Path, given: Path, into: Path) -> Train:
    """``finetune`` with ``base``, fp32 and one thread, from ``given`` into a directory, unless told otherwise."""

    def run(*inputs: Path, output: Path = into, stop: StopSignal | None = None, **options: Any) -> Finished:
        defaults: dict[str, Any] = {"label_column": "label", "base_model": str(base), "device": "cpu", "threads": 1}
        defaults |= {"precision": "fp32", "max_length": 32, "progress": "none", "evaluations_per_epoch": 1}
        defaults |= {"learning_rate": (3e-3,), "batch_size": (8,), "epochs": 3, "validation_share": 0.2}
        names = tuple(map(str, inputs or (given,)))
        return finetune(FinetuneConfig(inputs=names, output=str(output), **(defaults | options)), stop=stop)

    return run
