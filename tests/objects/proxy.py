"""A proxy before an S3 server that does to a request what networks and servers do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["500", "503", "reset", "stall", "lost", "truncated"]
FAULTS: tuple[Fault, ...] = ("500", "503", "reset", "stall", "lost", "truncated")
"""lost: done, but the answer never comes. truncated: an answer that ends before its length."""

_ERRORS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
}


@dataclass(frozen=True)
class Request:
    """What passed the proxy, and what was done to it."""

    method: str
    path: str
    fault: Fault | None


Choose = Callable[[int, str, str], Fault | None]
"""(number of the request, method, path with query) → what to do to it"""


def none(_index: int, _method: str, _path: str) -> None:
    """Nothing happens."""


class Proxy:
    """Listens on a port of its own; ``choose`` may be set at any time."""

    def __init__(self, port: int, stall_seconds: float) -> None:
        self.choose: Choose = none
        self.requests: list[Request] = []
        self.stall_seconds = stall_seconds
        self._upstream = port
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def begin(self, choose: Choose = none) -> None:
        """Count from here, with these faults."""
        with self._lock:
            self.requests, self.choose = [], choose

    def note(self, method: str, path: str) -> Fault | None:
        """Write a request down, with what is to be done to it."""
        with self._lock:
            fault = self.choose(len(self.requests), method, path)
            self.requests.append(Request(method, path, fault))
        return fault

    def forward(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """(status, headers, body) of the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self._upstream)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.note(self.command, self.path)
        if fault in _ERRORS:
            status, code, message = _ERRORS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._answer(status, [("Content-Type", "application/xml")], text.encode())
        elif fault == "reset":
            self._reset()
        else:
            if fault == "stall":
                time.sleep(self.owner.stall_seconds)
            status, headers, data = self.owner.forward(self.command, self.path, self.headers, body)
            if fault == "lost":
                self._reset()
            else:
                self._answer(status, headers, data, is_cut=fault == "truncated")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names of the library

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, is_cut: bool = False) -> None:
        with contextlib.suppress(OSError):  # it did not wait
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length", str(len(data)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if is_cut else data)
            self.wfile.flush()
        if is_cut:
            self._reset()

    def _reset(self) -> None:
        """Close with RST instead of a farewell."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client, or _reset, has closed the connection
            super().handle_one_request()
            return
        self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_arguments: Any) -> None:
        """Nothing: the tests have ``Proxy.requests``."""
