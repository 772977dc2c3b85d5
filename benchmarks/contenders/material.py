"""What all contenders are given: a model with its weights, and texts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from common import imdb_like_texts


def embedded(_folder: Path) -> Path:
    """The model that comes with batchsent: MiniLM, 6 layers of 384."""
    return EMBEDDED_DIRECTORY


def distilbert(folder: Path) -> Path:
    """DistilBERT's real shape (6 layers of 768, 12 heads) with random weights.

    Speed does not depend on what the weights say; whether int8 keeps the labels does, and is the other model's to show.
    """
    return random_classifier(folder, labels=["NEGATIVE", "POSITIVE"])


def random_classifier(folder: Path, *, labels: list[str], tiny: bool = False) -> Path:
    """A DistilBERT with random weights and the embedded model's tokenizer, whose vocabulary is DistilBERT's too."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig

    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    shape: dict[str, Any] = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32} if tiny else {}
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        initializer_range=0.05,  # above the usual 0.02, so that not every text gets the same label
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **shape,
    )
    torch.manual_seed(0)
    classifier: Any = AutoModelForSequenceClassification
    classifier.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {"distilbert": distilbert, "embedded": embedded}


def texts_of(path: str | None, column: str, count: int) -> list[str]:
    """``count`` distinct texts: of the file's ``column`` in a random order, or generated where there is no file."""
    if path is None:
        return imdb_like_texts(count)
    if path.endswith(".parquet"):
        table = pq.read_table(path, columns=[column])
    else:
        quoted = pyarrow.csv.ParseOptions(newlines_in_values=True)
        chosen = pyarrow.csv.ConvertOptions(include_columns=[column])
        table = pyarrow.csv.read_csv(path, parse_options=quoted, convert_options=chosen)
    texts = sorted({text for text in table.column(column).to_pylist() if text and text.strip()})
    if len(texts) < count:
        raise SystemExit(f"{Path(path).name} has {len(texts):,} distinct texts in {column}, fewer than {count:,}")
    return random.Random(0).sample(texts, count)
