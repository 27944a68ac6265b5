"""Netlink messages and sockets: just the codec that the verbs of this package need. It knows no link, bridge or rule.

Reference: netlink(7), RFC 3549 §2.3, and the kernel's `Documentation/userspace-api/netlink/intro.rst`.

Why not a library: the requests of one attach are a dozen fixed messages, sent from many threads over sockets that
belong to other network namespaces. Encoding them directly costs a tenth of what a general library costs, and such a
socket never reopens itself where the calling thread happens to be.
"""

import errno
import itertools
import socket
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from homeport_api.errors import Unavailable
from homeport_dataplane.errors import KernelRefused

ROUTE = 0
NETFILTER = 12

REQUEST = 0x01
ACK = 0x04
DUMP = 0x300
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400

_ERROR = 2
_DONE = 3
_DUMP_INTERRUPTED = 0x10
_CAPPED = 0x100
_EXPLAINED = 0x200

_SOL_NETLINK = 270
_CAP_ACK = 10
_EXT_ACK = 11
_STRICT_CHECK = 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")
_BE16 = struct.Struct("!H")
_BE32 = struct.Struct("!I")
_NETFILTER_HEADER = struct.Struct("!BBH")
_TYPE_MASK = 0x3FFF
_NESTED = 0x8000

_RECEIVE = 1 << 16
_SO_RCVBUFFORCE = 33
_ADD_MEMBERSHIP = 1
DUMP_TRIES = 20


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel. `operation` is what an error will say was tried."""

    operation: str
    type: int
    body: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One message from the kernel. `port` is the netlink port of the socket whose request caused it."""

    type: int
    body: bytes
    port: int = 0


class DumpInterrupted(Exception):
    """What is dumped changed meanwhile, so the parts do not make one picture: take it again."""


def netfilter_header(family: int, resource: int = 0) -> bytes:
    """What every body of the netfilter protocol begins with; the resource is a log's group."""
    return _NETFILTER_HEADER.pack(family, 0, resource)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def be16(kind: int, value: int) -> bytes:
    """In network byte order, as all of netfilter's numbers are."""
    return attribute(kind, _BE16.pack(value))


