"""The head of the page, and at its end what was scored with what: settings, shards, runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from batchsent.calibration import asked_by
from batchsent.html_report.elements import LABELS_SHOWN, Rows, moment, percent
from batchsent.html_report.quality import Quality
from batchsent.html_report.sources import Findings
from batchsent.html_report.speed import rate_of
from batchsent.identity import Identity
from batchsent.options import option_name
from batchsent.reporting.progress import spoken_seconds
from batchsent.reporting.ranks import lines_of_ranks
from batchsent.reporting.run_report import RunReport

SHARDS_SHOWN = 100
RUNS_SHOWN = 50

_STATES = {
    "published": "good",
    "not published": "bad",
    "held back": "bad",
    "failed": "bad",
    "running": "busy",
    "stopped": "busy",
}


@dataclass(frozen=True)
class Head:
    """What a person wants to know first."""

    state: str
    tone: str
    message: str
    """Why it is not what was wanted, and what to do."""
    ranks: str
    numbers: list[tuple[str, str, str]]
    """(name, number, what it is of)"""


def head_of(findings: Findings, quality: Quality | str | None) -> Head:
    """State and key figures."""
    state = findings.standing.state
    word = next((known for known in _STATES if state.startswith(known)), state)
    totals = findings.totals
    records, rows = totals["record_count"], totals["row_count"]
    rejected, cut = sum(totals["reject_counts"].values()), totals["truncated_count"]
    numbers = [
        ("records", f"{records:,}", f"in {shards_line(findings)}"),
        ("scored", f"{rows:,}", f"{percent(rows, records)} of the records"),
        ("rejected", f"{rejected:,}", f"{percent(rejected, records)} of the records"),
        ("truncated", percent(cut, rows), f"{cut:,} text{'s' * (cut != 1)} cut"),
    ]
    runs = findings.scoring_runs
    if runs:
        numbers.append(("records/s", f"{rate_of(runs):,.0f}", f"on {', '.join(sorted({run.device for run in runs}))}"))
    if isinstance(quality, Quality):
        numbers.append(("accuracy", f"{quality.accuracy:.1%}", f"of {quality.row_count:,} labelled rows"))
    return Head(
        state=word,
        tone=_STATES.get(word, "busy"),
        message=state.removeprefix(f"{word}: ") if state != word else "",
        ranks=lines_of_ranks(findings.standing.ranks)[0][1] if findings.standing.ranks else "",
        numbers=numbers,
    )


def shards_line(findings: Findings) -> str:
    """How many shards there are, and how many of them are not finished."""
    done, failed = len(findings.shards), len(findings.failed)
    count = done + failed
    if findings.standing.manifest is None and findings.standing.run is not None:
        count = max(count, findings.standing.run.shard_count)
    line = f"{count:,} shard{'s' * (count != 1)}"
    if failed:
        line += f", {failed:,} failed"
    return line + (f", {count - done - failed:,} not finished" if count > done + failed else "")


# --- what was scored with what


def facts_of(findings: Findings) -> list[tuple[str, list[str]]]:
    """(name, lines)"""
    identity, runs = findings.identity, findings.runs
    inputs, audit = findings.inputs, findings.standing.manifest and findings.standing.manifest.audit
    facts = [
        ("directory", [str(findings.store.root)]),
        ("input", [*inputs[:10], *([f"and {len(inputs) - 10:,} more"] if len(inputs) > 10 else [])]),
        ("text column", [identity.text_column]),
        ("label column", [identity.label_column or ""]),
        ("model", [identity.model]),
        ("version", [identity.model_version]),
        ("labels", [_shortened_list(identity.labels)]),
        ("asked by", [asked_by(identity.prompt, identity.verbalizers, is_calibrated=identity.calibrate_prompt) or ""]),
        ("temperature", [f"{identity.temperature:g}" if identity.temperature else ""]),
        ("precision", [f"{identity.precision}, by {identity.backend}, {identity.batching} batches"]),
        ("longest text", [f"{identity.max_length:,} tokens; longer ones: {_long_text(identity)}"]),
        ("audit", [f"{audit}, each alone in fp32" if audit else ""]),
        ("machine", _machines([run for run, _ in runs])),
        ("versions", _versions([run for run, _ in runs])),
    ]
    return [(name, lines) for name, found in facts if (lines := [line for line in found if line])]


def _long_text(identity: Identity) -> str:
    if identity.long_text != "window":
        return "cut there"
    return f"windows that share {identity.window_overlap} tokens, {identity.window_aggregate}"


def _machines(runs: list[RunReport]) -> list[str]:
    found = Counter(f"{run.host}: {run.device}" for run in runs if run.device)
    lines = [
        f"{machine} ({count:,} run{'s' * (count != 1)})" if len(runs) > 1 else machine
        for machine, count in found.most_common(5)
    ]
    return [*lines, *([f"and {len(found) - 5:,} more"] if len(found) > 5 else [])]


def _versions(runs: list[RunReport]) -> list[str]:
    if not runs:
        return []
    newest = runs[0].versions
    others = sorted({f"{n} {v}" for run in runs[1:] for n, v in run.versions.items() if newest.get(n) != v})
    lines = [", ".join(f"{name} {version}" for name, version in newest.items())]
    return [*lines, *([f"earlier runs: {', '.join(others[:20])}"] if others else [])]


def settings_of(identity: Identity) -> Rows:
    """Every setting that decides the numbers, as config.json has it."""
    values = {f.name: getattr(identity, f.name) for f in fields(identity)}
    files = values.pop("model_files")
    settings = [(option_name(name), _shown(value)) for name, value in values.items()]
    return [*settings, *((f"model file {name}", sha256) for name, sha256 in files.items())]


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _shortened_list(items: Sequence[str]) -> str:
    more = f", and {len(items) - LABELS_SHOWN:,} more" if len(items) > LABELS_SHOWN else ""
    return ", ".join(items[:LABELS_SHOWN]) + more


# --- shards and runs


def shard_rows(findings: Findings) -> Rows:
    """(name, records, scored, rejected, share, truncated) of the shards of which most was rejected."""
    entries = sorted(findings.shards, key=lambda e: (-sum(e.reject_counts.values()) / max(1, e.record_count), e.shard))
    return [
        (
            entry.shard,
            f"{entry.record_count:,}",
            f"{entry.row_count:,}",
            f"{sum(entry.reject_counts.values()):,}",
            percent(sum(entry.reject_counts.values()), entry.record_count),
            percent(entry.truncated_count, entry.row_count),
        )
        for entry in entries[:SHARDS_SHOWN]
    ]


def run_rows(findings: Findings) -> Rows:
    """(begun, state, who, records, records a second, time), the newest first."""
    rows: Rows = []
    for run, _ in findings.runs[:RUNS_SHOWN]:
        where = " · ".join(filter(None, [run.host, run.device, f"rank {run.rank}" * (run.world_size > 1)]))
        rate = f"{run.rows_per_second:,.0f}" if run.record_count else "–"
        rows.append(
            (moment(run.started_at), run.state, where, f"{run.record_count:,}", rate, spoken_seconds(run.seconds))
        )
    return rows
