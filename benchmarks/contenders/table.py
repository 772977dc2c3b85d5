"""One run side by side as the lines of docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

from contenders.summary import Standing, absent, result_name, standings

HEAD = (
    "| | precision | begins with | best setting | tokens/s, median (slowest to fastest) | reviews/s | of the limit "
    "| same labels | largest difference |"
)


def lines(result: dict[str, Any]) -> list[str]:
    """Picture, table, and what does not fit into it."""
    texts = result["texts"]
    name = result_name(
        result["device"], result["model"], int8_dot_products=result["environment"].get("int8_dot_products")
    )
    written = [
        f"![Tokens per second of every contender](images/{name}.svg)",
        "",
        HEAD,
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(standing) for standing in standings(result)),
        "",
        f"{texts['rows']:,} texts ({texts['source']}), {texts['tokens']:,} tokens without padding, at most "
        f"{texts['longest']} each{_on(result)}; {_rounds(result)} rounds, {result['threads']} threads.",
        *(["", f"Not measured: {'; '.join(absent(result))}."] if absent(result) else []),
    ]
    prepared = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result["preparation_seconds"].items())
    loads = [
        f"{entry['name']}, {entry['precision']} {entry['load_seconds']:.1f} s"
        for entry in result["contenders"]
        if entry.get("seconds") and entry["begins_with"] in ("texts", "token ids")
    ]
    prepared = f"Conversion, once: {prepared}. " if prepared else ""
    at_once = result.get("loaded_at_once", 1)
    beside = f", {at_once} at a time" if at_once > 1 else ""
    return [*written, "", f"{prepared}Import, load and compile{beside}: {'; '.join(loads)}."]


def _line(standing: Standing) -> str:
    share = "" if standing.share_of_limit is None else f"{standing.share_of_limit:.0%}"
    same = "" if standing.same_labels is None else f"{standing.same_labels:.1%}"
    difference = "" if standing.largest_difference is None else f"{standing.largest_difference:.1e}"
    rates = f"**{standing.tokens_per_second:,.0f}** ({standing.slowest:,.0f} to {standing.fastest:,.0f})"
    reviews = f"{standing.reviews_per_second:,.1f}"
    cells = (standing.name, standing.precision, standing.begins_with, standing.setting, rates, reviews, share)
    return f"| {' | '.join((*cells, same, difference))} |"


def _on(result: dict[str, Any]) -> str:
    return f", on one {result['gpu']}" if result["gpu"] else ""


def _rounds(result: dict[str, Any]) -> int:
    return max(len(entry.get("seconds", [])) for entry in result["contenders"])
