"""The agent's unix socket: one request a connection, at most N at work, the rest in a queue with a deadline.

What a request means is not known here; a handler takes a frame and its descriptors and gives the answer's frame. The
socket is 0600 in a 0700 directory, so the peer is root; what it sends is bounded all the same.
"""

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from homeport_api.errors import HomeportError, Unavailable
from homeport_cni.frames import Frame
from homeport_cni.sockets import Received, read_frame, send_frame

log = logging.getLogger(__name__)

READ_TIMEOUT = 10.0
BACKLOG = 1024

Handler = Callable[[Received], Frame]
Refuse = Callable[[Received, HomeportError], Frame]


class Server:
    """Listens from `start` to `close`. Requests that waited longer than `deadline` seconds for a worker are answered by
    `refuse` (try again later) and never begun."""

    def __init__(self, path: Path, handler: Handler, refuse: Refuse, workers: int, deadline: float) -> None:
        self._path = path
        self._handler = handler
        self._refuse = refuse
        self._deadline = deadline
        self._queue: queue.SimpleQueue[tuple[socket.socket, float] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"request-{n}", daemon=True) for n in range(workers)]
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._busy = 0
        self._closing = threading.Event()
        self._guard = threading.Lock()

    def start(self) -> None:
        """Binds under another name and renames, so that the path never names a socket that is not listening."""
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        self._listener.bind(str(fresh))
        fresh.chmod(0o600)
        self._listener.listen(BACKLOG)
        fresh.rename(self._path)
        for thread in (*self._threads, self._acceptor):
            thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    @property
    def busy(self) -> int:
        return self._busy

    def close(self, timeout: float = 10.0) -> None:
        """Takes no further request and waits for those at work."""
        self._closing.set()
        self._path.unlink(missing_ok=True)
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("listener was down already error=%s", error)
        self._listener.close()
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                log.warning("accept failed error=%s", error)
                time.sleep(0.05)  # out of descriptors: those at work give theirs back
                continue
            self._queue.put((connection, time.monotonic()))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            connection, since = item
            with self._guard:
                self._busy += 1
            try:
                self._serve(connection, since)
            except HomeportError as error:
                log.info("request dropped error=%s", error)
            except Exception:
                log.exception("request failed")
            finally:
                connection.close()
                with self._guard:
                    self._busy -= 1

    def _serve(self, connection: socket.socket, since: float) -> None:
        received = read_frame(connection, READ_TIMEOUT)
        if received is None:
            return
        with received:
            waited = time.monotonic() - since
            if waited > self._deadline:
                answer = self._refuse(
                    received, Unavailable(f"the agent is busy: the request waited {waited:.0f} s for its turn")
                )
            else:
                answer = self._handler(received)
        send_frame(connection, answer)
