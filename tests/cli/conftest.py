"""Fixtures of the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchsent.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call main; returns the exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def is_one_error(err: str) -> bool:
    """Whether stderr holds one line in the form of ours, and nothing else."""
    return err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err
