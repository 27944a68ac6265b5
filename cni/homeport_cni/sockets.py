"""Frames over a unix socket, with descriptors beside them (unix(7), SCM_RIGHTS). The only I/O of this package's
protocol: `frames` says what the bytes mean.

Both ends work against a deadline on the monotonic clock, so that a peer that sends a byte a second holds nobody.
"""

import os
import socket
import time
from array import array
from types import TracebackType

from homeport_api.errors import BadInput, Unavailable
from homeport_cni.frames import HEADER, Frame, decode_header, encode

MAX_DESCRIPTORS = 4
CHUNK = 1 << 16
_RIGHTS_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array("i").itemsize)


class Received:
    """A frame and the descriptors that came with it. It owns them: leaving the `with` block closes those still in
    `descriptors`; whoever wants to keep one takes it with `take`."""

    __slots__ = ("descriptors", "frame")

    def __init__(self, frame: Frame, descriptors: list[int]) -> None:
        self.frame = frame
        self.descriptors = descriptors

    def take(self) -> int | None:
        """The first descriptor left, now the caller's to close; None when there is none."""
        return self.descriptors.pop(0) if self.descriptors else None

    def __enter__(self) -> "Received":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_all(self.descriptors)


def close_all(descriptors: list[int]) -> None:
    """Closes and forgets them; a repeat does nothing."""
    while descriptors:
        os.close(descriptors.pop())


def connect(path: str, timeout: float = 5.0) -> socket.socket:
    """A connection to the socket at `path`. Raises Unavailable, saying why, when nobody listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise Unavailable(f"the agent does not answer at {path}: {error.strerror or error}") from error
    return connection


def send_frame(
    connection: socket.socket, frame: Frame, descriptors: tuple[int, ...] = (), timeout: float = 60.0
) -> None:
    """Sends the whole frame, the descriptors with its first bytes. Raises Unavailable when the peer went away or does
    not read in time; the connection is then of no further use."""
    deadline = time.monotonic() + timeout
    data = memoryview(encode(frame))
    try:
        connection.settimeout(timeout)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        sent = connection.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        while sent < len(data):
            connection.settimeout(_left(deadline))
            sent += connection.send(data[sent:], socket.MSG_NOSIGNAL)
    except OSError as error:
        raise Unavailable(f"the other end of the agent's socket does not read: {error.strerror or error}") from error


def read_frame(connection: socket.socket, timeout: float = 60.0) -> Received | None:
    """The next frame; None when the peer closed before its first byte. A frame cut short, too long or with more than
    MAX_DESCRIPTORS descriptors is BadInput; silence until the timeout is Unavailable. Memory grows with what arrives,
    not with what the header announces. On any error the descriptors received so far are closed."""
    deadline = time.monotonic() + timeout
    descriptors: list[int] = []
    try:
        header = _read(connection, HEADER.size, deadline, descriptors)
        if not header:
            return None
        if len(header) < HEADER.size:
            raise BadInput("the connection ended within the header of a frame")
        kind, length = decode_header(header)
        payload = _read(connection, length, deadline, descriptors)
        if len(payload) < length:
            raise BadInput(f"the connection ended after {len(payload)} of {length} bytes of a frame")
        return Received(Frame(kind, payload), descriptors)
    except OSError as error:
        close_all(descriptors)
        raise Unavailable(f"the other end of the agent's socket is silent: {error.strerror or error}") from error
    except BaseException:
        close_all(descriptors)
        raise


def _read(connection: socket.socket, size: int, deadline: float, descriptors: list[int]) -> bytes:
    """`size` bytes, or fewer at the end of the stream."""
    data = bytearray()
    while len(data) < size:
        connection.settimeout(_left(deadline))
        # Not socket.recv_fds: it drops its flags, and the descriptors would leak into every child.
        chunk, ancillary, flags, _ = connection.recvmsg(
            min(size - len(data), CHUNK), _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                descriptors.extend(fds)
        if flags & socket.MSG_CTRUNC or len(descriptors) > MAX_DESCRIPTORS:
            raise BadInput(f"more than {MAX_DESCRIPTORS} descriptors came with one frame")
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
