"""The page in a real Chromium: nothing fails, nothing is asked for, and it fits a phone, in both themes.

`make test-browser`, with Chromium on the path, or named by CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchsent import checkpoint
from batchsent.html_report.config import ReportConfig
from batchsent.html_report.run import write_report

pytestmark = pytest.mark.browser

WIDTHS = (320, 390, 768, 1280)

CONTRASTS = """() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (color, back) => {
    canvas.fillStyle = `rgb(${back.join(',')})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  const behind = element => {
    const above = element.parentElement ? behind(element.parentElement) : [255, 255, 255];
    return over(getComputedStyle(element).backgroundColor, above);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || element.closest('style')) continue;
    const style = getComputedStyle(element), back = behind(element);
    const color = over(element.closest('svg') ? style.fill : style.color, back);
    const [high, low] = [light(color), light(back)].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), text]);
  }
  return found;
}"""

CLIPPED = """() => [...document.querySelectorAll('body *')].filter(element => {
  if (element.closest('svg')) return false;
  const box = element.getBoundingClientRect();
  return !element.closest('.wide') && (box.right > innerWidth + 0.5 || element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).display !== 'inline');
}).map(element => element.outerHTML.slice(0, 200))"""

OUTSIDE_OF_PICTURES = """() => [...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBoundingClientRect(), picture = text.closest('svg').getBoundingClientRect();
  return box.left < picture.left - 1 || box.right > picture.right + 1 || box.top < picture.top - 1
    || box.bottom > picture.bottom + 1;
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert program, "no Chromium on the path: install one, or name it by CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every section, texts included."""
    return write_report(
        ReportConfig(
            directory=str(scored),
            output=str(tmp_path_factory.mktemp("page") / "page.html"),
            baseline=str(scored / checkpoint.MANIFEST),
            maps=("1,2=NEGATIVE", "4,5=POSITIVE"),
            include_text=True,
        )
    )


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_fails_and_nothing_leaves_and_it_fits(
    chromium: Any, page_file: Path, tmp_path: Path, theme: str, width: int
) -> None:
    context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": 844})
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri(), wait_until="networkidle")
    page.screenshot(path=tmp_path / "closed.png", full_page=True)
    for is_open in (False, True):
        page.evaluate("open => document.querySelectorAll('details').forEach(one => one.open = open)", is_open)
        scroll_width, client_width = page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert scroll_width <= client_width
        assert page.evaluate(CLIPPED) == []
        assert page.evaluate(OUTSIDE_OF_PICTURES) == []
    page.screenshot(path=tmp_path / "open.png", full_page=True)
    assert said == []
    assert asked == [page_file.as_uri()]
    context.close()


def test_every_text_has_contrast(chromium: Any, page_file: Path, theme: str) -> None:
    context = chromium.new_context(color_scheme=theme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [found for found in contrasts if found[0] < 4.5] == []
    context.close()


def test_the_themes_differ(chromium: Any, page_file: Path) -> None:
    backs = set()
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(page_file.as_uri())
        backs.add(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(backs) == 2


def test_letters_of_pictures_can_be_read_on_a_phone(chromium: Any, page_file: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(page_file.as_uri())
    sizes = page.evaluate("""() => [...document.querySelectorAll('svg text')].map(text => {
      const {a, b} = text.getScreenCTM();
      return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
    })""")
    assert len(sizes) > 30
    assert min(sizes) > 9.5
    context.close()


def test_what_would_be_loaded_is_forbidden(chromium: Any, page_file: Path, tmp_path: Path) -> None:
    source = page_file.read_text(encoding="utf-8")
    planted = tmp_path / "planted.html"
    planted.write_text(
        source.replace("</main>", '<img src="http://127.0.0.1:9/x.png"><script>document.title = "run"</script></main>'),
        encoding="utf-8",
    )
    context = chromium.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(planted.as_uri(), wait_until="networkidle")
    assert page.title() != "run"
    assert sum("Content Security Policy" in message for message in said) >= 2
    context.close()
