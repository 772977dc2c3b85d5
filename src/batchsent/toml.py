"""Values as a job file holds them."""

from __future__ import annotations

import json
from typing import Any


def toml_value(value: Any) -> str:
    """A string, number, boolean or list of these as TOML, in one line."""
    # A JSON string is a TOML string, but for one control character; the other values are written alike.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
