"""What does an audit find of healthy models, in each precision? The limits of ``--audit`` rest on it.

    python benchmarks/audit.py --data NAME=FILE:TEXT [--data ...] [--model DIR ...] [--rows 300]

Data, not shipped: CSV or TSV, of whose column TEXT the reviews are taken; of more than ``--rows``, so many at random.
Every row is scored by the whole job and audited. fp16 is computed on the CPU too, where no run would: for its rounding.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl

import batchsent
from batchsent.audit import LIMITS
from batchsent.models.families import CLASSIFICATION, TEXT_TO_TEXT, task_of
from batchsent.models.graphs import CONVERTIBLE
from batchsent.models.resolution import EMBEDDED_DIRECTORY, read_model_config
from common import can_score, save


def main() -> None:
    """Audit each model in each precision that it can have."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FILE:TEXT")
    parser.add_argument("--model", action="append", default=["embedded"], metavar="DIR")
    parser.add_argument("--rows", type=int, default=300)
    arguments = parser.parse_args()
    limits, rows = LIMITS.copy(), []
    for model in arguments.model:
        for item in arguments.data:
            name, _, rest = item.partition("=")
            path, column = rest.rsplit(":", 1)
            texts = _texts(path, column, arguments.rows)
            for backend, precision in _ways(model):
                found = _audited(texts, model=model, backend=backend, precision=precision)
                row = {"model": Path(model).name, "data": name, "backend": backend, "precision": precision}
                rows.append({**row, **found, "limit": limits[precision]})
                print(rows[-1], flush=True)
    save("audit", {"rows": rows})


def _ways(model: str) -> Iterator[tuple[str, str]]:
    """(backend, precision)"""
    directory = EMBEDDED_DIRECTORY if model == "embedded" else Path(model)
    task = task_of(directory)
    yield from (("torch", precision) for precision in ("fp32", "bf16"))
    if task != TEXT_TO_TEXT:  # T5 overflows in it
        yield from (("torch", precision) for precision in ("fp16", "fp16-weights"))
    if task == CLASSIFICATION and read_model_config(directory)["model_type"] in CONVERTIBLE:
        yield from (("openvino", p) for p in ("fp32", "bf16", "int8") if can_score("openvino", p))


def _texts(file: str, column: str, rows: int) -> list[str]:
    is_tsv = Path(file).suffix == ".tsv"
    settings: dict[str, Any] = {"separator": "\t", "quote_char": None} if is_tsv else {}
    texts = pl.read_csv(file, infer_schema=False, **settings)[column].drop_nulls()
    return (texts.sample(rows, seed=0) if len(texts) > rows else texts).to_list()


def _audited(texts: list[str], **options: str) -> dict[str, Any]:
    """What the audit of a whole job found."""
    with tempfile.TemporaryDirectory() as folder, _anything_goes():
        source = Path(folder, "texts.parquet")
        pl.DataFrame({"text": texts}).write_parquet(source)
        report = batchsent.score(str(source), output=str(Path(folder, "scored")), device="cpu", audit=10**9, **options)
    names = ("row_count", "largest_difference", "changed_label_count")
    return {name: report.audit[name] for name in names}


@contextmanager
def _anything_goes() -> Iterator[None]:
    """Without limits, and with precisions that no run on a CPU would take."""
    places = ("batchsent.machine.require_precision", "batchsent.scoring.require_precision")
    with patch.dict(LIMITS, dict.fromkeys(LIMITS, 1.0)), patch(places[0]), patch(places[1]):
        yield


if __name__ == "__main__":
    main()
