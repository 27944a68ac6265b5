"""The agent's socket: bounded, with a deadline, and never stuck on a bad peer."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport_agent.server import Server
from homeport_api.errors import HomeportError
from homeport_cni.frames import Frame, decode_json, encode_json
from homeport_cni.sockets import Received, connect, read_frame, send_frame

Serve = Callable[..., Path]


def refuse(_: Received, error: HomeportError) -> Frame:
    return encode_json({"refused": str(error)})


def echo(received: Received) -> Frame:
    return encode_json({"echo": decode_json(received.frame.payload)})


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(handler: Callable[[Received], Frame] = echo, workers: int = 2, deadline: float = 30.0) -> Path:
        path = tmp_path / "agent.sock"
        servers.append(Server(path, handler, refuse, workers, deadline))
        servers[-1].start()
        return path

    yield start
    for server in servers:
        server.close()


def call(path: Path, value: dict[str, object]) -> dict[str, object]:
    with connect(str(path)) as connection:
        send_frame(connection, encode_json(value))
        received = read_frame(connection)
        assert received is not None
        with received:
            return decode_json(received.frame.payload)


def test_answers_and_is_for_root_alone(serve: Serve) -> None:
    path = serve()
    assert call(path, {"n": 1}) == {"echo": {"n": 1}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_more_calls_than_workers_wait_and_all_are_answered(serve: Serve) -> None:
    at_work = [0, 0]
    guard = threading.Lock()

    def slow(received: Received) -> Frame:
        with guard:
            at_work[0] += 1
            at_work[1] = max(at_work)
        time.sleep(0.01)
        with guard:
            at_work[0] -= 1
        return echo(received)

    path = serve(slow, workers=4)
    answers: list[object] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(call(path, {"n": n}))) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert at_work[1] <= 4


def test_who_waited_too_long_is_refused_and_never_begun(serve: Serve) -> None:
    release = threading.Event()
    begun: list[object] = []

    def handler(received: Received) -> Frame:
        begun.append(decode_json(received.frame.payload))
        release.wait(10)
        return echo(received)

    path = serve(handler, workers=1, deadline=0.05)
    first = threading.Thread(target=call, args=(path, {"n": 1}))
    first.start()
    while not begun:
        time.sleep(0.001)
    second: list[dict[str, object]] = []
    waiting = threading.Thread(target=lambda: second.append(call(path, {"n": 2})))
    waiting.start()
    time.sleep(0.2)
    release.set()
    first.join()
    waiting.join()
    assert "busy" in str(second[0]["refused"])
    assert begun == [{"n": 1}]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00", id="half a header"),
        pytest.param(b"\xff\xff\xff\xffJ", id="too long"),
        pytest.param(b"\x00\x00\x00\x02Z1", id="unknown kind"),
        pytest.param(b"\x00\x00\x00\x09J{", id="cut short"),
    ],
)
def test_a_broken_peer_costs_nothing(serve: Serve, data: bytes) -> None:
    path = serve(workers=1)
    with connect(str(path)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert call(path, {"n": 3}) == {"echo": {"n": 3}}


def test_a_handler_that_fails_takes_no_worker_with_it(serve: Serve) -> None:
    def handler(received: Received) -> Frame:
        if decode_json(received.frame.payload)["n"] == 1:
            raise ZeroDivisionError
        return echo(received)

    path = serve(handler, workers=1)
    with connect(str(path)) as connection:
        send_frame(connection, encode_json({"n": 1}))
        assert read_frame(connection) is None
    assert call(path, {"n": 2}) == {"echo": {"n": 2}}
