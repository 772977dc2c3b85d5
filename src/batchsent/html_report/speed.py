"""The section on speed: of the run that scored last, all its ranks together."""

from __future__ import annotations

from dataclasses import dataclass, fields

from batchsent.html_report.elements import Figure, Rows, moment, percent
from batchsent.html_report.pictures import combined, throughput_picture
from batchsent.html_report.sources import Findings
from batchsent.reporting.progress import spoken_seconds
from batchsent.reporting.run_report import RunReport, StageSeconds


def rate_of(runs: list[RunReport]) -> float:
    """Records a second: of ranks, which begin at about the same time, of all together."""
    scoring = max(run.scoring_seconds for run in runs)
    return sum(run.record_count for run in runs) / scoring if scoring else 0.0


FEWEST_MARKS = 3
"""Between which something could be seen to change."""


@dataclass(frozen=True)
class Speed:
    """Of the run that scored last, all its ranks together."""

    title: str
    numbers: list[tuple[str, str, str]]
    stages: list[tuple[str, str, float]]
    """(name, seconds, share of the longest)"""
    throughput: Figure | None


def speed_of(findings: Findings) -> Speed | None:
    """None if no run has scored anything."""
    runs = findings.scoring_runs
    if not runs:
        return None
    tokens, padding = sum(run.token_count for run in runs), sum(run.padding_count for run in runs)
    scoring = max(run.scoring_seconds for run in runs)
    counts = {
        name: sum(getattr(run, name) for run in runs)
        for name in ("record_count", "distinct_text_count", "split_count", "rerun_count")
    }
    numbers = [
        ("records/s", f"{rate_of(runs):,.0f}", f"{counts['record_count']:,} in {_spoken(scoring)}"),
        ("tokens/s", f"{tokens / scoring:,.0f}" if scoring else "–", f"{tokens:,} in all"),
        ("padding", percent(padding, tokens + padding), "of what went through the model"),
        ("distinct texts", f"{counts['distinct_text_count']:,}", "each scored once in its part"),
    ]
    if counts["split_count"]:
        numbers.append(("batches halved", f"{counts['split_count']:,}", "the device was out of memory"))
    if counts["rerun_count"]:
        numbers.append(("run again in fp32", f"{counts['rerun_count']:,}", "logits that were not finite"))
    seconds = {f.name: sum(getattr(run.stage_seconds, f.name) for run in runs) for f in fields(StageSeconds)}
    longest = max(seconds.values())
    who = f"{len(runs):,} ranks, the first" if runs[0].world_size > 1 else "Run"
    return Speed(
        title=f"{who} begun {moment(min(run.started_at for run in runs))}",
        numbers=numbers,
        stages=[(name, f"{s:,.1f} s", s / longest if longest else 0.0) for name, s in seconds.items()],
        throughput=_throughput_figure(runs),
    )


def _throughput_figure(runs: list[RunReport]) -> Figure | None:
    points = combined([run.timeline for run in runs])
    if len(points) < FEWEST_MARKS:
        return None
    description = "Records per second over the time of scoring; the marks are in the table below."
    svg = throughput_picture("throughput", points, points[-1][1] / points[-1][0], description=description)
    step = -(-len(points) // 20)
    shown = [*points[step - 1 :: step]]
    rows: Rows = [(f"{seconds:,.1f} s", f"{count:,.0f}") for seconds, count in shown]
    note = "Between two commits each. Loading the model is not in it."
    return Figure("Throughput", svg, note, ("scoring for", "records committed"), rows)


def _spoken(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds < 60 else spoken_seconds(seconds)
