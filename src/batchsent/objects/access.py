"""The libraries of the stores: one file system a process, and what their errors mean.

Credentials come by the libraries' own chains (environment, profile, instance) and pass through no code of ours.
What they retry (throttling, errors of the server, connections that break) is theirs to retry; ``AWS_MAX_ATTEMPTS``
and its like say how often. What is left after that is said in one line, without a word of theirs: it may quote a
request, with its signature.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from batchsent.errors import BatchsentError, NotAvailableError, StorageError, UsageError
from batchsent.objects.uris import EXTRAS, scheme_of
from batchsent.records import Signature

REQUESTS_AT_ONCE = 32
"""A store takes some 30 ms to answer one, and answers this many in as long."""


def file_system(uri: str) -> Any:
    """The fsspec file system of ``uri``. Raises NotAvailableError if its library is not installed."""
    return _file_system(scheme_of(uri), os.getpid())


@cache
def _file_system(scheme: str, _process: int) -> Any:
    """One a process: its event loop is a thread, and no thread comes along in a fork."""
    try:
        import fsspec

        # What was listed a moment ago is not what is there now.
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True, **_connections(scheme))
    except ImportError as error:
        extra = EXTRAS[scheme]
        raise NotAvailableError(
            f"{scheme}:// needs a library that is not installed ({error.name or type(error).__name__})",
            f"the extra {extra!r}",
            f"pip install 'batchsent[{extra}]'",
        ) from error


def _connections(scheme: str) -> dict[str, Any]:
    """botocore keeps ten, and queues what is more. What a user has configured for fsspec stays."""
    from fsspec.config import conf

    if scheme != "s3":
        return {}
    given = conf.get(scheme, {}).get("config_kwargs", {})
    return {"config_kwargs": {"max_pool_connections": REQUESTS_AT_ONCE, **given}}


@contextlib.contextmanager
def translated(uri: str, did: str = "read") -> Iterator[None]:
    """Errors of a store as ours: some a person must mend, some pass. FileNotFoundError and FileExistsError stay."""
    try:
        yield
    except (BatchsentError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        scheme = scheme_of(uri)
        wrong, passing = _errors(scheme)
        if isinstance(error, wrong):
            raise UsageError(
                f"{uri} cannot be {did} ({_reason(error)})",
                "a place that these credentials may use",
                f"check the name and the credentials, as {_TOOLS[scheme]} takes them",
            ) from error
        if isinstance(error, passing):
            raise StorageError(
                f"{uri} could not be {did} ({_reason(error)})", "a store that answers", "run again to resume"
            ) from error
        raise


_TOOLS = {"s3": "the AWS command line", "gs": "gcloud"}


@cache
def _errors(scheme: str) -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """(those that come again, those that may pass)"""
    import aiohttp

    if scheme == "s3":
        from botocore import exceptions as s3

        wrong = (s3.NoCredentialsError, s3.PartialCredentialsError, s3.ProfileNotFound, s3.ParamValidationError)
        return (PermissionError, *wrong), (OSError, s3.BotoCoreError, s3.ClientError, aiohttp.ClientError)
    from gcsfs.retry import HttpError
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    return (PermissionError, DefaultCredentialsError), (OSError, HttpError, GoogleAuthError, aiohttp.ClientError)


def _reason(error: Exception) -> str:
    """The store's own word for it, or the library's; never its message."""
    response = getattr(error.__cause__ or error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code or getattr(error, "code", None) or type(error).__name__)


def version_of(details: dict[str, Any]) -> str:
    """What the store calls the content that an object has now: it changes whenever that does."""
    if details.get("generation"):
        return f"generation:{details['generation']}"
    etag = details.get("ETag") or details.get("etag") or ""
    return f"etag:{etag.strip(chr(34))}" if etag else ""


def signature_of(details: dict[str, Any]) -> Signature:
    """What an object looks like from outside."""
    return Signature(int(details["size"]), 0, 0, 0, version_of(details))


def details(uri: str) -> dict[str, Any] | None:
    """What the store says of an object; None if there is none. Raises StorageError, UsageError."""
    with translated(uri):
        try:
            found: dict[str, Any] = file_system(uri).info(uri)
        except FileNotFoundError:
            return None
    return found if found["type"] == "file" else None


def signature(uri: str) -> Signature | None:
    """See :func:`signature_of`; None if there is no such object."""
    found = details(uri)
    return None if found is None else signature_of(found)


def read(uri: str) -> bytes:
    """All of an object, in one request. Raises FileNotFoundError, StorageError, UsageError."""
    # s3fs asks for the size first otherwise, to read a large one in several places at once.
    at_once = {"max_concurrency": 1} if scheme_of(uri) == "s3" else {}
    with translated(uri):
        data: bytes = file_system(uri).cat_file(uri, **at_once)
    return data


def below(uri: str, beginning: str = "") -> dict[str, dict[str, Any]]:
    """Name relative to ``uri`` → details, of all objects below it whose names begin so; a thousand a request."""
    system = file_system(uri)
    root = system._strip_protocol(uri)
    with translated(uri, "listed"):
        try:
            found = system.find(root, detail=True, prefix=beginning)
        except FileNotFoundError:
            return {}
    names = {key.removeprefix(f"{root}/"): details for key, details in found.items() if key.startswith(f"{root}/")}
    # A name that ends with '/' is what a console makes where somebody asks for a folder.
    return {name: names[name] for name in sorted(names) if not name.endswith("/") and names[name]["type"] == "file"}


def right_in(uri: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the objects right in ``uri``, sorted; what lies below the folders is not listed."""
    system = file_system(uri)
    root = system._strip_protocol(uri)
    with translated(uri, "listed"):
        try:
            found = system.ls(root, detail=True)
        except FileNotFoundError:
            return [], []
    # A key that ends with '/' is what a console makes where somebody asks for a folder.
    names = {details["name"].rstrip("/"): details["type"] for details in found if details["name"] != f"{root}/"}
    own = sorted((name.removeprefix(f"{root}/"), kind) for name, kind in names.items() if name.startswith(f"{root}/"))
    return [name for name, kind in own if kind == "directory"], [name for name, kind in own if kind == "file"]
