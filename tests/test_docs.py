"""The documentation is true: its commands run, its map names every file, its tables are those of the code."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
NOT_RUN = "# not run by the tests: "


def commands(path: Path) -> list[str]:
    """The lines of a page's shell blocks."""
    return [line for block in FENCE.findall(path.read_text(encoding="utf-8")) for line in block.splitlines() if line]


def load(path: Path) -> ModuleType:
    """A script of the repository as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.process
def test_the_commands_of_the_readme_run_in_an_empty_folder(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples/reviews/shop-2026-11-01.csv", tmp_path / "reviews.csv")
    shutil.copytree(ROOT / "examples/reviews", tmp_path / "dumps")
    lines = commands(ROOT / "README.md")
    run = [line for line in lines if line.startswith("batchsent ") and NOT_RUN not in line]
    assert len(run) >= 5
    for line in run:
        words = shlex.split(line)[1:]
        result = subprocess.run(
            [sys.executable, "-m", "batchsent", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        assert "Traceback" not in result.stderr
    assert (tmp_path / "scored/_SUCCESS").exists()
    assert (tmp_path / "scored-dumps/2026-11-02/shop.parquet").exists()


def test_every_other_command_of_the_readme_says_why_it_is_not_run() -> None:
    for line in commands(ROOT / "README.md"):
        is_ours = line.startswith(("batchsent ", "make ", "git "))
        assert is_ours or NOT_RUN in line, line


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        named = {target for line in commands(page) for target in re.findall(r"^make ([a-z-]+)", line)}
        assert named <= targets, page


def test_the_file_map_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("<!-- file map")[1].split("<!-- end of file map -->")[0]
    named = set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert named - modules == {"src/batchsent/models/embedded/", "src/batchsent/models/calibration_texts.txt"}
    assert modules - named == set()


def test_the_tables_of_options_are_those_of_the_code() -> None:
    page = load(ROOT / "docs/options_table.py")
    for path, config in page.PAGES.items():
        text = path.read_text(encoding="utf-8")
        assert text == page.updated(text, config), "run: python docs/options_table.py"


def test_the_measured_numbers_are_those_that_were_recorded() -> None:
    page = load(ROOT / "benchmarks/tables.py")
    for written in page.PAGES:
        text = written.read_text(encoding="utf-8")
        assert text == page.updated(text), "run: python benchmarks/tables.py"
    for path in (ROOT / "benchmarks/results").glob("*.json"):
        environment = json.loads(path.read_bytes())["environment"]
        assert {"date", "cpu", "cores", "versions", "command"} <= environment.keys(), path


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    for page in (*pages, *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_promise_of_security_names_tests_and_every_such_test_is_named() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| | shown by")]
    assert len(promises) > 15
    for promise in promises:
        assert re.search(r"`test_\w+`", promise), promise
    defined = set()
    for path in (ROOT / "tests/security").glob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named - defined == set()
    # These keep the others honest; they are no promise of their own.
    assert defined - named == {
        "test_what_is_left_of_a_uri_still_names_the_place",
        "test_the_text_of_a_walk_is_printed_and_nowhere_else",
        "test_what_is_pinned_is_what_is_asked_for",
    }
