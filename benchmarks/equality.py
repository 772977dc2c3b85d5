"""Are batchsent's probabilities those of the transformers library, a text at a time, in fp32?

    python benchmarks/equality.py

2,000 texts of 1 to 600 words through the embedded model and small random models of other kinds, 50 texts
through one of DistilBERT's full size; each by torch and by OpenVINO, in fp32 and, on a processor that has it, in bf16.
"""

from __future__ import annotations

import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    RobertaConfig,
    RobertaTokenizer,
)

import batchsent
from batchsent.machine import has_native_bf16
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from common import review_texts, save, write_csv

SMALL: dict[str, Any] = {"initializer_range": 0.15}
LABELS = {0: "NEGATIVE", 1: "POSITIVE"}
TOPICS = {0: "price", 1: "quality", 2: "delivery", 3: "service"}


def main() -> None:
    """Compare each model in each precision."""
    texts = review_texts(2_000, words=(1, 600))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        models = {
            "embedded (MiniLM, trained)": (EMBEDDED_DIRECTORY, texts),
            "DistilBERT, small, random": (_random_model(root, "distilbert", texts), texts),
            "RoBERTa, small, random": (_random_model(root, "roberta", texts), texts),
            "BERT, small, random, multi-label": (_random_model(root, "multi-label", texts), texts),
            "DistilBERT, full size, random": (_random_model(root, "distilbert-full", texts), texts[:50]),
        }
        rows = []
        precisions = ("fp32", "bf16") if has_native_bf16() else ("fp32",)
        for name, (directory, scored) in models.items():
            expected = _one_at_a_time(directory, scored)
            for backend, precision in product(("torch", "openvino"), precisions):
                found = _batchsent(root, directory, scored, backend=backend, precision=precision)
                rows.append({"model": name, "backend": backend, "precision": precision, **_compare(expected, found)})
                print(rows[-1], flush=True)
    save("equality" if has_native_bf16() else "equality_without_bf16", {"rows": rows}, beside=("openvino",))


def _compare(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> dict[str, Any]:
    difference = np.abs(expected - found)
    best = np.sort(expected, axis=1)
    margin = best[:, -1] - best[:, -2]
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    return {
        "texts": len(expected),
        "largest_difference": float(difference.max()),
        "same_labels": float(same.mean()),
        "same_labels_where_margin_above_0.02": float(same[margin > 0.02].mean()),
        "label_shares": [round(float(share), 3) for share in np.bincount(expected.argmax(axis=1)) / len(expected)],
    }


def _one_at_a_time(directory: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
    multi_label = model.config.problem_type == "multi_label_classification"
    rows = []
    with torch.inference_mode():
        for text in texts:
            logits = model(**tokenizer(text, truncation=True, max_length=512, return_tensors="pt")).logits[0]
            rows.append((torch.sigmoid(logits) if multi_label else torch.softmax(logits, -1)).numpy())
    return np.stack(rows)


def _batchsent(root: Path, directory: Path, texts: list[str], **options: str) -> np.ndarray[Any, Any]:
    output = root / "scored"
    shutil.rmtree(output, ignore_errors=True)
    source = write_csv(root / "texts.csv", texts)
    batchsent.score(str(source), output=str(output), model=str(directory), device="cpu", **options)
    probabilities = pq.read_table(output / "texts.parquet").column("probabilities").combine_chunks()
    return np.stack([column.to_numpy() for column in probabilities.flatten()], axis=1)


def _random_model(root: Path, kind: str, texts: list[str]) -> Path:
    directory = root / kind
    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    labels = TOPICS if kind == "multi-label" else LABELS
    named: dict[str, Any] = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    config: Any
    if kind == "distilbert-full":
        config = DistilBertConfig(vocab_size=len(tokenizer), initializer_range=0.05, **named)
    elif kind == "distilbert":
        shape: dict[str, Any] = {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 128}
        config = DistilBertConfig(vocab_size=len(tokenizer), **shape, **SMALL, **named)
    elif kind == "roberta":
        tokenizer = _roberta_tokenizer(directory, texts)
        config = RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=514,
            **SMALL,
            **named,
        )
    else:
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            problem_type="multi_label_classification",
            **SMALL,
            **named,
        )
    torch.manual_seed(0)
    classifier: Any = AutoModelForSequenceClassification
    classifier.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _roberta_tokenizer(directory: Path, texts: list[str]) -> Any:
    directory.mkdir()
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, vocab_size=4_000, special_tokens=special, show_progress=False)
    trained.save_model(str(directory))
    return RobertaTokenizer(
        vocab=str(directory / "vocab.json"), merges=str(directory / "merges.txt"), model_max_length=512
    )


if __name__ == "__main__":
    main()
