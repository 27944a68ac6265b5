"""`/healthz`, `/readyz` and `/metrics` on a unix socket, and on TCP only when asked.

healthz: the process serves. readyz: it can attach (switch made, first state of the store read); the body says what is
missing. Both answer 200 or 503 in plain text.

A server has so many connections at work and no more: the next one is answered 503. Who takes longer than `LONGEST`
seconds for request and answer is then cut off, so that nobody who dawdles keeps others out for good.
"""

import contextlib
import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from homeport_agent import metrics
from homeport_api.errors import Invalid

log = logging.getLogger(__name__)

Ready = Callable[[], str | None]
"""None when ready, else what is missing, in a sentence."""
Refresh = Callable[[], None]
"""Brings gauges up to date before they are read."""


CONNECTIONS = 16
LONGEST = 10.0
_FULL = b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\ntoo many connections: try again\n"


class _BoundedServer(socketserver.ThreadingMixIn, HTTPServer):
    """A thread for each connection, of which there are `CONNECTIONS` at most."""

    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: Any, handler: type[BaseHTTPRequestHandler]) -> None:
        self._began: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        now = time.monotonic()
        with self._lock:
            full = len(self._began) >= CONNECTIONS
            late = [each for each, began in self._began.items() if began + LONGEST <= now] if full else ()
            for each in late:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)  # its thread reads the end
            if not full:
                self._began[request] = now
        if full:
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(_FULL)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Also after a thread that could not be started."""
        with self._lock:
            self._began.pop(request, None)
        super().shutdown_request(request)


class _UnixServer(_BoundedServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        path = Path(str(self.server_address))
        path.unlink(missing_ok=True)
        self.socket.bind(str(path))
        os.chmod(path, 0o600)  # noqa: PTH101  before listen: nobody connects in between
        self.server_name, self.server_port = "unix", 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


def handler_class(ready: Ready, refresh: Refresh) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                self._answer(200, b"ok\n", "text/plain")
            elif path == "/readyz":
                missing = ready()
                body = f"{missing or 'ok'}\n".encode()
                self._answer(200 if missing is None else 503, body, "text/plain; charset=utf-8")
            elif path == "/metrics":
                refresh()
                self._answer(200, generate_latest(metrics.REGISTRY), "text/plain; version=0.0.4; charset=utf-8")
            else:
                self._answer(404, b"try /healthz, /readyz or /metrics\n", "text/plain")

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug("http request=%s", format % args)

    return Handler


class HealthServer:
    """Serves from construction to `close`."""

    def __init__(self, path: Path, tcp: str | None, ready: Ready, refresh: Refresh) -> None:
        handler = handler_class(ready, refresh)
        self._path = path
        self._servers: list[HTTPServer] = [_UnixServer(str(path), handler)]
        if tcp is not None:
            host, _, port = tcp.rpartition(":")
            try:
                self._servers.append(_BoundedServer((host.strip("[]") or "127.0.0.1", int(port)), handler))
            except (OSError, ValueError) as error:
                raise Invalid(f"--http-address {tcp}: {error}: write ADDRESS:PORT, free on this node") from error
        for server in self._servers:
            threading.Thread(target=server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
