"""Connections by the guests' own stacks, all of a session at once: opened, a message there and back, closed.

A talk that is denied is waited for no longer than it takes until the others are done and its denial was counted.
"""

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from homeport_dataplane.netns import Namespace, entered
from tests.conformance.volley import Heard, Talk

WITHIN, LINGER = 30.0, 0.5
_MESSAGE = b"conformance " * 100
_NUMBERS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": 132}


def hold(
    talks: Sequence[Talk], guests: Mapping[str, Namespace], counters: Callable[[], Mapping[str, int]], denied: int
) -> Heard:
    """`denied` packets at least are counted as such by the end, or it is waited for until it is too late."""
    before = _denials(counters())
    with contextlib.ExitStack() as stack:
        hall = _Hall(guests, stack, stack.enter_context(selectors.DefaultSelector()))
        for number, talk in enumerate(talks):
            hall.open(number, talk)
        wanted = {number for number, talk in enumerate(talks) if talk.allowed and talk.protocol not in hall.mute}
        end = time.monotonic() + WITHIN
        while wanted - hall.done and time.monotonic() < end:
            hall.turn(0.2)
        untried = sum(not talk.allowed and talk.protocol in hall.mute for talk in talks)
        while _denials(counters()) - before < denied - untried and time.monotonic() < end:
            hall.turn(0.05)
        linger = time.monotonic() + LINGER
        while time.monotonic() < linger:
            hall.turn(0.05)
        return Heard(frozenset(hall.done), dict(counters()), frozenset(hall.mute))


def _denials(counters: Mapping[str, int]) -> int:
    return sum(count for name, count in counters.items() if name.endswith("_denied"))


@dataclass(slots=True)
class _Hall:
    """Sockets of clients and servers; each is registered with what is to happen when it is ready."""

    guests: Mapping[str, Namespace]
    stack: contextlib.ExitStack
    selector: selectors.BaseSelector
    done: set[int] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    _served: set[tuple[str, str, str, int]] = field(default_factory=set)

    def open(self, number: int, talk: Talk) -> None:
        if talk.protocol in self.mute:
            return
        try:
            self._serve(talk)
            client = self._socket(talk.client, talk.source, talk.protocol)
        except OSError as error:
            if error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                raise
            self.mute.add(talk.protocol)
            return
        client.bind((talk.source, 0))
        client.connect_ex((talk.target, talk.port))
        if talk.protocol == "UDP":
            client.send(_MESSAGE)
            self.selector.register(client, selectors.EVENT_READ, lambda: self._answered(number, client))
        else:
            self.selector.register(client, selectors.EVENT_WRITE, lambda: self._connected(number, client))

    def turn(self, seconds: float) -> None:
        for key, _ in self.selector.select(seconds):
            key.data()

    def _serve(self, talk: Talk) -> None:
        place = talk.server, talk.target, talk.protocol, talk.port
        if place in self._served:
            return
        server = self._socket(talk.server, talk.target, talk.protocol)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((talk.target, talk.port))
        if talk.protocol == "UDP":
            self.selector.register(server, selectors.EVENT_READ, lambda: self._reply(server))
        else:
            server.listen(64)
            self.selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
        self._served.add(place)

    def _socket(self, end: str, address: str, protocol: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
        with entered(self.guests[end]):
            made = self.stack.enter_context(socket.socket(family, kind, _NUMBERS[protocol]))
        made.setblocking(False)
        return made

    def _reply(self, server: socket.socket) -> None:
        data, address = server.recvfrom(65536)
        server.sendto(data, address)

    def _accept(self, server: socket.socket) -> None:
        connection = self.stack.enter_context(server.accept()[0])
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._echo(connection))

    def _echo(self, connection: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = connection.recv(65536)
        if data:
            connection.send(data)
        else:
            self.selector.unregister(connection)

    def _connected(self, number: int, client: socket.socket) -> None:
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.selector.unregister(client)
            return
        client.send(_MESSAGE)
        self.selector.modify(client, selectors.EVENT_READ, lambda: self._answered(number, client))

    def _answered(self, number: int, client: socket.socket) -> None:
        """Small enough to come in one piece."""
        with contextlib.suppress(ConnectionError):
            if client.recv(65536) == _MESSAGE:
                self.done.add(number)
        self.selector.unregister(client)
        client.close()
