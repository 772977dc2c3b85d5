"""An S3 server of the tests' own: a process of moto's, behind the proxy."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchsent.objects.access import below, file_system
from batchsent.stores import open_file
from objects.proxy import Proxy

READ_TIMEOUT_SECONDS = 1
SECRET = "of-the-tests-0123456789"


class Cloud:
    """Buckets, and what is in them; ``proxy`` is where every request passes, those of other processes too."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._numbers = itertools.count()

    @property
    def environment(self) -> dict[str, str]:
        """By which a process finds it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            # Of 5, and of 15 seconds: what always comes, or never, need not be waited for so long.
            "AWS_MAX_ATTEMPTS": "3",
            "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": READ_TIMEOUT_SECONDS}}),
        }

    def bucket(self) -> str:
        """URI of a new bucket."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        file_system("s3://").call_s3("create_bucket", Bucket=name)
        return f"s3://{name}"

    def put(self, uri: str, data: bytes) -> str:
        """Make an object; returns its URI."""
        file_system(uri).pipe_file(uri, data)
        return uri

    def put_all(self, folder: Path, uri: str) -> str:
        """Every file below ``folder``, under its name there."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{uri}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return uri

    def get(self, uri: str) -> bytes:
        """What an object holds."""
        with open_file(uri) as stream:
            return stream.read()

    def remove(self, uri: str) -> None:
        """One object."""
        file_system(uri).rm_file(uri)

    def names(self, uri: str) -> list[str]:
        """Of all objects below ``uri``."""
        return list(below(uri))

    def fetch(self, uri: str, folder: Path) -> Path:
        """All objects below ``uri`` as files in ``folder``, for what compares directories."""
        for name in self.names(uri):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(f"{uri}/{name}"))
        return folder


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cloud]:
    """The server, and the environment by which every process finds it."""
    port = _free_port()
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=subprocess.STDOUT
        )
    proxy = Proxy(port, stall_seconds=READ_TIMEOUT_SECONDS + 0.5)
    try:
        _wait_for(port, server)
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            cloud = Cloud(proxy)
            for name, value in cloud.environment.items():
                patch.setenv(name, value)
            _fsspec_reads_its_environment()
            yield cloud
    finally:
        proxy.close()
        server.kill()
        server.wait()


def use(environment: dict[str, str]) -> None:
    """In a process that was forked before the server ran."""
    os.environ.update(environment)
    _fsspec_reads_its_environment()


def _fsspec_reads_its_environment() -> None:
    """It does so when it is imported, which this process has done before."""
    from fsspec.config import conf, set_conf_env

    set_conf_env(conf)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not listen")
