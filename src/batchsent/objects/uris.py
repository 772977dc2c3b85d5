"""URIs of objects: which they are, and what they may look like. Imports no library."""

from __future__ import annotations

import re

from batchsent.errors import UsageError

EXTRAS = {"s3": "s3", "gs": "gcs"}
"""Scheme → the extra of this package that brings its library."""


def is_object(uri: str) -> bool:
    """Whether ``uri`` names something in an object store."""
    scheme, mark, _ = uri.partition("://")
    return bool(mark) and scheme.lower() in EXTRAS


def scheme_of(uri: str) -> str:
    """``s3`` or ``gs``."""
    return uri.partition("://")[0].lower()


def normalized(uri: str, what: str) -> str:
    """``uri`` with its scheme in lower case and no '/' at its end.

    Raises UsageError unless it names a bucket, and nothing but a place: a password in it would be kept in files.
    """
    rest = uri.partition("://")[2].rstrip("/")
    bucket = rest.partition("/")[0]
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            f"{what} {uri} holds more than a bucket and a key",
            f"{scheme_of(uri)}://BUCKET/KEY",
            "give credentials and endpoints as the store's own tools take them: by environment or profile",
        )
    # In an INPUT a '?' may stand for a character. Elsewhere, and before NAME=, it begins what makes a signed link.
    if re.search(r"\?[^/?*]*=" if what == "INPUT" else r"[?#]", rest):
        raise UsageError(f"{what} {uri} holds a query or a fragment", f"{scheme_of(uri)}://BUCKET/KEY", "leave it out")
    if not bucket:
        raise UsageError(f"{what} {uri} names no bucket", f"{scheme_of(uri)}://BUCKET/KEY", "check the URI")
    return f"{scheme_of(uri)}://{rest}"
