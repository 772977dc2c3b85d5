"""A plan as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from batchsent.distributions import LENGTH_EDGES
from batchsent.errors import without_secrets
from batchsent.plan.forecast import MACHINE_ERROR
from batchsent.plan.results import Between, Plan, Texts
from batchsent.reporting.progress import spoken_bytes, spoken_seconds
from batchsent.scoring import UNKNOWN_TOKEN_LIMIT

Lines = list[tuple[str, str]]

_BAR_WIDTH = 40
_FAILURES_SHOWN = 3


def plan_lines(plan: Plan, price_per_hour: float | None = None) -> Lines:
    """(name, value) pairs in the order a person asks for them; a name is left out where a line goes on."""
    lines = [("input", f"{_counted(plan.shard_count, 'shard')}, {spoken_bytes(plan.input_bytes)}")]
    lines += _kept_lines(plan)
    lines += [("unreadable", reason) for reason in list(plan.failed_shards.values())[:_FAILURES_SHOWN]]
    if plan.failed_shards:
        count = len(plan.failed_shards)
        lines.append(("", f"{_counted(count, 'shard')} would fail; the run would end with exit 3, not published"))
    if plan.is_held:
        lines.append(("held", "a run is at DIR now; another one would end with exit 75 ('batchsent status' shows it)"))
    lines.append(("settings", _settings(plan)))
    if plan.texts is None:
        return [*lines, ("time", _ending(plan))]
    lines += _text_lines(plan, plan.texts)
    lines += _space_lines(plan)
    lines += _time_lines(plan)
    lines += _cost_lines(plan, price_per_hour)
    return [*lines, *_basis_lines(plan)]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _kept_lines(plan: Plan) -> Lines:
    kept, lines = plan.kept, Lines()
    if kept.size_bytes or kept.shard_count:
        finished = f"{_counted(kept.shard_count, 'shard')} finished"
        lines.append(("kept", f"{finished}, {_counted(kept.record_count, 'record')}, {spoken_bytes(kept.size_bytes)}"))
    if kept.assumed_shard_count:
        lines.append(
            ("", f"of {kept.assumed_shard_count:,} of them only the size was looked at: a run hashes them first")
        )
    if kept.unknown_bytes:
        size = spoken_bytes(kept.unknown_bytes)
        lines.append(("", f"{size} of other shards have to be hashed before it is known what of them is kept"))
    return lines


def _settings(plan: Plan) -> str:
    return (
        f"{without_secrets(plan.model)} by {plan.backend} on {plan.device}: precision {plan.precision}, "
        f"batching {plan.batching}, {plan.batch_tokens:,} tokens a batch, {_counted(plan.threads, 'thread')}, "
        f"{plan.rows_per_part:,} rows a part"
    )


def _ending(plan: Plan) -> str:
    if plan.is_done:
        return "nothing to do: the output is published, and the input is what it was"
    if plan.kept.shard_count:
        return "nothing to score: all is finished, and a run would publish it or say what speaks against that"
    return "nothing to score: no shard can be read"


# --- texts


def _text_lines(plan: Plan, texts: Texts) -> Lines:
    records = texts.record_count
    left = f"{records.expected:,.0f}" if records.is_exact else f"about {_range(records, _rounded)}"
    lines = [("to score", f"{left} record{'s' * (records.expected != 1)} in {_counted(texts.part_count, 'part')}")]
    if texts.rejected_share:
        lines.append(("", f"{texts.rejected_share:.2%} of them without a text that can be scored"))
    lines.append(
        (
            "tokens",
            f"{texts.mean_tokens:,.0f} a record on average, {texts.truncated_share:.1%} truncated at "
            f"{plan.max_length:,}; {_rounded(texts.token_count)} for the model",
        )
    )
    lines += [("", bar) for bar in histogram_lines(texts.length_counts)]
    if texts.unknown_token_share > UNKNOWN_TOKEN_LIMIT:
        lines.append(
            ("", f"{texts.unknown_token_share:.0%} are unknown to the model: it probably does not know the language")
        )
    lines.append(("duplicates", f"{texts.duplicate_share:.1%} of the texts, scored once in each part"))
    lines.append(("batches", f"{texts.pass_count:,}, {texts.padding_share:.1%} padding"))
    return lines


def histogram_lines(counts: tuple[int, ...]) -> list[str]:
    """A bar for each bin of ``LENGTH_EDGES`` between the first and the last that has records."""
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return []
    most, total = max(counts), sum(counts)
    lines = []
    for index in range(filled[0], filled[-1] + 1):
        low = LENGTH_EDGES[index - 1] + 1 if index else 1
        name = f"{low:,} to {LENGTH_EDGES[index]:,}" if index < len(LENGTH_EDGES) else f"above {low - 1:,}"
        bar = "#" * max(1 if counts[index] else 0, round(_BAR_WIDTH * counts[index] / most))
        lines.append(f"{name:>14}  {counts[index] / total:6.1%}  {bar}".rstrip())
    return lines


# --- what it takes


def _space_lines(plan: Plan) -> Lines:
    lines = Lines()
    memory = plan.memory
    if memory is not None and memory.job_bytes:
        each = f"{memory.tokenizer_count} of {spoken_bytes(memory.tokenizer_bytes)}"
        lines.append(
            (
                "memory",
                f"about {spoken_bytes(memory.total_bytes)} (job {spoken_bytes(memory.job_bytes)}, "
                f"reader {spoken_bytes(memory.reader_bytes)}, tokenizers {each})",
            )
        )
        if memory.device_bytes:
            lines.append(("", f"{spoken_bytes(memory.device_bytes)} on {plan.device}"))
    free = "" if plan.free_bytes is None else f", of {spoken_bytes(plan.free_bytes)} free"
    lines.append(("disk", f"roughly {spoken_bytes(plan.output_bytes)} while it runs{free}"))
    return lines


def _time_lines(plan: Plan) -> Lines:
    stages = sorted(plan.stage_seconds.items(), key=lambda item: -item[1])
    lines = [("time", f"{_range(plan.seconds, spoken_seconds)}, {spoken_seconds(plan.startup_seconds)} of it start-up")]
    told = ", ".join(f"{name} {spoken_seconds(seconds)}" for name, seconds in stages if seconds >= 1)
    if told:
        lines.append(("", f"{told} (side by side)"))
    lines += [
        ("", f"on {count} devices like this one {_range(plan.seconds_on(count), spoken_seconds)}")
        for count in plan.replicas
    ]
    if plan.audit:
        lines.append(("", f"without the audit, of up to {_counted(plan.audit, 'row')}, each alone in fp32"))
    return lines


def _cost_lines(plan: Plan, price_per_hour: float | None) -> Lines:
    unit = "machine-hours" if plan.device == "cpu" else "GPU-hours"
    hours = Between(*(seconds / 3600 for seconds in (plan.seconds.expected, plan.seconds.low, plan.seconds.high)))
    lines = [("hours", f"{_range(hours, _number)} {unit}")]
    if price_per_hour is not None:
        cost = Between(*(hour * price_per_hour for hour in (hours.expected, hours.low, hours.high)))
        lines.append(("cost", f"{_range(cost, _number)} at {price_per_hour:g} an hour"))
    return lines


def _basis_lines(plan: Plan) -> Lines:
    sample = plan.sample
    passes = f"{sample.pass_count:,} forward pass{'es' * (sample.pass_count != 1)}"
    lines = [
        (
            "rests on",
            f"{_counted(sample.text_count, 'text')} from {_counted(sample.stretch_count, 'place')} in "
            f"{_counted(sample.shard_count, 'shard')}, {passes} in {spoken_seconds(sample.pass_seconds)}",
        )
    ]
    why = [f"{sample.timing_error:.1%} for their time", f"{MACHINE_ERROR:.0%} for what else the machine will do"]
    if not sample.is_whole:
        why.insert(0, f"{sample.length_error:.1%} for the choice of texts")
    lines.append(("", f"the range is twice the error: {', '.join(why)}"))
    if plan.load > plan.cores:
        busy = f"load {plan.load:.1f} on {_counted(plan.cores, 'processor')}"
        lines.append(("", f"the machine was busy before ({busy}): plan again when it is as busy as it will be"))
    if sample.is_beginning:
        lines.append(
            ("", "compressed, CSV and TSV files were read at their beginning only: what follows is taken to be like it")
        )
    return lines


# --- numbers


def _range(value: Between, shown: Callable[[float], str]) -> str:
    expected, low, high = shown(value.expected), shown(value.low), shown(value.high)
    return expected if low == expected == high else f"{expected}, between {low} and {high}"


def _rounded(count: float) -> str:
    """'1,234', '56,800', '1.23 million'."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:,.2f} {name}"
    digits = 0 if count < 10_000 else -2
    return f"{round(count, digits):,.0f}"


def _number(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
