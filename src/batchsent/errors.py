"""Every error that batchsent raises on purpose, and what a scheduler should do about it.

    BatchsentError                 1   a bug, unless a subclass says otherwise
    ├── UsageError                 2   the command, the settings or the input are wrong
    │   ├── InputError             2   nothing to read, or a column that no shard has
    │   ├── ModelError             2   not a model that can be loaded safely
    │   │   └── ConversionError    2   not one that OpenVINO runs; where nobody asked for it by name, torch does
    │   ├── CompilationError      2   torch.compile fails here, where DIR was begun with compiled passes
    │   ├── NotAvailableError      2   needs a library that is not installed, or another kind of place
    │   └── SettingsChangedError   2   DIR belongs to a run with other settings
    ├── IncompleteError            3   finished, but not everything may be published
    ├── DriftError                 4   all is there, but held back: predictions have moved from those of another run
    ├── TemporaryError            75   the same command may succeed later
    │   ├── StorageError          75   disk full, input/output error
    │   │   └── VanishedError     75   what the run had written is gone or damaged
    │   ├── LockedError           75   another run holds DIR
    │   ├── HubUnreachableError   75   the model hub does not answer
    │   └── DeviceError           75   the GPU was lost, a worker was killed
    ├── StoppedError         130, 143  SIGINT or SIGTERM, at a clean point
    ├── AbandonedError             -   ends a thread of a run that has failed; nobody sees it
    └── ShardError                 -   one shard cannot be read; the run goes on and ends with IncompleteError
        └── WrongSettingError      -   nor would it be with these settings; where all shards say so, InputError

A message says what was found, what was expected and what to do, in one line; and no URI's password.
"""

from __future__ import annotations

import re
import signal
import traceback
from pathlib import PurePath
from typing import ClassVar

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(\S+)")


def without_secrets(text: str) -> str:
    """``text`` with its URIs cut down to scheme, machine and path: the rest of a URI may be a password or a signature.

    For whatever is shown or kept that a user may have written a URI into.
    """
    return _URI.sub(lambda uri: uri[1] + _place(uri[2]), text)


def _place(rest: str) -> str:
    place, mark, more = re.match(r"([^?#]*)([?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if "@" in more:  # then who can tell where the password ends
        return "…"
    # The last one: a password that nobody encoded may hold '@' and '/'.
    return place.rpartition("@")[2] + (f"{mark}…" if more else "")


class BatchsentError(Exception):
    """The root: an error with one line for the user and an exit code for the scheduler."""

    exit_code: int = 1
    retryable: ClassVar[bool] = False

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        # All three go to args, so that the error survives a pickle on its way from another process.
        super().__init__(*map(without_secrets, (found, expected, remedy)))

    def attribute_to(self, who: str) -> None:
        """Say whose error it is, where several processes write to one terminal."""
        self.args = (f"{who}: {self.args[0]}", *self.args[1:])

    def __str__(self) -> str:
        found, expected, remedy = (" ".join(part.split()) for part in self.args)
        return "; ".join(filter(None, [found, expected and f"expected {expected}", remedy]))


def exit_code_of(error: BaseException) -> int:
    """What the command returns for ``error``, whoever raised it."""
    match error:
        case BatchsentError():
            return error.exit_code
        case PermissionError():
            return 2
        case OSError():
            return 75
        case KeyboardInterrupt():
            return 130
        case _:
            return 1


def told(error: Exception) -> str:
    """``error`` in one line for the user, whoever raised it."""
    match error:
        case BatchsentError():
            return str(error)
        case PermissionError():
            return f"{_where(error)} is not this user's to read or write; expected access; change its permissions"
        case OSError():
            return f"{_where(error)}: {error.strerror or error}; expected a file system that answers; run again"
        case _:
            # Not its message, which may quote a review.
            at = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__} in {PurePath(at.filename).name}, line {at.lineno}"
            return f"{found}; this is a bug; run again with --debug and report what it prints"


def _where(error: OSError) -> str:
    return str(error.filename or "a file")


class UsageError(BatchsentError):
    """The command line, the job file or the input cannot be right."""

    exit_code = 2


class InputError(UsageError):
    """There is nothing to read, or not the column that was asked for."""


class ModelError(UsageError):
    """What was named is not a model that can be loaded safely."""


class ConversionError(ModelError):
    """OpenVINO cannot run the model, or does not compute what torch computes."""


class CompilationError(UsageError):
    """DIR was begun with compiled passes, and torch.compile fails here."""


class NotAvailableError(UsageError):
    """It needs a library that is not installed, or is not to be had at such a place."""


class SettingsChangedError(UsageError):
    """DIR holds a run with other identity options."""


class IncompleteError(BatchsentError):
    """The run finished, but shards failed, rows were rejected above the limit, or files differ."""

    exit_code = 3


class DriftError(BatchsentError):
    """Everything is scored and kept, and nothing is published: the predictions have moved too far."""

    exit_code = 4


class TemporaryError(BatchsentError):
    """The same command may succeed later."""

    exit_code = 75
    retryable = True


class StorageError(TemporaryError):
    """The disk is full or answered with an error."""


class VanishedError(StorageError):
    """What this run has written is not there any more, or damaged: another run cleared it, or the disk lost it."""


class LockedError(TemporaryError):
    """Another run holds DIR."""


class HubUnreachableError(TemporaryError):
    """The model hub does not answer, and the cache does not have the model."""


class DeviceError(TemporaryError):
    """The GPU, or a process of ours, was lost."""


class StoppedError(BatchsentError):
    """A signal asked the run to stop, and it did, at a clean point."""

    def __init__(self, signal_number: int, *, is_kept: bool = True) -> None:
        """``is_kept``: whether the same command goes on where it was."""
        Exception.__init__(self, signal_number)
        self.signal_number, self.is_kept = signal_number, is_kept
        self.exit_code = 128 + signal_number

    def attribute_to(self, who: str) -> None:
        """It says nothing that only one of them could say."""

    def __str__(self) -> str:
        name = signal.Signals(self.signal_number).name
        if not self.is_kept:
            return f"stopped by {name}; nothing of it is kept; run it again from the beginning"
        return f"stopped by {name}; what was committed is kept; run the same command again to resume"


class AbandonedError(BatchsentError):
    """The run has failed elsewhere, with an error of its own; this one ends what still works for it."""


class ShardError(BatchsentError):
    """One shard cannot be read; its message stands in the manifest, so it holds no text of a review."""


class WrongSettingError(ShardError):
    """The shard may well be whole, but it is not what the options say of it: fatal if no shard is."""
