"""Exit codes, one-line messages, and errors that survive the way from another process."""

from __future__ import annotations

import pickle
import signal

import pytest

from batchsent import errors
from batchsent.errors import BatchsentError, IncompleteError, StoppedError, TemporaryError, UsageError

EXIT_CODES = {
    "BatchsentError": 1,
    "UsageError": 2,
    "InputError": 2,
    "ModelError": 2,
    "ConversionError": 2,
    "CompilationError": 2,
    "NotAvailableError": 2,
    "SettingsChangedError": 2,
    "IncompleteError": 3,
    "DriftError": 4,
    "TemporaryError": 75,
    "StorageError": 75,
    "VanishedError": 75,
    "LockedError": 75,
    "HubUnreachableError": 75,
    "DeviceError": 75,
}
# By signal, or never a run's own.
CODES_OF_THEIR_OWN = ("StoppedError", "AbandonedError", "ShardError", "WrongSettingError")
CLASSES: dict[str, type[BatchsentError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BatchsentError)
}


def test_every_class_has_its_exit_code() -> None:
    found = {name: cls.exit_code for name, cls in CLASSES.items() if name not in CODES_OF_THEIR_OWN}
    assert found == EXIT_CODES


def test_only_temporary_errors_are_worth_a_retry() -> None:
    for name, cls in CLASSES.items():
        assert cls.retryable is (EXIT_CODES.get(name) == 75)
        assert cls.retryable is issubclass(cls, TemporaryError)


def test_the_tree() -> None:
    parents = {name: cls.__mro__[1].__name__ for name, cls in CLASSES.items()}
    assert parents == {
        "BatchsentError": "Exception",
        **dict.fromkeys(
            ["UsageError", "IncompleteError", "DriftError", "TemporaryError", *CODES_OF_THEIR_OWN], "BatchsentError"
        ),
        "ConversionError": "ModelError",
        **dict.fromkeys(
            ["InputError", "ModelError", "CompilationError", "NotAvailableError", "SettingsChangedError"], "UsageError"
        ),
        **dict.fromkeys(["StorageError", "LockedError", "HubUnreachableError", "DeviceError"], "TemporaryError"),
        "VanishedError": "StorageError",
        "WrongSettingError": "ShardError",
    }
    # The module opens with this tree.
    assert errors.__doc__
    for name in CLASSES:
        assert name in errors.__doc__


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("a",), "a"),
        (("a", "b"), "a; expected b"),
        (("a", "b", "c"), "a; expected b; c"),
        (("a", "", "c"), "a; c"),
    ],
)
def test_message(parts: tuple[str, ...], line: str) -> None:
    assert str(UsageError(*parts)) == line


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"StoppedError"}))
def test_a_message_is_one_line(name: str) -> None:
    line = str(CLASSES[name]("it\nfell\r\n over\u2028 ", "\tnot\x0b\x85that", "do\n\n\nthis"))
    assert line == "it fell over; expected not that; do this"
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"StoppedError"}))
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_a_pickle(name: str, protocol: int) -> None:
    error = CLASSES[name]("found", "expected", "remedy")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (str(again), again.args, again.exit_code) == (str(error), error.args, error.exit_code)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped(number: signal.Signals, code: int) -> None:
    for error in (StoppedError(number), pickle.loads(pickle.dumps(StoppedError(number)))):
        assert error.exit_code == code
        assert error.signal_number == number
        assert number.name in str(error)
        assert len(str(error).splitlines()) == 1
    # Each has its own; the class has none of the two.
    assert StoppedError.exit_code not in (130, 143)


def test_an_error_with_a_message_from_elsewhere() -> None:
    assert str(IncompleteError("{not} a %s format")) == "{not} a %s format"
