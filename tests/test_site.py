"""The documentation as a site: built strictly, whole, and without anything from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pages import ROOT

pytestmark = pytest.mark.site


class References(HTMLParser):
    """What a page loads, where it leads, and where it can be led to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        else:
            self.loaded |= {given[name] for name in ("src", "href", "srcset", "data") if name in given}
            self.loaded |= set(re.findall(r"url\(([^)]+)\)", given.get("style", "")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, References]:
    """Page → what it refers to."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    found = {}
    for path in folder.rglob("*.html"):
        found[path] = References()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def is_elsewhere(reference: str) -> bool:
    return bool(urlsplit(reference).netloc)


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, References]) -> None:
    assert len(site) > 30
    for path, page in site.items():
        assert page.loaded, path
        assert not {reference for reference in page.loaded if is_elsewhere(reference)}, path
    (folder,) = {path.parent for path in site if path.name == "404.html"}
    for style in folder.rglob("*.css"):
        loaded = re.findall(r"(?:url\(|@import\s*)[\"']?([^\"')\s]+)", style.read_text(encoding="utf-8"))
        assert not [reference for reference in loaded if is_elsewhere(reference)], style


def test_every_link_leads_to_a_page_and_a_place_on_it(site: dict[Path, References]) -> None:
    for path, page in site.items():
        if path.name == "404.html":
            continue  # its links begin at the root of a server
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target in site and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in site[target].anchors, f"{path}: {link}"


def test_tables_have_their_bars_and_nobodys_escapes(site: dict[Path, References]) -> None:
    (guide,) = [path for path in site if path.name == "guide.html"]
    text = guide.read_text(encoding="utf-8")
    assert "<code>--task auto|sequence-classification|text-to-text|causal</code>" in text
    assert "\\|" not in text


def test_a_page_can_be_read_in_the_light_and_in_the_dark_and_on_a_phone(site: dict[Path, References]) -> None:
    (home,) = [path for path in site if path.name == "index.html" and (path.parent / "404.html").exists()]
    text = home.read_text(encoding="utf-8")
    assert 'data-md-color-scheme="slate"' in text
    assert 'data-md-color-scheme="default"' in text
    assert '<meta name="viewport" content="width=device-width' in text
