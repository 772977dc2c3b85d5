"""What tests share: small models and small data, made here; no hub, no data from elsewhere."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from batchsent.records import TokenBatch

WORDS = [
    *("the", "a", "it", "is", "was", "very", "not", "good", "bad", "great", "awful", "fine", "kettle", "film"),
    *("shoes", "coffee", "hotel", "phone", "quiet", "loud", "broke", "works", "love", "hate", "never", "again"),
    *("would", "buy", "return", "money", "time", "day", "week", "box", "small", "large", "red", "blue"),
]


def make_tokenizer(directory: Path) -> None:
    """A WordPiece tokenizer over WORDS and single letters, so that nothing is unknown in them."""
    from transformers import BertTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(x for x in letters if x not in WORDS)]
    pieces += [f"##{letter}" for letter in letters] + [*"0123456789.,!?'\"-"]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizer(vocab=vocabulary, model_max_length=128).save_pretrained(directory)


def make_bert(directory: Path, *, labels: tuple[str, ...] = ("NEGATIVE", "POSITIVE"), **settings: Any) -> Path:
    """A random BERT classifier of a few thousand parameters with :func:`make_tokenizer`'s tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    make_tokenizer(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.6,  # so that texts differ in their probabilities
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **settings,
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    return directory


def batch_of(rows: list[list[int]], capacity: int = 0) -> TokenBatch:
    """A forward pass over these token ids."""
    lengths = np.array([len(row) for row in rows], np.int64)
    return TokenBatch(np.array([i for row in rows for i in row], np.int32), lengths, np.arange(len(rows)), capacity)


def cache_model(cache: Path, repository: str, commit: str, model: Path) -> Path:
    """Put a model into a cache of the hub, as huggingface_hub lays it out, as main; returns its snapshot."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for part in (folder / "blobs", folder / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(commit, encoding="ascii")
    for file in model.iterdir():
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def write_csv(path: Path, texts: list[Any], **columns: list[Any]) -> Path:
    """A CSV with a text column and others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", *columns])
        writer.writerows(zip(texts, *columns.values(), strict=True))
    return path


def published(directory: Path) -> dict[str, bytes]:
    """What must be the same in every run that gets there: outputs, rejects, manifest, _SUCCESS, settings."""
    skipped = ("runs", "digests.json", "lock", "ranks", "tmp", "parts")
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not set(path.relative_to(directory).parts) & set(skipped)
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """A Parquet file as dictionaries."""
    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found
