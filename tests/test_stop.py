"""SIGINT and SIGTERM: noticed at a check, and a second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from batchsent.errors import AbandonedError, StoppedError
from batchsent.stop import StopSignal

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_remembered_until_the_check(number: signal.Signals) -> None:
    stop = StopSignal()
    with stop.installed():
        stop.check()
        signal.raise_signal(number)
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


def test_whoever_works_for_a_run_that_failed_ends() -> None:
    stop = StopSignal()
    stop.abandon()
    with pytest.raises(AbandonedError):
        stop.check()
    with stop.installed():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StoppedError):  # what the user did comes before what followed from it
        stop.check()


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
