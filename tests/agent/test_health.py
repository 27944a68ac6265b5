"""The health server serves many, and cannot be made to serve more than it has room for."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport_agent import health
from homeport_agent.health import CONNECTIONS, HealthServer


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    server = HealthServer(tmp_path / "http.sock", f"127.0.0.1:{number}", lambda: None, lambda: None)
    yield number
    server.close()


def answer(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    with contextlib.suppress(ConnectionResetError), connection.makefile("rb") as file:
        return file.read()
    return b""


def ask(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return answer(connection)


def dawdle(stack: contextlib.ExitStack, port: int, count: int) -> list[socket.socket]:
    """Connections that never finish their request, and have all been accepted."""
    slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
    for each in slow:
        each.sendall(b"GET /healthz HT")
    return slow


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def wait_until_threads(count: int) -> None:
    until = time.monotonic() + 30
    while threads() != count:
        assert time.monotonic() < until, threads()
        time.sleep(0.01)


def test_one_more_than_there_is_room_for_is_refused_at_once(port: int, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        slow = dawdle(stack, port, CONNECTIONS)
        wait_until_threads(CONNECTIONS)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as more:
            assert answer(more).startswith(b"HTTP/1.0 503 ")
        assert time.monotonic() < began + 5
        assert threads() == CONNECTIONS
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(tmp_path / "http.sock"))
            local.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert b" 200 " in answer(local), "the unix socket has room of its own"
        slow[0].sendall(b"TP/1.0\r\n\r\n")
        assert b" 200 " in answer(slow[0]), "and the others are served"
        wait_until_threads(CONNECTIONS - 1)
        assert b" 200 " in ask(port)
    wait_until_threads(0)


def test_who_dawdles_loses_the_place_to_others(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then is no silence, on which a socket's own timeout would wait."""
    monkeypatch.setattr(health, "LONGEST", 0.5)
    with contextlib.ExitStack() as stack:
        slow = dawdle(stack, port, CONNECTIONS)
        wait_until_threads(CONNECTIONS)
        until = time.monotonic() + 10
        while b" 200 " not in ask(port):
            assert time.monotonic() < until
            for each in slow:
                with contextlib.suppress(OSError):
                    each.send(b"T")
            time.sleep(0.1)
    wait_until_threads(0)
