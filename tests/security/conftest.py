"""Fixtures of what SECURITY.md promises."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchsent.cli import main
from faults.inline import Inline

Cli = Callable[..., tuple[int, str]]


def content(directory: Path, *, skip: Callable[[Path], bool] = lambda _: False) -> str:
    """All that the files of DIR say, in one string: names, Parquet unpacked, with its metadata."""
    parts = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not skip(path):
            parts += [str(path), path.read_bytes().decode("utf-8", "replace")]
            if path.suffix == ".parquet":
                parts.append(_unpacked(path).decode("utf-8", "replace"))
    return "\n".join(parts)


def _unpacked(path: Path) -> bytes:
    table, sink = pq.read_table(path, partitioning=None), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """``batchsent`` in this process: its exit code, and all that it and its helper processes printed."""

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out + captured.err

    return run


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where a connection would go is recorded, and it fails. Pipes between processes are no connections."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **_named: Any) -> Any:
        asked.append(arguments[-1] if isinstance(arguments[0], socket.socket) else arguments[0])
        raise OSError("there is no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Inline:
    """The job in this process, with a stand-in for the forward passes."""
    return Inline(monkeypatch, tiny_model)
