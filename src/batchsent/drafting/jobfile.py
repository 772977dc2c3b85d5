"""A draft as a commented TOML file, in which every option of ``score`` stands, set or with its default.

Holds names of files and columns, types and counts; no value of a record.
"""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import Field
from typing import Any

from batchsent.config import ScoreConfig
from batchsent.drafting.columns import Seen
from batchsent.drafting.draft import RECORDS_SAMPLED, Draft
from batchsent.options import INPUT, MACHINE, MODEL, QUALITY, SPEED, option_fields, option_name
from batchsent.stages.reader import Survey
from batchsent.suggestions import shortened
from batchsent.toml import toml_value

_WIDTH = 100
_SETTING_WIDTH = 32
_COLUMNS_SHOWN = 50
_FILES_SHOWN = 3

_EXAMPLES = {
    "delimiter": ";",
    "limit": 1_000,
    "window_overlap": 128,
    "max_drift": 0.25,
    "baseline": "earlier/_batchsent/manifest.json",
    "calibration": "judged/calibration.json",
    "ray_address": "10.0.0.5:6379",
    "replicas": "1:8",
    "gpus_per_replica": 1,
    "report": "report.html",
    "metrics_file": "batchsent.prom",
}
"""Where what the help calls it is not what a value looks like."""

_PURPOSES = {
    INPUT: "What is read, and which of its columns are copied beside the label.",
    MODEL: "What scores, and how much of a text it reads.",
    SPEED: "Like everything above, these decide the numbers: the first run in `output` settles every "
    '"auto", and other values are refused later, until `output` is another directory or --restart is given.',
    QUALITY: "What may be published (else exit 3, and 4 for drift). May change from run to run.",
    MACHINE: "Where it runs and what it says meanwhile; never changes what is written.",
}


def job_file(draft: Draft, path: str) -> str:
    """The file that ``batchsent score --config PATH`` runs."""
    lines = [*_head(draft, path), ""]
    options = option_fields(ScoreConfig)
    for group, purpose in _PURPOSES.items():
        lines += [f"# --- {group} {'-' * (_WIDTH - len(group) - 7)}", *_comment(purpose), ""]
        if group == INPUT:
            lines += [f"input = {toml_value(list(draft.inputs))}", f"output = {toml_value(draft.output)}"]
        if group == MODEL and draft.is_foreign:
            lines += _comment(
                "Most letters of the texts are not Latin, and the model below reads English only: name another one."
            )
        for definition in options:
            if definition.metadata["group"] == group:
                lines += _setting(definition, draft)
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _head(draft: Draft, path: str) -> Iterator[str]:
    yield "# A job file, written by `batchsent init`: what `batchsent score` is asked for, by the names of its options."
    yield "#"
    yield f"#   batchsent score --config {shlex.quote(path) if path.isprintable() else 'FILE'}"
    yield "#"
    yield "# The command line wins over this file, and relative paths start where the command runs. Lines that are"
    yield "# commented out show the default or, where there is none, what a value may look like."
    yield "#"
    yield from _comment(_seen(draft))
    yield "#"
    yield from _table(draft)
    for what, surveys in draft.misfits().items():
        if surveys:
            yield "#"
            yield from _comment(f"{_named(surveys)} {what}: `score` will report that and end with exit 3.")


def _seen(draft: Draft) -> str:
    kinds = Counter(shard.format + shard.compression for shard in draft.shards)
    count, looked_at = len(draft.shards), len(draft.surveys)
    said = [f"{count:,} file{'s' * (count != 1)} ({', '.join(f'{n:,} {kind}' for kind, n in kinds.items())})"]
    said.append(f"{sum(shard.size_bytes for shard in draft.shards):,} bytes")
    if looked_at < count:
        said.append(f"{looked_at:,} of them looked at")
    rows = [survey.record_count for survey in draft.surveys if survey.record_count is not None]
    if rows:
        said.append(f"{sum(rows):,} rows" + ("" if len(rows) == count else " in those whose footer tells it"))
    else:
        said.append("rows not counted: some files were not read to their end")
    sampled = sum(survey.sampled_count for survey in draft.surveys)
    return f"Input: {'; '.join(said)}. Columns by {sampled:,} records, at most {RECORDS_SAMPLED} of a file:"


def _table(draft: Draft) -> Iterator[str]:
    rows = [(toml_value(shortened(column.name)), *_described(column, draft)) for column in draft.columns]
    shown = rows[:_COLUMNS_SHOWN]
    widths = [max((len(row[index]) for row in shown), default=0) for index in (0, 1)]
    for name, types, rest in shown:
        yield f"#   {name:<{widths[0]}}  {types:<{widths[1]}}  {rest}".rstrip()
    if len(rows) > len(shown):
        yield f"#   ... and {len(rows) - len(shown):,} more"


def _described(column: Seen, draft: Draft) -> tuple[str, str]:
    said = []
    if column.mean_bytes and column.is_wordy:
        said.append(f"{column.mean_bytes:,.0f} bytes on average")
    elif column.filled_count:
        said.append(f"{column.distinct_count:,} different values in {column.filled_count:,}")
    readable = sum(bool(survey.columns) for survey in draft.surveys)
    if column.shard_count < readable:
        said.append(f"in {column.shard_count:,} of {readable:,} files")
    if column.is_repeated:
        said.append("twice in a file: no option can name it")
    if column.name == draft.text:
        said.append("the text")
    return " or ".join(column.types) or "empty", ", ".join(said)


def _named(surveys: Sequence[Survey]) -> str:
    names = [toml_value(survey.shard.name) for survey in surveys]
    more = len(names) - _FILES_SHOWN
    return ", ".join(names[:_FILES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _setting(definition: Field[Any], draft: Draft) -> list[str]:
    """An option's lines: what the draft says of it, else its default as a comment."""
    name, rule = definition.name, definition.metadata
    said = {
        "text_column": draft.text,
        "encoding": draft.encoding,
        "delimiter": draft.delimiter,
        "keep": list(draft.keep) or None,
    }.get(name)
    help_text = rule["help"]
    if rule["choices"]:
        help_text += f" One of {', '.join(rule['choices'])}."
    key = option_name(name)
    if said is not None:
        return _line(f"{key} = {toml_value(said)}", help_text)
    if name == "label_column" and draft.label is not None:
        return _line(f"# {key} = {toml_value(draft.label)}", f"{help_text} This one may be it.")
    shown = toml_value(_example(definition) if definition.default is None else definition.default)
    return _line(f"# {key} = {shown}", help_text)


def _example(definition: Field[Any]) -> Any:
    """What a value may look like where there is no default."""
    rule = definition.metadata
    if rule["choices"]:
        return rule["choices"][0]
    return _EXAMPLES.get(definition.name, rule["metavar"])


def _line(setting: str, comment: str) -> list[str]:
    """A setting with its comment beside it, or above it if it is too long for that."""
    if len(setting) >= _SETTING_WIDTH:
        return [*_comment(comment), setting]
    first, *rest = textwrap.wrap(comment, _WIDTH - _SETTING_WIDTH, break_on_hyphens=False)
    return [f"{setting:<{_SETTING_WIDTH}}# {first}", *(f"{'#':<{_SETTING_WIDTH}}# {line}" for line in rest)]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)]
