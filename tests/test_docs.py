"""The documentation is true: its commands run, its map names every file, its tables are those of the code."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGTERM
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
import yaml

import batchsent
import pages
from batchsent import errors, schema
from batchsent.objects.access import file_system
from pages import NOT_RUN, ROOT, commands
from writers import make_gpt2, make_t5

EXAMPLES = ROOT / "examples/reviews"
SHOP = EXAMPLES / "shop-2026-11-01.csv"
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "jobs/**/*.md", "examples/*.md") for path in ROOT.glob(pattern)
)
TRANSLATIONS = {"README.zh-CN.md": "README.md", "docs/lesson.zh-CN.md": "docs/lesson.md"}

Given = Callable[[Path], object]


def copy(source: Path) -> Given:
    """A file or folder of the repository."""
    return lambda path: shutil.copytree(source, path) if source.is_dir() else shutil.copy(source, path)


def labelled(path: Path) -> None:
    """The short ones of the example reviews, with what their stars say in words."""
    words = {"1": "NEGATIVE", "2": "NEGATIVE", "4": "POSITIVE", "5": "POSITIVE"}
    with SHOP.open(encoding="utf-8", newline="") as source:
        rows = [row for row in csv.DictReader(source) if 0 < len(row["text"]) < 120]
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, ["text", "stars", "sentiment", "label"])
        writer.writeheader()
        for row in rows:
            word = words.get(row["stars"], "")
            writer.writerow({"text": row["text"], "stars": row["stars"], "sentiment": word, "label": word})


def folder_of(source: Path) -> Given:
    """A folder with a file of the repository in it."""

    def make(path: Path) -> None:
        path.mkdir()
        shutil.copy(source, path)

    return make


def scored(path: Path) -> None:
    """What the commands of README.md make of the example reviews."""
    batchsent.score(path.parent / "reviews.csv", output=path, progress="none")


GIVEN: dict[str, dict[str, Given]] = {
    "README.md": {"reviews.csv": copy(SHOP), "dumps": copy(EXAMPLES)},
    "docs/explanation/commit-protocol.md": {"reviews.csv": copy(SHOP)},
    "docs/finetuning.md": {"reviews.csv": labelled},
    "docs/guide.md": {
        "reviews.csv": labelled,
        "dumps": copy(EXAMPLES),
        "one-half.csv": labelled,
        "other-half.csv": labelled,
        "monday": folder_of(SHOP),
        "tuesday": folder_of(EXAMPLES / "2026-11-02/shop.parquet"),
    },
    "docs/howto/chinese.md": {"models/gpt": make_gpt2},
    "docs/howto/kaggle-csv.md": {"huge.csv": labelled},
    "docs/howto/own-labels.md": {"reviews.csv": labelled, "held-out.csv": labelled},
    "docs/howto/prompts.md": {
        "reviews.csv": copy(SHOP),
        "labelled.csv": labelled,
        "models/t5": make_t5,
        "models/gpt": make_gpt2,
    },
    "docs/index.md": {"reviews.csv": copy(SHOP)},
    "docs/lesson.md": {"reviews.csv": copy(SHOP)},
    "docs/reference/files.md": {"reviews.csv": copy(SHOP), "scored": scored},
    "docs/reference/job-files.md": {"dumps": copy(EXAMPLES)},
    "docs/reference/output.md": {"reviews.csv": copy(SHOP), "scored": scored},
    "docs/reference/python.md": {"reviews.csv": labelled},
}
"""Page → what lies in the folder before its first command: what the page takes for the reader's own."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def load(path: Path) -> ModuleType:
    """A script of the repository as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


S3 = "docs/howto/s3.md"
RUN = [
    page
    for page in PAGES
    if name_of(page) not in (*TRANSLATIONS, S3) and any(pages.steps(page.read_text(encoding="utf-8")))
]


@pytest.mark.process
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_commands_of_a_page_run_in_an_empty_folder_and_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    for name, make in GIVEN.get(name_of(page), {}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make(tmp_path / name)
    pages.run(page.read_text(encoding="utf-8"), tmp_path)


@pytest.mark.process
def test_the_page_of_s3_runs_against_a_server(cloud: Any, tmp_path: Path) -> None:
    file_system("s3://").call_s3("create_bucket", Bucket="reviews")
    cloud.put_all(EXAMPLES, "s3://reviews/dumps")
    pages.run((ROOT / S3).read_text(encoding="utf-8"), tmp_path)


def test_pages_run_that_have_to() -> None:
    assert GIVEN.keys() <= set(map(name_of, RUN))
    assert len(RUN) >= 10


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in pages.blocks(text)} <= pages.LANGUAGES
    assert text.count("```") == 2 * len(pages.blocks(text))
    for line in commands(page):
        assert NOT_RUN in line or NOT_RUN.strip() not in line, f"no reason: {line}"


@pytest.mark.parametrize(("translation", "original"), TRANSLATIONS.items())
def test_a_translation_has_the_blocks_of_its_original(translation: str, original: str) -> None:
    def said(page: str) -> list[tuple[str, str]]:
        found = pages.blocks((ROOT / page).read_text(encoding="utf-8"))
        # What a comment explains is translated.
        return [(block.language, re.sub(r"  +# (?!not run by).*", "", block.text)) for block in found]

    assert said(translation) == said(original)


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
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


def test_the_reference_is_made_of_the_code() -> None:
    made = load(ROOT / "docs/reference_tables.py")
    texts = {path: path.read_text(encoding="utf-8") for path in made.PAGES}
    for path, text in texts.items():
        assert text == made.updated(text), f"run: python docs/reference_tables.py ({path.name})"
    assert "`--text-column NAME`" in texts[ROOT / "docs/reference/cli.md"]
    assert "| `input_sha256` | `str` |" in texts[ROOT / "docs/reference/files.md"]


def table_below(page: str, mark: str) -> list[list[str]]:
    """The cells of the table below a mark of a page, without its head; a name stands between backticks there."""
    section = (ROOT / page).read_text(encoding="utf-8").split(f"<!-- {mark}")[1].split("<!-- ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_columns_and_reasons_of_the_reference_are_those_that_are_written() -> None:
    page = "docs/reference/output.md"
    fields = [pa.field(schema.ROW_INDEX, pa.int64()), *schema.prediction_fields(["NEGATIVE"], windows=True)]

    def described(found: pa.DataType) -> str:
        if pa.types.is_dictionary(found):
            return f"dictionary of {found.value_type}"
        return f"struct of {found.field(0).type}" if pa.types.is_struct(found) else str(found)

    assert [cells[:2] for cells in table_below(page, "columns")] == [[f.name, described(f.type)] for f in fields]
    rejects = [[field.name, described(field.type)] for field in schema.REJECT_SCHEMA]
    assert [cells[:2] for cells in table_below(page, "rejects")] == rejects
    assert [cells[0] for cells in table_below(page, "reasons")] == list(schema.REJECT_REASONS)


def test_every_exit_code_is_explained() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BatchsentError)
    ]
    codes = {0, *(kind.exit_code for kind in kinds), *(128 + number for number in (SIGINT, SIGTERM))}
    assert {int(cells[0]) for cells in table_below("docs/reference/exit-codes.md", "exit codes")} == codes


def test_the_site_has_every_page_in_its_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def named(entry: Any) -> Iterator[str]:
        for item in entry.values() if isinstance(entry, dict) else entry:
            yield from [item] if isinstance(item, str) else named(item)

    listed = set(named(menu))
    assert all((ROOT / name).is_file() for name in listed)
    own = {name_of(page) for page in PAGES if name_of(page).startswith("docs/")}
    assert {name for name in own - listed if not name.startswith("docs/decisions/")} == set()
    decisions = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in decisions for path in (ROOT / "docs/decisions").glob("0*.md"))


def test_the_measured_numbers_are_those_that_were_recorded() -> None:
    page = load(ROOT / "benchmarks/tables.py")
    for written in page.PAGES:
        text = written.read_text(encoding="utf-8")
        assert text == page.updated(text), "run: python benchmarks/tables.py"
    for path in (ROOT / "benchmarks/results").glob("*.json"):
        environment = json.loads(path.read_bytes())["environment"]
        assert {"date", "cpu", "cores", "versions", "command"} <= environment.keys(), path


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            # Of a folder the site has no page.
            assert (page.parent / target).is_file(), f"{page}: {target}"


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
