"""SIGINT and SIGTERM: noticed at a check, and a second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from batchsent.errors import AbandonedError, StoppedError
from batchsent.stop import StopSignal, out_of_reach

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_remembered_until_the_check(number: signal.Signals) -> None:
    stop = StopSignal()
    stop.install()
    stop.check()
    signal.raise_signal(number)
    for _ in range(2):
        with pytest.raises(StoppedError) as caught:
            stop.check()
        assert caught.value.exit_code == 128 + number


@BOTH
def test_what_is_started_out_of_reach_is_not_stopped(number: signal.Signals) -> None:
    with out_of_reach():
        child = subprocess.Popen([sys.executable, "-c", "print(input())"], stdin=subprocess.PIPE, stdout=-1, text=True)
    child.send_signal(number)  # while it starts
    time.sleep(0.1)
    child.send_signal(number)
    assert child.communicate("still here", timeout=30)[0].split() == ["still", "here"]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), "as it was"


def test_whoever_works_for_a_run_that_failed_ends() -> None:
    stop = StopSignal()
    stop.abandon()
    with pytest.raises(AbandonedError):
        stop.check()
    stop.install()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StoppedError):  # what the user did comes before what followed from it
        stop.check()


def test_the_second_signal_ends_the_process() -> None:
    program = """
import signal, sys
from batchsent.stop import StopSignal
stop = StopSignal()
stop.install()
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
