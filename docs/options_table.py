"""Writes the tables of options into guide.md and finetuning.md, from the one list of each command's.

python docs/options_table.py
"""

from __future__ import annotations

from dataclasses import Field
from pathlib import Path
from typing import Any

from batchsent.config import ScoreConfig
from batchsent.options import option_fields, option_name
from batchsent.training.recipe import FinetuneConfig

PAGES = {Path(__file__).parent / "guide.md": ScoreConfig, Path(__file__).parent / "finetuning.md": FinetuneConfig}
BEGIN, END = "<!-- options: written by docs/options_table.py -->\n", "<!-- end of options -->"


def tables(config: type) -> str:
    """A table for each group, in the order of the fields."""
    lines: list[str] = []
    group = None
    for definition in option_fields(config):
        if definition.metadata["group"] != group:
            group = definition.metadata["group"]
            lines += ["", f"**{group}**", "", "| option | default | kind | |", "|---|---|---|---|"]
        lines.append(_row(definition))
    return "\n".join(lines) + "\n\n"


def _row(definition: Field[Any]) -> str:
    rule, name = definition.metadata, definition.name
    argument = "|".join(rule["choices"]) or rule["metavar"]
    default = "" if definition.default in (None, (), False) else f"`{definition.default}`"
    usage = f"--{option_name(name)} {argument}".rstrip().replace("|", "\\|")
    return f"| `{usage}` | {default} | {rule['kind']} | {rule['help'].replace('|', chr(92) + '|')} |"


def updated(text: str, config: type) -> str:
    """``text`` with the tables of today between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tables(config) + END + after


if __name__ == "__main__":
    for page, of in PAGES.items():
        page.write_text(updated(page.read_text(encoding="utf-8"), of), encoding="utf-8")