def be32(kind: int, value: int) -> bytes:
    return attribute(kind, _BE32.pack(value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Every attribute in order, repeated ones too. Stops at the first that does not fit: the kernel sends none."""
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _TYPE_MASK, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute_map(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes by kind; of repeated ones the last."""
    return dict(attributes(body, offset))


def as_u8(value: bytes | None, default: int = 0) -> int:
    return value[0] if value else default


def as_u16(value: bytes | None, default: int = 0) -> int:
    return int(_U16.unpack_from(value)[0]) if value else default


def as_u32(value: bytes | None, default: int = 0) -> int:
    return int(_U32.unpack_from(value)[0]) if value else default


def as_i32(value: bytes | None, default: int = 0) -> int:
    return int(_I32.unpack_from(value)[0]) if value else default


def as_be16(value: bytes | None, default: int = 0) -> int:
    return int(_BE16.unpack_from(value)[0]) if value else default


def as_be32(value: bytes | None, default: int = 0) -> int:
    return int(_BE32.unpack_from(value)[0]) if value else default


def as_text(value: bytes | None) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace") if value else ""


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(type, flags, sequence number, port, body) of each message in one datagram."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > len(data):
            return
        yield kind, flags, sequence, port, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


class NetlinkSocket:
    """One socket in the network namespace where the thread stood when it was made, wherever it is used later.

    Not to be used by two threads at once; `Namespace.netlink()` lends each out to one."""

    __slots__ = ("_buffer", "_sequence", "_socket")

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = itertools.count(1)
        self._buffer = bytearray(_RECEIVE)

    def close(self) -> None:
        self._socket.close()

    def request(self, *requests: Request) -> list[Reply]:
        """Sends all in one system call and waits for every answer; the kernel takes them in order and goes on after
        a refused one. Returns what was answered besides acknowledgements; raises KernelRefused for the first
        refused."""
        answers, refusals = self.attempt(*requests)
        if refusals:
            raise refusals[min(refusals)]
        return answers

    def attempt(self, *requests: Request) -> tuple[list[Reply], dict[int, KernelRefused]]:
        """Like `request`, but gives the refusals back, by position."""
        position: dict[int, int] = {}
        packets = []
        for at, request in enumerate(requests):
            sequence = next(self._sequence) & 0xFFFFFFFF
            position[sequence] = at
            length = 16 + len(request.body)
            packets.append(_HEADER.pack(length, request.type, request.flags | REQUEST | ACK, sequence, 0))
            packets.append(request.body + b"\0" * (-len(request.body) % 4))
        self._socket.sendmsg(packets)
        waiting = set(position)
        answers: list[Reply] = []
        refusals: dict[int, KernelRefused] = {}
        while waiting:
            for kind, flags, sequence, port, body in messages(self._receive()):
                if sequence not in waiting:
                    continue
                if kind != _ERROR:
                    answers.append(Reply(kind, body, port))
                    continue
                waiting.discard(sequence)
                code = -as_i32(body)
                if code:
                    at = position[sequence]
                    refusals[at] = KernelRefused(code, requests[at].operation, _explanation(flags, body))
        return answers, refusals

    def dump(self, request: Request) -> list[Reply]:
        """Every object of a kind, as one consistent picture: a dump that a change ran into is taken again. Raises
        Unavailable when changes never pause."""
        for _ in range(DUMP_TRIES):
            try:
                return [reply for part in self.dump_parts(request) for reply in part]
            except DumpInterrupted:
                continue
        raise Unavailable(f"{request.operation}: it keeps changing while it is read; try again")

    def dump_parts(self, request: Request) -> Generator[list[Reply], None, None]:
        """The same in parts, as they arrive: the kernel goes on only when a part is taken. Raises DumpInterrupted
        behind the last part when a change ran into it. Until it ended the socket is good for nothing else."""
        sequence = next(self._sequence) & 0xFFFFFFFF
        header = _HEADER.pack(16 + len(request.body), request.type, request.flags | REQUEST | DUMP, sequence, 0)
        self._socket.sendmsg([header, request.body])
        whole = True
        while True:
            replies: list[Reply] = []
            for kind, flags, answered, port, body in messages(self._receive()):
                if answered != sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind not in (_DONE, _ERROR):
                    replies.append(Reply(kind, body, port))
                    continue
                code = -as_i32(body)
                if code and code != errno.EINTR:
                    raise KernelRefused(code, request.operation)
                if replies:
                    yield replies
                if code or not whole:
                    raise DumpInterrupted(request.operation)
                return
            yield replies

    def _receive(self) -> bytes:
        size = self._socket.recv_into(self._buffer)
        return bytes(memoryview(self._buffer)[:size])


class NetlinkListener(NetlinkSocket):
    """A socket that hears what the kernel tells one or more multicast groups, or whoever asked to be told. For one
    reader. What arrives while a request waits for its answer is lost, so ask before it matters."""

    __slots__ = ()

    def __init__(self, protocol: int, groups: tuple[int, ...], buffer_size: int = 1 << 21) -> None:
        super().__init__(protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_size)  # past rmem_max
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Reply] | None:
        """The messages of one datagram; None when the kernel dropped some because nobody read in time (ENOBUFS)."""
        try:
            data = self._receive()
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise
        return [Reply(kind, body, port) for kind, _, _, port, body in messages(data)]


def _explanation(flags: int, body: bytes) -> str:
    """The kernel's extended acknowledgement: behind the code and the (capped) header of our request."""
    if not flags & _EXPLAINED:
        return ""
    length = 16 if flags & _CAPPED else as_u32(body[4:8])
    return as_text(attribute_map(body, 4 + length).get(1))
