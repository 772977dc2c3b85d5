"""Writes the recorded results into docs/benchmarks.md and the other pages of PAGES.

    python benchmarks/tables.py

A table stands between two marks that name its result; the text around the marks is written by hand.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_tables
from contenders import table
from contenders.summary import result_name

HERE = Path(__file__).parent
NAMES = ("benchmarks", "models", "scaling", "explanation/sorting-and-packing")
MODELS = ("distilbert", "embedded")
PAGES = tuple(HERE.parent / "docs" / f"{name}.md" for name in NAMES)
MARKED = re.compile(r"(<!-- result: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NAMED = (
    *("torch", "transformers", "pyarrow", "python"),
    *("openvino", "nncf", "onnxruntime", "onnx", "onnxscript", "sentence-transformers"),
    *("accelerate", "peft", "scikit-learn", "scipy", "simpy"),
)
"""Versions that stand below a table, where they were recorded."""

Result = dict[str, Any]


def updated(text: str) -> str:
    """``text`` with every marked table as the recorded results have it; what was not measured stays as it is."""
    return MARKED.sub(lambda match: match[1] + (_section(match[2]) or match[3]) + match[4], text)


def _section(name: str) -> str | None:
    path = HERE / "results" / f"{name}.json"
    if not path.exists():
        return None
    result: Result = json.loads(path.read_bytes())
    return "\n".join([*TABLES[name](result), "", _environment(result["environment"]), ""])


def _environment(found: Result) -> str:
    versions = found["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in NAMED if name in versions)
    bf16 = "" if found["native_bf16"] else "no "
    slower = ", slower than fp32" if found["native_bf16"] and not found.get("faster_bf16", True) else ""
    machine = f"{found['cores']} cores of {found['cpu']} ({bf16}native bf16{slower})"
    return f"`{found['command']}`, {found['date']}, {machine}, {named}."


def _equality(result: Result) -> list[str]:
    lines = [
        "| model | texts | by | precision | largest difference | same label "
        "| where the two best differ by more than 0.02 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        clear = row["same_labels_where_margin_above_0.02"]
        lines.append(
            f"| {row['model']} | {row['texts']:,} | {row['backend']} | {row['precision']} "
            f"| {row['largest_difference']:.1e} | {row['same_labels']:.2%} | {clear:.2%} |"
        )
    return lines


def _memory(result: Result) -> list[str]:
    lines = ["| input | peak of all processes | job | reader | tokenizers | ratio |", "|---|---|---|---|---|---|"]
    for row in result["rows"]:
        for size in ("small", "large"):
            peak = row[size]
            roles = " | ".join(f"{peak['by_role_mb'].get(role, 0):,.0f} MB" for role in ("job", "reader", "tokenizers"))
            ratio = f"{row['ratio']:.3f}" if size == "large" else ""
            lines.append(
                f"| {peak['size_mb']:,.0f} MB {row['format']} | {peak['total_mb']:,.0f} MB | {roles} | {ratio} |"
            )
    return lines


def _overhead(result: Result) -> list[str]:
    lines = ["| bare forward passes | whole job | ratio |", "|---|---|---|"]
    lines += [
        f"| {pair['bare_seconds']:.1f} s | {pair['job_seconds']:.1f} s | {pair['ratio']:.3f} |"
        for pair in result["pairs"]
    ]
    return [*lines, "", f"Median ratio **{result['median_ratio']:.3f}** over {result['rows']:,} texts."]


def _kills(result: Result) -> list[str]:
    lines = ["| | |", "|---|---|"]
    names = {
        "kills": "kills with SIGKILL",
        "runs": "runs",
        "touched_parts": "committed parts that a later run touched",
        "temporary_files_left": "temporary files left",
    }
    lines += [f"| {text} | {result[name]} |" for name, text in names.items()]
    return [*lines, f"| files that differ from the uninterrupted run's | {len(result['differing_files'])} |"]


def _startup(result: Result) -> list[str]:
    lines = ["| whole process | median | largest |", "|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['median_seconds']:.2f} s | {row['largest_seconds']:.2f} s |" for row in result["rows"]
    ]
    return lines


def _planning(result: Result) -> list[str]:
    lines = [
        "| shards | records | parts | share of a rank of eight | seconds | of the processors | peak | job | reader |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        roles = " | ".join(f"{row['by_role_mb'].get(role, 0):,.0f} MB" for role in ("job", "reader"))
        share = f"{row['smallest_share']:,} to {row['largest_share']:,} parts"
        lines.append(
            f"| {row['shards']:,} | {row['records']:,} | {row['parts']:,} | {share} | {row['seconds']:.1f} "
            f"| {row['processor_seconds']:.1f} | {row['peak_mb']:,.0f} MB | {roles} |"
        )
    return lines


def _plan_accuracy(result: Result) -> list[str]:
    lines = [
        "| texts | rows | planned | took | off | tokens off | padding, found | again, found | planning |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        planned = row["planned"]
        lines.append(
            f"| {row['texts']} | {row['rows']:,} "
            f"| {planned['expected']:.0f} s ({planned['low']:.0f} to {planned['high']:.0f}) | {row['seconds']:.0f} s "
            f"| **{row['off']:+.1%}** | {row['planned_tokens'] / row['tokens'] - 1:+.1%} "
            f"| {row['planned_padding']:.1%}, {row['padding']:.1%} "
            f"| {row['planned_duplicates']:.1%}, {row['duplicates']:.1%} | {row['planning_seconds']:.0f} s |"
        )
    return lines


def _gpu_busy(result: Result) -> list[str]:
    lines = [
        "| precision | batching | reviews/s | tokens/s | scoring | whole run | GPU busy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        seconds = row["scoring_seconds"]
        lines.append(
            f"| {row['precision']} | {row['batching']} | **{row['records'] / seconds:,.0f}** "
            f"| {row['tokens'] / seconds:,.0f} | {seconds:.1f} s | {row['seconds']:.1f} s | {row['busy']:.0%} |"
        )
    records, tokens = result["rows"][0]["records"], result["rows"][0]["tokens"]
    return [*lines, "", f"{records:,} reviews of {tokens / records:.0f} tokens on average, on one {result['gpu']}."]


def _pass_profile(result: Result) -> list[str]:
    kinds = list(result["rows"][0]["device_seconds"])
    lines = [
        f"| precision | passes | ms a pass | begun by the host in | device busy | {' | '.join(kinds)} | first pass |",
        f"|---|---|---|---|---|{'---|' * len(kinds)}---|",
    ]
    for row in result["rows"]:
        times = [row["seconds"], row["starting_seconds"], *row["device_seconds"].values()]
        whole, starting, *by_kind = (1_000 * seconds / row["passes"] for seconds in times)
        shares = " | ".join(f"{ms:.2f}" for ms in by_kind)
        lines.append(
            f"| {row['precision']} | {row['variant']} | **{whole:.1f}** | {starting:.1f} "
            f"| {sum(by_kind) / whole:.0%} | {shares} | {row['first_seconds']:.1f} s{_again(row)} |"
        )
    first = result["rows"][0]
    where = f", on one {result['gpu']}" if result["gpu"] else ""
    tokens = f"{first['passes']} passes of {first['tokens'] / first['passes']:,.0f} tokens on average"
    return [*lines, "", f"{result['model']}, {tokens} ({first['precision']}, {first['variant']}){where}."]


def _again(row: dict[str, Any]) -> str:
    seconds = row["first_seconds_again"]
    return "" if seconds is None else f", in the next process {seconds:.1f} s"


def _budget(result: Result) -> list[str]:
    budgets = list(result["rows"][0]["tokens_per_second"])
    heads = [f"{int(budget):,}" for budget in budgets]
    lines = [f"| tokens/s at | | | {' | '.join(heads)} |", f"|---|---|---|{'---|' * len(budgets)}"]
    for row in result["rows"]:
        rates = " | ".join(f"{row['tokens_per_second'][budget]:,.0f}" for budget in budgets)
        lines.append(f"| {row['model']} | {row['backend']} | {row['precision']} | {rates} |")
    return lines


def _gelu(result: Result) -> list[str]:
    lines = [
        "| tokens/s, median (slowest to fastest) | GELU within | GELU apart | times as fast |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        rates = (row["within"], row["apart"])
        cells = [f"{statistics.median(each):,.0f} ({min(each):,.0f} to {max(each):,.0f})" for each in rates]
        lines.append(f"| {row['model']} | {' | '.join(cells)} | **{row['median_ratio']:.3f}** |")
    return [*lines, "", f"{result['texts']} texts, {len(result['rows'][0]['apart'])} rounds."]


def _tokenizing(result: Result) -> list[str]:
    lines = [
        "| tokens/s of a core | count | tokens each | `tokenizer(texts)` | `encode_batch_fast` | batchsent | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        rates = " | ".join(f"{rate:,.0f}" for rate in row["tokens_per_second"].values())
        lines.append(
            f"| {row['texts']} | {row['count']:,} | {row['tokens_per_text']:.0f} | {rates} "
            f"| **{row['median_ratio']:.1f}** ({row['smallest_ratio']:.1f} to {row['largest_ratio']:.1f}) |"
        )
    equality = result["equality"]
    differing = f"{equality['with_other_ids']} with other ids, {equality['with_other_flag']} with another flag"
    return [*lines, "", f"Of {equality['texts']:,} texts: {differing}."]


def _accuracy(result: Result) -> list[str]:
    lines = [
        "| data | rows | by | precision | accuracy | labels as in fp32 | mean difference | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['data']} | {row['rows']:,} | {row['backend']} | {row['precision']} | {row['accuracy']:.2%} "
        f"| {row['same_labels']:.2%} | {row['mean_difference']:.4f} | {row['largest_difference']:.3f} |"
        for row in result["rows"]
    ]


def _growth(result: Result) -> list[str]:
    lines = ["![How the cost grows](images/growth.svg)", ""]
    for name, rows in result["axes"].items():
        if name != "resume":
            lines += [f"| {GROWTH[name]} | rows | seconds, median (range) | rows/s | peak of all processes |"]
            lines += ["|---|---|---|---|---|", *map(_growth_line, rows), ""]
    lines += ["| resumed with so much committed | left | seconds | its share | more than that, median (range) |"]
    return [*lines, "|---|---|---|---|---|", *map(_resume_line, result["axes"]["resume"])]


def _growth_line(row: Result) -> str:
    spread = f"{row['seconds']:.2f} ({row['fastest_seconds']:.2f} to {row['slowest_seconds']:.2f})"
    rate = f"{row['rows'] / row['seconds']:,.0f}"
    return f"| {row['x']:,} | {row['rows']:,} | {spread} | {rate} | {row['peak_mb']:,.0f} MB |"


def _resume_line(row: Result) -> str:
    more = f"{row['overhead']:+.1%} ({row['smallest_overhead']:+.1%} to {row['largest_overhead']:+.1%})"
    return f"| {row['x']:.0%} | {row['left']:.0%} | {row['seconds']:.2f} | {row['expected_seconds']:.2f} | {more} |"


def _scaling(result: Result) -> list[str]:
    lines = ["| processes | seconds | simulated | difference | efficiency |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['processes']} | {row['seconds']:.1f} | {row['simulated_seconds']:.1f} | {row['difference']:+.1%} "
        f"| {row['efficiency']:.1%} |"
        for row in result["checks"]
    ]
    lines += ["", "![Efficiency by the number of replicas](images/scaling.svg)", ""]
    lines += [
        "| engine | replicas | minutes | efficiency | until all devices are busy | after the last part | GPU-hours |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['engine']} | {row['replicas']} | {row['seconds'] / 60:,.1f} | **{row['efficiency']:.1%}** "
        f"| {row['first_part_seconds']:.0f} s | {row['seconds'] - row['last_part_seconds']:.1f} s "
        f"| {row['replicas'] * row['seconds'] / 3600:.1f} |"
        for row in result["nights"]
    ]


def _padding(result: Result) -> list[str]:
    lines = [f"| padding of | {' | '.join(result['texts'])} |", f"|---|{'---|' * len(result['texts'])}"]
    for row in result["rows"]:
        shares = " | ".join(f"{share:.1%}" for share in row["padding"].values())
        lines.append(f"| {row['way']} | {shares} |")
    counts = ", ".join(f"{count:,} {name}" for name, count in result["texts"].items())
    return [*lines, "", f"{counts}."]


GROWTH = {
    "rows": "times as many rows",
    "text_length": "words a text",
    "part_size": "rows a part",
    "labels": "labels",
    "duplicates": "share that repeat another",
}


def _audit(result: Result) -> list[str]:
    lines = [
        f"| {row['model']} | {row['data']} | {row['row_count']:,} | {row['backend']} | {row['precision']} "
        f"| {row['largest_difference']:.1e} | {row['changed_label_count']:,} | {row['limit']:g} |"
        for row in result["rows"]
    ]
    return [
        "| model | data | rows | by | precision | largest difference | labels changed | limit of `--audit` |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
    ]


TABLES: dict[str, Callable[[Result], list[str]]] = {
    **dict.fromkeys(("equality", "equality_without_bf16"), _equality),
    "accuracy": _accuracy,
    "audit": _audit,
    "memory": _memory,
    "overhead": _overhead,
    "kills": _kills,
    "startup": _startup,
    **dict.fromkeys(("budget", "budget_without_int8"), _budget),
    "gelu": _gelu,
    "planning": _planning,
    "plan_accuracy": _plan_accuracy,
    **dict.fromkeys(("gpu_busy", "gpu_busy_padded"), _gpu_busy),
    "pass_profile_cuda": _pass_profile,
    "tokenizing": _tokenizing,
    "growth": _growth,
    "padding": _padding,
    "scaling": _scaling,
    **{f"prompts_{language}": model_tables.prompts for language in ("en", "zh")},
    **{f"models_{study}": model_tables.trainings for study in ("grid", "trainings")},
    **{
        f"models_{study}": model_tables.evaluations
        for study in ("sst2", "what_to_train", "long_texts", "chinese", "calibration", "calibration_seen")
    },
    **{result_name(device, model): table.lines for device in ("cpu", "cuda") for model in MODELS},
    **{result_name("cpu", model, int8_dot_products=False): table.lines for model in MODELS},
}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")
