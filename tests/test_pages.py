"""What runs the pages notices what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

import pages
from pages import NOT_RUN, is_as_shown


def page(command: str, shown: str, between: str = "") -> str:
    return f"Text.\n\n```sh\n{command}\n```\n{between}\n```\n{shown}\n```\n"


def test_blocks_run_in_order_in_one_folder(tmp_path: Path) -> None:
    text = (
        page("echo one > a\necho two", "two")
        + "```python\nfrom pathlib import Path\nprint(Path('a').read_text())\n```\n"
    )
    pages.run(text + "\n```\none\n```\n", tmp_path)
    assert (tmp_path / "a").read_text() == "one\n"


@pytest.mark.parametrize(
    "text",
    [
        page("echo one", "two"),
        page("echo one", ""),
        page("true", "one"),
        page("false; echo one", "one"),
        page("false | cat; echo one", "one"),
        page("echo one\nfalse", "one"),
        page("echo $undefined", ""),
        page("echo one\necho two", "one"),
        "```python\nimport sys\nsys.exit(1)\n```\n",
        "```python\nimport sys\nprint('one')\n```\n\n```\ntwo\n```\n",
    ],
)
def test_a_page_that_is_wrong_is_noticed(tmp_path: Path, text: str) -> None:
    with pytest.raises(AssertionError):
        pages.run(text, tmp_path)


def test_what_is_marked_is_not_run_nor_is_its_output_compared(tmp_path: Path) -> None:
    pages.run(page(f"false  {NOT_RUN}needs luck", "anything"), tmp_path)
    pages.run("```sh\nmake nothing\n```\n\n```python\nundefined()  # an excerpt\n```\n", tmp_path)
    pages.run(page(f"false  {NOT_RUN}needs luck\necho one", "one"), tmp_path)


def test_only_the_block_right_behind_is_what_a_program_prints(tmp_path: Path) -> None:
    pages.run(page("echo one", "two", "\nA word between.\n"), tmp_path)
    with pytest.raises(AssertionError):
        pages.run(page("echo one", "two", "<!-- varies: three -->"), tmp_path)
    pages.run(page("echo one", "two", "<!-- varies: one|two -->"), tmp_path)


def test_the_folder_is_called_home(tmp_path: Path) -> None:
    pages.run(page("pwd", pages.HOME), tmp_path)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("rate 1,200.5 rows/s", "rate 3.1 rows/s"),
        ("time  7 s, 2 s of it", "time  2 min, 61 s of it"),
        ("at 2026-11-01 10:00:00 UTC", "at 2027-01-02 03:04:05 UTC"),
        ("sha256:09339e2d3fe9", "sha256:a1b2c3d4e5f6"),
        ("probability 0.9792", "probability 0.9801"),
        ("NEGATIVE 59.5%", "NEGATIVE 58.9%"),
        ("a\n...\nz", "a\nb\nc\nz"),
        ("a\n...\nz", "a\nz"),
        ("a", "2026-11-26 20:06:08 INFO scoring\na"),
        ("┌──┐\n│ a │\n└──┘", "┌────┐\n│ a  │\n└────┘"),
    ],
)
def test_what_varies_is_no_difference(shown: str, printed: str) -> None:
    assert is_as_shown(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("131 of 132 records", "130 of 132 records"),
        ("probability 0.9792", "probability 0.9392"),
        ("NEGATIVE 59.5%", "NEGATIVE 55.5%"),
        ("0.5", "0.5%"),
        ("a\n...\nz", "a\nb"),
        ("a\n...", "b\na"),
        ("a", "a\nb"),
        ("2026-11-26 20:06:08 INFO one", "2026-11-26 20:06:08 INFO two"),
        ("decade", "facade"),
    ],
)
def test_what_differs_is_noticed(shown: str, printed: str) -> None:
    assert not is_as_shown(shown, printed)
