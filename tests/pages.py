"""Pages of the documentation as programs: their blocks run in order in one folder, and print what the page shows.

A block ``sh`` is run by bash, but for ``make`` and for lines that end with NOT_RUN and a reason. A block ``python``
that begins with an import is a whole program and runs too; another is an excerpt. The block without a language right
behind one of them is what it prints; a line ``...`` there stands for any lines, and a comment between the two blocks,
``<!-- varies: PATTERN -->``, says what another run prints otherwise. The folder is called HOME there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_RUN = "# not run by the tests: "
HOME = "/home/you"

LANGUAGES = {"sh", "python", "toml", "yaml", ""}
"""In which a page may write its blocks: what is to be run has one name, so that none escapes."""

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_VARIES_HERE = re.compile(r"\s*(?:<!-- varies: (.*?) -->\s*)?")
_LOG_LINE = re.compile(r"^\S+ \S+ (INFO|WARNING|ERROR) ")

_VARIES = re.compile(
    r"""
      [\d,.]+[ ]rows/s | \b(?:rows|tokens)/s[ ][\d.,]+       # how fast this machine is
    | \b(?:reading|tokenizing|forward|writing)[ ][\d.]+
    | \b[\d,.]+[ ](?:s|min|h)\b(?:[ ]\d+[ ]s\b)?
    | \b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[ ]?UTC|Z)?    # when it ran
    | \b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b                   # hashes, which hold settings of this machine
    | [\d,]+[ ]bytes                                       # last digits do not compress alike
    """,
    re.VERBOSE,
)
"""What another run prints otherwise, on every page."""

_DECIMAL = re.compile(r"-?\d[\d,]*\.\d+%?")


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    text: str
    is_behind_the_last: bool = False
    """Whether nothing but such a comment stands between the block before and this one."""
    varies: str | None = None
    """What the comment says."""


@dataclass(frozen=True)
class Step:
    """A program of a page, and what the page says that it prints."""

    program: tuple[str, ...]
    shown: str | None
    """None where the page does not say."""
    varies: str | None = None


def blocks(text: str) -> list[Block]:
    """All of a page, in order."""
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        between = _VARIES_HERE.fullmatch(text, end, match.start()) if found else None
        found.append(Block(match[1], match[2], between is not None, between[1] if between else None))
        end = match.end()
    return found


def commands(path: Path) -> list[str]:
    """The lines of a page's shell blocks."""
    shell = [block for block in blocks(path.read_text(encoding="utf-8")) if block.language == "sh"]
    return [line for block in shell for line in block.text.splitlines() if line]


def steps(text: str) -> Iterator[Step]:
    """What of a page is to be run."""
    found = blocks(text)
    for block, following in zip_longest(found, found[1:]):
        program = _program(block)
        if program and following and following.is_behind_the_last and not following.language:
            yield Step(program, following.text, following.varies)
        elif program:
            yield Step(program, None)


def _program(block: Block) -> tuple[str, ...]:
    if block.language == "python" and block.text.startswith(("import ", "from ")):
        return (sys.executable, "-c", block.text)
    lines = block.text.splitlines() if block.language == "sh" else []
    run = [line for line in lines if line and NOT_RUN not in line and not line.startswith("make ")]
    return ("bash", "-euo", "pipefail", "-c", "\n".join(run)) if run else ()


def run(text: str, folder: Path) -> None:
    """Run a page in ``folder``; raises AssertionError where a program fails or prints something else."""
    for step in steps(text):
        ended = subprocess.run(
            step.program,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1_800,  # a loop that waits for a run which has failed
            check=False,
        )
        printed = ended.stdout.replace(str(folder), HOME)
        told = f"{step.program[-1]}\n--- printed\n{printed}"
        assert ended.returncode == 0, f"exit {ended.returncode} of {told}"
        assert "Traceback" not in printed, told
        if step.shown is not None:
            assert is_as_shown(step.shown, printed, step.varies), f"{told}\n--- the page shows\n{step.shown}"


def _environment() -> dict[str, str]:
    """``batchsent`` and ``python`` are those of the tests, and compute on the CPU, as they did for the pages."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "utf-8"}
    return os.environ | ours


def is_as_shown(shown: str, printed: str, varies: str | None = None) -> bool:
    """Whether a program has printed what its page shows, but for what varies and for the last digits of a decimal.

    Another kind of CPU rounds otherwise. Log lines count only where the page shows some: a terminal has a bar instead.
    """
    wanted, found = _lines(shown, varies), _lines(printed, varies)
    if not any(map(_LOG_LINE.match, shown.splitlines())):
        found = _lines("\n".join(line for line in printed.splitlines() if not _LOG_LINE.match(line)), varies)
    return _match(wanted, found)


def _lines(text: str, varies: str | None) -> list[str]:
    """Without blank lines, the frames of tables, and what varies."""
    spaced = (" ".join(re.sub(r"[─-╿]+", " ", line).split()) for line in text.splitlines())
    here = re.compile(varies) if varies else _VARIES
    return [_VARIES.sub("~", here.sub("~", line)) for line in spaced if line]


def _match(wanted: Sequence[str], found: Sequence[str]) -> bool:
    if not wanted:
        return not found
    if wanted[0] == "...":
        return any(_match(wanted[1:], found[start:]) for start in range(len(found) + 1))
    return bool(found) and _is_same(wanted[0], found[0]) and _match(wanted[1:], found[1:])


def _is_same(wanted: str, found: str) -> bool:
    if _DECIMAL.sub("#", wanted) != _DECIMAL.sub("#", found):
        return False
    return all(map(_is_near, _DECIMAL.findall(wanted), _DECIMAL.findall(found)))


def _is_near(wanted: str, found: str) -> bool:
    tolerance = 1.0 if wanted.endswith("%") else 0.02
    first, second = (float(number.rstrip("%").replace(",", "")) for number in (wanted, found))
    return wanted.endswith("%") == found.endswith("%") and abs(first - second) <= tolerance
