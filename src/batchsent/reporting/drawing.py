"""Figures as files, and as part of an HTML page: drawn without a screen, and the same for the same numbers."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

FORMS = ("svg", "png")
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "batchsent", "font.size": 10}
_DOTS_PER_INCH = 150

_FONT = re.compile(r"(font: [^;']*?)(?:'[^;]*|sans-serif)(?=;|$)")
_REFERENCE = re.compile(r"#([\w-]+)")


def drawn(figure: Any, form: str) -> bytes:
    """``figure`` in one of :data:`FORMS`, without the time and the program that made it."""
    import matplotlib as mpl

    content = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A label in a script that the font does not have is a box in the PNG; an SVG has it as text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format=form, dpi=_DOTS_PER_INCH, metadata=metadata)
    return content.getvalue()


def files_of(name: str, figure: Any) -> dict[str, bytes]:
    """File name → content, of every form of ``figure``."""
    return {f"{name}.{form}": drawn(figure, form) for form in FORMS}


def drawing_style(**more: Any) -> AbstractContextManager[None]:
    """The settings under which a figure is to be made, as fonts are chosen then."""
    import matplotlib as mpl

    context: AbstractContextManager[None] = mpl.rc_context(_STYLE | more)
    return context


def inline(figure: Any, name: str, description: str, colors: Mapping[str, str]) -> str:
    """``figure`` as an ``<svg>`` for an HTML page: as wide as its place, in the page's font and colors.

    ``name`` is one of its own in the page. ``colors`` says which custom property of the page stands for each color
    that was drawn with (in lower case, as '#1f6feb').
    """
    root = ElementTree.fromstring(drawn(figure, "svg"))  # noqa: S314 - our own
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):  # of the second a page has one of its own
                parent.remove(child)
    used = {
        match for element in root.iter() for value in element.attrib.values() for match in _REFERENCE.findall(value)
    }
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib |= {key: _for_page(key, value, name, used, colors) for key, value in attributes.items()}
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib |= {"viewBox": box, "role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(key: str, value: str, name: str, used: set[str], colors: Mapping[str, str]) -> str:
    if key == "style":
        value = _FONT.sub(r"\1var(--font)", value)
        for color, custom_property in colors.items():
            value = value.replace(color, f"var({custom_property})")
    if key == "id":
        return f"{name}-{value}"
    return _REFERENCE.sub(lambda match: f"#{name}-{match[1]}" if match[1] in used else match[0], value)
