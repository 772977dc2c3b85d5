"""Which wording of the question "positive or negative?" do models that write text answer best?

    python benchmarks/prompts.py --data sst2-train.parquet --text-to-text models/flan-t5-small --causal models/SmolLM2
    python benchmarks/prompts.py --data chinese-train.parquet ... --language zh

The data are training texts, columns ``text`` and ``label`` as ``examples/prepare_data.py`` writes them: what is chosen
here is tested on others. Each wording is tried with and without ``--calibrate-prompt``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

import batchsent
from batchsent.models.prompts import WORDINGS, Wording
from common import HERE, save

CANDIDATES = tomllib.loads((HERE / "wordings.toml").read_text(encoding="utf-8"))
"""Language → kind of model → template → the words for NEGATIVE and POSITIVE; tried beside those that come along."""
MIN_CHARACTERS = {"en": 30, "zh": 10}
"""SST-2's training phrases begin with single words, which are nobody's reviews."""


def main() -> None:
    """Ask every model in every wording."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--text-to-text", help="a T5")
    parser.add_argument("--causal", help="a decoder; with its chat template, if it has one, and without")
    parser.add_argument("--language", choices=list(CANDIDATES), default="en")
    parser.add_argument("--rows", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch, "sample.parquet")
        table = pl.read_parquet(arguments.data).filter(
            pl.col("text").str.len_chars() >= MIN_CHARACTERS[arguments.language]
        )
        table.sample(min(arguments.rows, table.height), seed=0).write_parquet(sample)
        rows = [
            _asked(kind, model, wording, sample, is_calibrated=is_calibrated)
            for kind, model in _models(arguments, Path(scratch))
            for wording in _wordings(arguments.language, kind)
            for is_calibrated in (False, True)
        ]
    save(f"prompts_{arguments.language}", {"rows": rows})


def _models(arguments: argparse.Namespace, scratch: Path) -> list[tuple[str, str]]:
    """(kind, directory). A chat model without its template is asked as a base model is."""
    models = [("text-to-text", arguments.text_to_text)] if arguments.text_to_text else []
    if arguments.causal:
        plain = scratch / "without-chat-template"
        shutil.copytree(arguments.causal, plain, ignore=shutil.ignore_patterns("chat_template*"))
        models += [("chat", arguments.causal), ("causal", str(plain))]
    return models


def _wordings(language: str, kind: str) -> list[Wording]:
    ours = WORDINGS["sentiment" if language == "en" else "sentiment-zh"][kind]
    others = CANDIDATES[language][kind].items()
    return [ours, *(replace(ours, template=t, verbalizers=_pairs(*words)) for t, words in others)]


def _pairs(negative: str, positive: str) -> tuple[tuple[str, str], ...]:
    return (("NEGATIVE", negative), ("POSITIVE", positive))


def _asked(kind: str, model: str, wording: Wording, sample: Path, *, is_calibrated: bool) -> dict[str, Any]:
    found = batchsent.evaluate(
        sample,
        label_column="label",
        models=[model],
        prompt=wording.template,
        verbalizer=[f"{label}={word}" for label, word in wording.verbalizers],
        calibrate_prompt=is_calibrated,
        device="cpu",
    ).models[0]
    row = {
        "kind": kind,
        "template": wording.template,
        "words": [word for _, word in wording.verbalizers],
        "calibrate_prompt": is_calibrated,
        "rows": found.metrics.row_count,
        "accuracy": found.metrics.accuracy,
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
