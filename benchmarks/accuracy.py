"""What does each precision do to the labels of the embedded model, and to its accuracy?

    python benchmarks/accuracy.py --data NAME=FILE:TEXT:LABEL [--data ...] [--rows 2000]

Labelled data, not shipped: CSV or TSV, of whose column TEXT the reviews are taken and of LABEL what is true (0, neg,
negative; 1, pos, positive). Of more than ``--rows`` rows, so many at random. Where int8 is refused for want of
instructions, its graph is computed in floats.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import batchsent
from batchsent.machine import available_cores
from batchsent.models.openvino import compile_graph, inputs_of
from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.models.sequence_classification import describe
from batchsent.models.torch_classifier import batch_of
from common import can_score, save
from contenders.preparation import openvino_graph
from quantized import with_floats

TRUE_LABELS = {"0": 0, "neg": 0, "negative": 0, "1": 1, "pos": 1, "positive": 1}
ENGINES = (("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))


def main() -> None:
    """Score each data set in each precision."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FILE:TEXT:LABEL")
    parser.add_argument("--rows", type=int, default=2_000)
    arguments = parser.parse_args()
    rows = []
    for item in arguments.data:
        name, _, rest = item.partition("=")
        path, text_column, label_column = rest.rsplit(":", 2)
        table = _sample(Path(path), text_column, label_column, arguments.rows)
        true = table["label"].to_numpy()
        exact: Any = None
        for backend, precision in ENGINES:
            if can_score(backend, precision):
                by, found = backend, _positive(table, backend=backend, precision=precision)
            elif precision == "int8":
                by, found = f"{backend}, in floats", _positive_in_floats(table["text"].to_list())
            else:
                continue
            exact = found if exact is None else exact
            rows.append({"data": name, "backend": by, "precision": precision, **_compare(true, exact, found)})
            print(rows[-1], flush=True)
    save("accuracy", {"rows": rows})


def _sample(path: Path, text_column: str, label_column: str, rows: int) -> pl.DataFrame:
    separator = "\t" if ".tsv" in path.suffixes else ","
    quote = None if separator == "\t" else '"'
    table = pl.read_csv(path, separator=separator, quote_char=quote, infer_schema=False)
    table = table.select(text=text_column, label=pl.col(label_column).str.to_lowercase().replace_strict(TRUE_LABELS))
    return table.sample(rows, seed=0) if len(table) > rows else table


def _positive(table: pl.DataFrame, **options: str) -> np.ndarray[Any, Any]:
    """Probability of POSITIVE for each row, by the whole job."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "texts.parquet"), Path(folder, "scored")
        table.select("text").write_parquet(source)
        batchsent.score(str(source), output=str(output), device="cpu", **options)
        scored = pl.read_parquet(output / "texts.parquet")
    return scored["probabilities"].struct.field("POSITIVE").to_numpy()


def _positive_in_floats(texts: list[str]) -> np.ndarray[Any, Any]:
    """Probability of POSITIVE for each text, by the quantized graph with its integers as floats."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    answered = describe(EMBEDDED_DIRECTORY)
    ids = tokenizer(texts, truncation=True, max_length=answered.max_length)["input_ids"]
    graph = with_floats(openvino_graph(EMBEDDED_DIRECTORY, quantized=True))
    compiled = compile_graph(graph, precision="fp32", threads=available_cores())
    logits = np.empty((len(texts), len(answered.labels)))
    order = sorted(range(len(texts)), key=lambda index: len(ids[index]))
    for chunk in np.array_split(order, max(1, len(order) // 8)):
        batch = batch_of([ids[index] for index in chunk])
        logits[chunk[batch.window_indices]] = compiled(inputs_of(batch, tokenizer.pad_token_id))[0]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    positive: np.ndarray[Any, Any] = shares[:, answered.labels.index("POSITIVE")] / shares.sum(axis=1)
    return positive


def _compare(
    true: np.ndarray[Any, Any], exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any]
) -> dict[str, float | int]:
    return {
        "rows": len(true),
        "accuracy": float(((found > 0.5) == true).mean()),
        "same_labels": float(((found > 0.5) == (exact > 0.5)).mean()),
        "largest_difference": float(np.abs(found - exact).max()),
        "mean_difference": float(np.abs(found - exact).mean()),
    }


if __name__ == "__main__":
    main()
