"""A page taken apart: what it says, where, and what it would load."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use"}
_HIDDEN = {"style", "script", "title"}


@dataclass
class Page(HTMLParser):
    """Parsed strictly: every tag is closed where it should be."""

    source: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """What is shown, in order."""
    styles: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        assert self._open == [], self._open

    @classmethod
    def at(cls, path: Path) -> Page:
        return cls(path.read_bytes().decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles.append(data)
        elif data.strip() and not (self._open and self._open[-1] in _HIDDEN):
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        """All that is shown, in one line."""
        return re.sub(r" ([,.;:%])", r"\1", " ".join(self.texts))

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "h2"]

    def section(self, name: str) -> Page:
        """One of :attr:`sections`."""
        return Page(re.search(rf'<section aria-labelledby="{name}">.*?</section>', self.source, re.DOTALL)[0])  # type: ignore[index]

    @property
    def rows(self) -> list[list[str]]:
        """Every row of every table."""
        found = re.findall(r"<tr>(.*?)</tr>", self.source, re.DOTALL)
        cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in found]
        return [[Page(cell).text for cell in row] for row in cells]


def require_self_contained(page: Page) -> None:
    """Nothing in it is fetched, run or sent anywhere, and its policy forbids it."""
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "audio", "video", "a"}, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in {"src", "href", "xlink:href", "action", "srcset", "data", "poster", "background"}:
                assert value.startswith(("#", "data:")), f"{tag} {name}={value}"
            assert not re.search(r"url\(\s*['\"]?(?!#)", value), value
    for style in page.styles:
        assert "@import" not in style
        assert "url(" not in style
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
