"""SIGINT and SIGTERM: noticed at a check, at once where that is allowed, and a second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from batchsent.errors import StoppedError
from batchsent.stop import StopSignal

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_remembered_until_the_check(number: signal.Signals) -> None:
    stop = StopSignal()
    with stop.installed():
        stop.check()
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        for _ in range(2):
            with pytest.raises(StoppedError) as caught:
                stop.check()
            assert caught.value.exit_code == 128 + number


@BOTH
def test_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def fail_within() -> None:
        with StopSignal().installed():
            assert signal.getsignal(number) is not before
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    assert signal.getsignal(number) is before


@BOTH
def test_waiting_is_interrupted_at_once(number: signal.Signals) -> None:
    stop = StopSignal()
    began = time.monotonic()

    def wait() -> None:
        with stop.interruptible():
            signal.raise_signal(number)
            time.sleep(5)

    with stop.installed(), pytest.raises(StoppedError) as caught:
        wait()
    assert caught.value.signal_number == number
    assert time.monotonic() - began < 2


def test_after_waiting_a_signal_is_only_remembered() -> None:
    stop = StopSignal()
    with stop.installed():
        with stop.interruptible():
            pass
        signal.raise_signal(signal.SIGTERM)  # Around writing: must not raise here.
        assert stop.requested
        with pytest.raises(StoppedError), stop.interruptible():
            pytest.fail("went to wait although a signal had come")


def test_an_error_while_waiting_ends_the_waiting() -> None:
    stop = StopSignal()
    with stop.installed():
        with pytest.raises(KeyError), stop.interruptible():
            raise KeyError
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_no_signal_is_lost_on_the_way_into_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    # The signal comes after the check and before the flag that lets it raise: the wait would never end.
    stop = StopSignal()
    check = stop.check

    def check_then_signal() -> None:
        check()
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(stop, "check", check_then_signal)
    with stop.installed(), pytest.raises(StoppedError), stop.interruptible():
        pytest.fail("waits although a signal has come")


def test_the_second_signal_ends_the_process() -> None:
    program = """
import signal, sys
from batchsent.stop import StopSignal
stop = StopSignal()
with stop.installed():
    signal.raise_signal(signal.SIGINT)
    print("one", flush=True)
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException:
        pass
    print("two", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout.split() == ["one"]
    assert ended.returncode == 143
