"""Shows what `batchsent score` published in DIR: a few rows, and how the labels fall on the stars."""

# ruff: noqa: T201 - printing is what this script is for

import sys
from pathlib import Path

import polars as pl

ROWS_SHOWN = 12


def read_scored(directory: Path) -> pl.DataFrame:
    """The rows of every published shard, in the order of the shards' names and of the rows within them."""
    shards = sorted(p for p in directory.rglob("*.parquet") if "_batchsent" not in p.parts)
    columns = (
        pl.col("review_id"),
        # A CSV has no types, so `stars` is text in what came from one and a number in what came from Parquet.
        pl.col("stars").cast(pl.Int8),
        pl.col("label").cast(pl.String),
        pl.col("probability").round(3),
        pl.col("token_count"),
        pl.col("truncated"),
    )
    return pl.concat(pl.read_parquet(shard).select(columns) for shard in shards)


def count_labels_by_stars(scored: pl.DataFrame) -> pl.DataFrame:
    """One row for each number of stars, one column for each label."""
    labels = scored["label"].unique().sort()
    counts = scored.pivot("label", index="stars", values="review_id", aggregate_function="len")
    return counts.select("stars", *labels).fill_null(0).sort("stars")


def share_that_agrees(scored: pl.DataFrame) -> float:
    """Of the rows with 1, 2, 4 or 5 stars: how many have the label that their stars suggest."""
    clear = scored.filter(pl.col("stars") != 3)
    agrees = (clear["stars"] > 3) == (clear["label"] == "POSITIVE")
    return agrees.sum() / len(clear)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/show.py DIR")
    directory = Path(sys.argv[1])
    if not (directory / "_SUCCESS").exists():
        sys.exit(f"error: {directory} has no _SUCCESS; a published run was expected; run `make demo`")

    scored = read_scored(directory)
    with pl.Config(
        tbl_rows=ROWS_SHOWN,
        tbl_cols=-1,
        tbl_width_chars=100,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
    ):
        print(f"\n{len(scored)} rows in {directory}; {ROWS_SHOWN} of them:")
        print(scored.sample(min(ROWS_SHOWN, len(scored)), seed=0).sort("review_id"))
        print("\nLabels by stars:")
        print(count_labels_by_stars(scored))
    print(f"\n{share_that_agrees(scored):.0%} of the rows without 3 stars have the label that their stars suggest.")
    print("The examples are odd on purpose: irony, mixed feelings, five languages; see examples/README.md.")


if __name__ == "__main__":
    main()
