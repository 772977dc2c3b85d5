"""The closing summary: what was done, how fast, and where the time went."""

from __future__ import annotations

from typing import Any

from batchsent.checkpoint import Audit
from batchsent.errors import without_secrets
from batchsent.reporting.progress import spoken_seconds
from batchsent.reporting.run_report import RunReport


def summary_lines(report: RunReport, output: str) -> list[tuple[str, str]]:
    """(name, value) pairs in the order a person asks for them."""
    totals = report.totals
    result = f"{report.state}, {report.message}" if report.state == "share done" else report.state
    lines = [("result", f"{result}: {without_secrets(output)}")]
    if report.world_size > 1:
        lines.append(("rank", f"{report.rank}/{report.world_size}"))
    if totals:
        lines.append(("rows in DIR", f"{totals['row_count']:,} of {totals['record_count']:,} records"))
        lines.append(("labels", _shares(totals["label_counts"])))
        if totals["reject_counts"]:
            lines.append(
                (
                    "rejected",
                    ", ".join(f"{count:,} {reason}" for reason, count in totals["reject_counts"].items()),
                )
            )
    if report.audit:
        lines.append(("audit", str(Audit(**report.audit))))
    if report.drift:
        lines.append(("drift", drift_line(report.drift)))
    shards = f"{report.shard_count:,}"
    if report.kept_shard_count:
        shards += f", {report.kept_shard_count:,} finished before"
    if report.failed_shards:
        shards += f", {len(report.failed_shards):,} failed"
    lines.append(("shards", shards))
    if report.record_count:
        lines += _work_lines(report)
    lines.append(("time", f"{spoken_seconds(report.seconds)}, {spoken_seconds(report.scoring_seconds)} of it scoring"))
    if report.plan:
        lines.append(("planned", plan_line(report)))
    return lines


def plan_line(report: RunReport) -> str:
    """How far off the plan was."""
    planned = report.plan["seconds"]
    off = report.seconds / planned - 1
    how = f"{abs(off):.0%} {'longer' if off > 0 else 'shorter'}" if round(abs(off), 2) else "as planned"
    return f"{_precisely(planned)}; took {_precisely(report.seconds)} ({how})"


def _precisely(seconds: float) -> str:
    """'8.1 s', '3 min 25 s', '2 h 05 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02} s" if whole < 6_000 else spoken_seconds(seconds)


def drift_line(drift: dict[str, Any]) -> str:
    """How far the predictions have moved, from what, and what was allowed."""
    limit = "" if drift["limit"] is None else f", limit {drift['limit']}"
    indices = ", ".join(f"{name} {drift[name]:.3f}" for name in ("labels", "confidence", "lengths"))
    return f"{indices} from {drift['baseline']}{limit}"


def _work_lines(report: RunReport) -> list[tuple[str, str]]:
    stage = report.stage_seconds
    lines = [
        (
            "this run",
            f"{report.record_count:,} records, {report.rows_per_second:,.1f} rows/s on {report.device}",
        ),
        (
            "tokens",
            f"{report.token_count:,} in {report.distinct_text_count:,} distinct texts, "
            f"{report.padding_share:.1%} padding",
        ),
        (
            "seconds in",
            f"reading {stage.reading:.1f}, tokenizing {stage.tokenizing:.1f}, forward {stage.forward:.1f}, "
            f"writing {stage.writing:.1f} (side by side)",
        ),
    ]
    if report.split_count:
        lines.append(("out of memory", f"{report.split_count:,} batches halved"))
    if report.rerun_count:
        lines.append(("not finite", f"{report.rerun_count:,} texts run again in fp32"))
    return lines


def _shares(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{label} {count / total:.1%}" for label, count in counts.items()) if total else "none"
