"""A relay reaches the machine's loopback from a namespace, and fails when it is told to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.relay import LOOPBACK, Relay


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The port of a server on the machine's loopback that says back what it is told."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while data := connection.recv(4096):
                            connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def connect(namespace: Namespace, port: int) -> socket.socket:
    connection = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect((LOOPBACK, port))
    return connection


def test_a_cut_relay_ends_connections_and_a_mended_one_takes_new_ones(netns: Callable[[str], Namespace]) -> None:
    node = netns("node")
    with echo() as port, contextlib.closing(Relay(node, port)) as relay:
        with connect(node, port) as connection:
            connection.sendall(b"before")
            assert connection.recv(100) == b"before"
            relay.cut()
            assert connection.recv(100) == b""
        with connect(node, port) as refused:
            assert refused.recv(100) == b""
        relay.mend()
        with connect(node, port) as connection:
            connection.sendall(b"after")
            assert connection.recv(100) == b"after"


def test_a_closed_relay_leaves_the_port(netns: Callable[[str], Namespace]) -> None:
    node = netns("node")
    with echo() as port:
        Relay(node, port).close()
        with pytest.raises(ConnectionRefusedError):
            connect(node, port)
