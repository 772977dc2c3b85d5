"""Fine-tuning by hand: the loop that `batchsent finetune` has transformers' Trainer run.

python examples/training_loop.py data/imdb/train.csv.gz --base sentence-transformers/all-MiniLM-L6-v2 --limit 4000

Reads a CSV with the columns text and label. Left out here, and done there: resuming, early stopping, the best state of
the training instead of the last, accumulation, mixed precision, batches of similar length.
"""

# ruff: noqa: T201, S311 - it prints, and draws samples

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

MAX_LENGTH = 128


def train(
    texts: Sequence[str],
    labels: Sequence[str],
    base: str,
    *,
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    seed: int = 42,
) -> tuple[Any, float]:
    """A classifier, and its accuracy on the tenth of the texts that it did not see."""
    random.seed(seed)
    torch.manual_seed(seed)  # the new head, the order of the texts, dropout
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(names), id2label=dict(enumerate(names)), dtype=torch.float32
    )

    def collate(rows: list[tuple[str, str]]) -> tuple[Any, torch.Tensor]:
        batch = tokenizer(
            [text for text, _ in rows], truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
        )
        return batch, torch.tensor([names.index(label) for _, label in rows])

    rows = list(zip(texts, labels, strict=True))
    random.shuffle(rows)
    held_out = max(1, len(rows) // 10)
    validation: Any = DataLoader(rows[:held_out], batch_size, collate_fn=collate)
    training: Any = DataLoader(rows[held_out:], batch_size, shuffle=True, collate_fn=collate)

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    step_count = epochs * len(training)
    schedule = get_linear_schedule_with_warmup(optimizer, step_count // 10, step_count)
    for epoch in range(epochs):
        model.train()
        for batch, targets in training:
            logits = model(**batch).logits  # forward
            loss = torch.nn.functional.cross_entropy(logits, targets)  # how wrong it is
            loss.backward()  # in which direction each weight would make it less so
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()  # a step in that direction
            schedule.step()
            optimizer.zero_grad()
        accuracy = evaluate(model, validation)
        print(f"epoch {epoch + 1}: accuracy {accuracy:.4f}")
    return model, accuracy


@torch.inference_mode()
def evaluate(model: Any, validation: Any) -> float:
    """The share of texts whose label is the one with the highest logit."""
    model.eval()
    right = total = 0
    for batch, targets in validation:
        right += int((model(**batch).logits.argmax(dim=1) == targets).sum())
        total += len(targets)
    return right / total


def main() -> None:
    """Train on a CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--base", required=True, help="a model directory or a hub id")
    parser.add_argument("--limit", type=int, help="so many random rows")
    options = parser.parse_args()
    opened = gzip.open if options.csv.suffix == ".gz" else open
    with opened(options.csv, "rt", encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    rows = rows[: options.limit]
    train([text for text, _ in rows], [label for _, label in rows], options.base)


if __name__ == "__main__":
    main()
