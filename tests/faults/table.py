"""Writes the table of docs/reliability.md from what ``make faults`` left: python tests/faults/table.py

Sums up ``.faults/`` into ``results.json`` beside this file, which is committed, and the table from that. A test that
left nothing there keeps its entry, with the date and the versions that it was counted with.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
LOGS = HERE.parents[1] / ".faults"
PAGE = HERE.parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- results: written by tests/faults/table.py -->\n", "<!-- end of results -->"


def summarized(logs: Path, earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An entry a test: of ``logs``, and of ``earlier`` those that have no log."""
    sys.path.insert(0, str(HERE.parents[1] / "src"))
    from batchsent.machine import available_cores
    from batchsent.reporting.run_report import library_versions

    where = f"{available_cores()} cores, {platform.system()} {platform.machine()}"
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    entries = {entry["test"]: entry for entry in earlier}
    for log in logs.glob("*.jsonl"):
        date = f"{datetime.fromtimestamp(log.stat().st_mtime, UTC):%Y-%m-%d}"
        entries[log.stem] = {**_entry(log), "date": date, "conditions": f"{where}; {versions}"}
    return sorted(entries.values(), key=lambda entry: (entry["fault"], entry["test"]))


def _entry(log: Path) -> dict[str, Any]:
    about, *lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    last = {line["case"]: line for line in lines}  # a case that failed was injected again
    cost = {name: sum(line[name] for line in last.values()) for name in ("lost", "duplicated", "differing_bytes")}
    return {**about, "injected": len(last), "survived": sum(line["survived"] for line in last.values()), **cost}


def table(entries: list[dict[str, Any]]) -> str:
    """As Markdown; a fault that was not injected as often as planned says so."""
    lines = [
        "| # | fault | test | injected | survived | lost | duplicated | differing bytes | date |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        injected = f"{entry['injected']:,}" + (f" of {entry['count']:,}" if entry["injected"] < entry["count"] else "")
        numbers = (entry["survived"], entry["lost"], entry["duplicated"], entry["differing_bytes"])
        cells = [str(entry["fault"]), f"{entry['title']} ({entry['kind']})", f"`{entry['test']}`", injected]
        lines.append(f"| {' | '.join([*cells, *(f'{number:,}' for number in numbers), entry['date']])} |")
    conditions = sorted({entry["conditions"] for entry in entries})
    return "\n".join([*lines, "", *(f"`make faults`, {condition}." for condition in conditions), ""])


def updated(page: str, entries: list[dict[str, Any]]) -> str:
    """``page`` with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + table(entries) + "\n" + END + after


if __name__ == "__main__":
    if not LOGS.is_dir():
        raise SystemExit(f"{LOGS} does not exist; expected what 'make faults' leaves; run that first")
    found = summarized(LOGS, json.loads(RESULTS.read_text(encoding="utf-8")))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
