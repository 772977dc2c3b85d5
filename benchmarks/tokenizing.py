"""How fast does one core turn texts into token ids, and are they those of the library?

    python benchmarks/tokenizing.py [--texts FILE ...] [--rows 6000] [--rounds 5] [--equal 100000]

Three ways in turn, in one process on one thread, by CPU time: the transformers library's ``tokenizer(texts,
truncation=True)``, every text in the tokenizers library's ``encode_batch_fast`` made an array, and the job's encoder.
The encoder is a new one in each round, so it remembers no word from before; texts are distinct. FILE has a text a
line, or is a CSV (also .csv.gz) with a column ``text``; without one, English and Chinese texts are made up from few
sentences, which flatters an encoder that remembers words.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}  # before the library is loaded

import numpy as np
import pyarrow as pa
import pyarrow.csv
from transformers import AutoTokenizer

from batchsent.models.resolution import EMBEDDED_DIRECTORY
from batchsent.resolve import CPU_ROWS_PER_PART
from batchsent.stages.encoder import Encoder
from common import review_texts, save

MAX_LENGTH = 512
CHINESE = (
    *("物流很快", "包装完好。", "质量不错、", "做工一般。", "性价比高、", "客服态度差。", "屏幕清晰、", "电池不耐用。"),
    *("值得购买。", "再也不买了。", "味道很好、", "颜色跟图片不一样。"),
)
ODD = (
    "abc ABC'.,-!\n\t\r \u00a0\u3000\u2028\u0085\u0301\u0323\u0338\u200d\u200b\ufe0f\u00ad\u0000\u0007\u007f"
    "\u0130\u0131\u1e9e\u00df\u03a3\u03c2\u01c5"
    "\ufb01\u00bd\uff21\uff0c\u3002\uff76\uff9e\u4e2d\u6587\u4dc0\u4dff\u3400\uf900\U00020000\u98df\u3079\ud55c\u05e9\u0645\u0600\u0e01\u0e33"
    "\u0928\u094d\u0378\ue000\U000e0001\U0001f600\U0001f3fd\U0001f469\U0001f1e9\ufffd\ufeff\u0d4e"
)
LIKE_ADDED_TOKENS = ("[SEP]", "[CLS] ", "[sep]", "[ SEP ]", "[MASK]", "[\x00SEP]", "[[SEP]", "<s>", "##ing")


def main() -> None:
    """Time the three ways for every set of texts, then compare ids."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, action="append", default=[])
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--equal", type=int, default=100_000)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    sets = {path.name.partition(".")[0]: _read(path) for path in arguments.texts} or _made_up(arguments.rows)
    sets = {name: list(dict.fromkeys(texts)) for name, texts in sets.items()}
    rows = [_measured(name, texts[: arguments.rows], arguments.rounds) for name, texts in sets.items()]
    save("tokenizing", {"rounds": arguments.rounds, "rows": rows, "equality": _equality(sets, arguments.equal)})


def _read(path: Path) -> list[str]:
    if ".csv" in path.suffixes:
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        column: list[str] = pyarrow.csv.read_csv(path, parse_options=options).column("text").to_pylist()
        return column
    return path.read_text(encoding="utf-8").splitlines()


def _made_up(count: int) -> dict[str, list[str]]:
    chooser = random.Random(0)
    return {
        "English, 20 to 400 words": review_texts(count, words=(20, 400)),
        "English, 1 to 20 words": review_texts(count, words=(1, 20)),
        "Chinese": ["".join(chooser.choices(CHINESE, k=chooser.randint(1, 60))) for _ in range(count)],
    }


def _measured(name: str, texts: list[str], rounds: int) -> dict[str, Any]:
    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    parts = [texts[start : start + CPU_ROWS_PER_PART] for start in range(0, len(texts), CPU_ROWS_PER_PART)]
    columns = [pa.chunked_array([part]) for part in parts]

    def library() -> list[Any]:
        return [tokenizer(part, truncation=True, max_length=MAX_LENGTH)["input_ids"] for part in parts]

    def whole_texts() -> list[Any]:
        tokenizer.backend_tokenizer.no_truncation()
        encode = tokenizer.backend_tokenizer.encode_batch_fast
        return [[np.array(encoding.ids, np.int32) for encoding in encode(part)] for part in parts]

    def words() -> list[Any]:
        return [encoder.encode(column).ids for column in columns]

    ways: dict[str, Callable[[], list[Any]]] = {"library": library, "whole_texts": whole_texts, "words": words}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    tokens = sum(len(ids) for part in library() for ids in part)
    for _ in range(rounds):
        encoder = Encoder(EMBEDDED_DIRECTORY, MAX_LENGTH)
        for way, encode in ways.items():
            began = time.process_time()
            encode()
            seconds[way].append(time.process_time() - began)
    ratios = [base / ours for base, ours in zip(seconds["library"], seconds["words"], strict=True)]
    return {
        "texts": name,
        "count": len(texts),
        "tokens_per_text": tokens / len(texts),
        "tokens_per_second": {way: tokens / statistics.median(taken) for way, taken in seconds.items()},
        "median_ratio": statistics.median(ratios),
        "smallest_ratio": min(ratios),
        "largest_ratio": max(ratios),
    }


def _equality(sets: dict[str, list[str]], count: int) -> dict[str, int]:
    """How many texts, as they are and with odd things in them, have other ids or flags than the library's."""
    base, chooser = [text for texts in sets.values() for text in texts], random.Random(0)
    texts = dict.fromkeys(base[: count // 2] if len(base) < count else chooser.sample(base, count // 2))
    while len(texts) < count:
        texts[_odd(chooser, chooser.choice(base))] = None
    column, differing = list(texts), {"ids": 0, "truncated": 0}
    tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)
    lengths = (512, 32)
    encoders = [Encoder(EMBEDDED_DIRECTORY, length) for length in lengths]
    for start in range(0, len(column), CPU_ROWS_PER_PART):
        part = column[start : start + CPU_ROWS_PER_PART]
        whole = [len(ids) for ids in tokenizer(part, verbose=False)["input_ids"]]
        for length, encoder in zip(lengths, encoders, strict=True):
            expected = tokenizer(part, truncation=True, max_length=length)["input_ids"]
            encoded = encoder.encode(pa.chunked_array([part]))
            differing["ids"] += sum(a.tolist() != b for a, b in zip(encoded.ids, expected, strict=True))
            differing["truncated"] += int((encoded.truncated != (np.array(whole) > length)).sum())
    return {"texts": len(column), "with_other_ids": differing["ids"], "with_other_flag": differing["truncated"]}


def _odd(chooser: random.Random, text: str) -> str:
    """Characters that normalizers treat in ways of their own, in, before and after the words of ``text``."""

    def some() -> str:
        anything = chr(chooser.choice([chooser.randrange(1, 0xD800), chooser.randrange(0xE000, 0x110000)]))
        return "".join(
            chooser.choice(ODD) if chooser.random() < 0.8 else anything for _ in range(chooser.randint(1, 4))
        )

    words = text.split(" ")
    for _ in range(chooser.randint(1, 8)):
        index = chooser.randrange(len(words))
        insertion = chooser.choice(LIKE_ADDED_TOKENS) if chooser.random() < 0.05 else some()
        place = chooser.randint(0, len(words[index]))
        words[index] = words[index][:place] + insertion + words[index][place:]
    if chooser.random() < 0.05:
        words.insert(chooser.randrange(len(words)), "x" * chooser.randint(90, 5_000))
    return " ".join(words)


if __name__ == "__main__":
    main()
