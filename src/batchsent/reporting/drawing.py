"""Figures as files: drawn without a screen, and the same bytes for the same numbers."""

from __future__ import annotations

import io
import warnings
from typing import Any

FORMS = ("svg", "png")
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "batchsent", "font.size": 10}
_DOTS_PER_INCH = 150


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
