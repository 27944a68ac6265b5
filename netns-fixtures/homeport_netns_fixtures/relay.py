"""A way from a namespace's loopback to the machine's own: how a node reaches an etcd that listens on 127.0.0.1.

The listener is opened inside, so a certificate for 127.0.0.1 fits there too. `cut` ends all connections and refuses new
ones, as a network that fails; `mend` lets them in again.
"""

import contextlib
import socket
import threading

from homeport_netns_fixtures.netns import Namespace

LOOPBACK = "127.0.0.1"


class Relay:
    """Carries TCP connections to 127.0.0.1:`port` inside `namespace` to the same port outside, until `close`."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        self.port = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((LOOPBACK, port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name=f"relay-{port}", daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for connection in self._open:
                _end(connection)

    def mend(self) -> None:
        with self._lock:
            self._cut = False

    def close(self) -> None:
        self.cut()
        _end(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(inside,), name=f"relay-{self.port}", daemon=True).start()

    def _carry(self, inside: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(inside)
            try:
                outside = stack.enter_context(socket.create_connection((LOOPBACK, self.port), timeout=5))
            except OSError:
                return
            outside.settimeout(None)
            pair = {inside, outside}
            with self._lock:
                if self._cut:
                    return
                self._open |= pair
            back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
            back.start()
            _pump(inside, outside)
            back.join()
            with self._lock:
                self._open -= pair


def _pump(source: socket.socket, target: socket.socket) -> None:
    """One direction until its end, and then both: nothing carried here half-closes."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
