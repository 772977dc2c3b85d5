"""Fixtures of the faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchsent import job
from faults.forked import Forked
from faults.inline import Inline, SharedReader
from faults.tally import Injections


@pytest.fixture
def injections(request: pytest.FixtureRequest) -> Injections:
    """What the test injects; its marks say which fault that is and where it happens."""
    mark = request.node.get_closest_marker("fault")
    kinds = [name for name in ("in_process", "real_process") if request.node.get_closest_marker(name)]
    assert mark is not None
    assert len(kinds) == 1, "a fault is injected in this process or in a real one"
    number, title = mark.args
    return Injections(request.node.name, number, title, kinds[0].replace("_", "-"))


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Inline:
    """The job in this process."""
    return Inline(monkeypatch, tiny_model)


@pytest.fixture
def inline_with_reader(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inline]:
    """The job in this process, but for its reader: one process for all its runs."""
    reader = SharedReader(lambda: None)
    monkeypatch.setattr(job, "ReaderProcess", lambda _check: reader)
    yield inline
    reader.close()


@pytest.fixture
def forked(tiny_model: Path, tmp_path: Path) -> Iterator[Forked]:
    """The job in processes of its own."""
    scratch = tmp_path / "stderr"
    scratch.mkdir()
    runs = Forked(tiny_model, scratch)
    yield runs
    runs.close()
