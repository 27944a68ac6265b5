"""Frames as they cross one link, VLAN tags included, read with AF_PACKET by a thread of the test itself.

The kernel hands a frame's outermost tag over beside the frame (packet(7), PACKET_AUXDATA); it is put back in its place,
so `Frame.data` is what stands on the wire. No packet library is needed to read the tags, which matters where Python is
emulated. The capture starts before the constructor returns: what is sent after that is seen.
"""

import fcntl
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from homeport_netns_fixtures.netns import CommandFailed, Namespace

ETH_P_ALL = 0x0003
ARP, IPV4, IPV6, RARP = 0x0806, 0x0800, 0x86DD, 0x8035
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_OUTGOING = 263, 8, 4
_SO_RCVBUFFORCE = 33
_STATUS_VLAN_VALID, _STATUS_TPID_VALID = 1 << 4, 1 << 6
_AUXDATA = struct.Struct("=IIIHHHH")
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_TPIDS = (0x8100, 0x88A8)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as on the wire; `outgoing` is as the captured link sees it."""

    data: bytes
    outgoing: bool
    at: float

    @property
    def destination(self) -> str:
        return self.data[0:6].hex(":")

    @property
    def source(self) -> str:
        return self.data[6:12].hex(":")

    @property
    def tags(self) -> tuple[tuple[int, int], ...]:
        """(TPID, VLAN ID) from the outside in; empty when untagged."""
        found: list[tuple[int, int]] = []
        at = 12
        while len(self.data) >= at + 4 and (tpid := int.from_bytes(self.data[at : at + 2])) in _TPIDS:
            found.append((tpid, int.from_bytes(self.data[at + 2 : at + 4]) & 0x0FFF))
            at += 4
        return tuple(found)

    @property
    def vlan(self) -> int | None:
        """The outermost VLAN ID; None when untagged."""
        return self.tags[0][1] if self.tags else None

    @property
    def ethertype(self) -> int:
        at = 12 + 4 * len(self.tags)
        return int.from_bytes(self.data[at : at + 2])

    @property
    def payload(self) -> bytes:
        """What follows the ethertype."""
        return self.data[14 + 4 * len(self.tags) :]


class Capture:
    """All frames of `link` in `namespace` from now on; a context manager, `close` may be called twice."""

    def __init__(self, namespace: Namespace, link: str) -> None:
        self._frames: list[Frame] = []
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((link, ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"capture-{link}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                data, ancillary, _, address = self._socket.recvmsg(65536, 256)
            except TimeoutError:
                continue
            except OSError:
                # ENETDOWN: the link went down or away. It may come back under a test's hands.
                time.sleep(0.01)
                continue
            self._frames.append(Frame(_with_tag(data, ancillary), address[2] == _PACKET_OUTGOING, time.monotonic()))

    @property
    def frames(self) -> list[Frame]:
        return list(self._frames)

    def matching(self, wanted: Callable[[Frame], bool]) -> list[Frame]:
        return [frame for frame in self.frames if wanted(frame)]

    def wait(self, wanted: Callable[[Frame], bool], *, within: float = 30) -> Frame:
        """The first frame that `wanted` accepts, be it here already or yet to come."""
        end = time.monotonic() + within
        seen = 0
        while True:
            frames = self.frames
            for frame in frames[seen:]:
                if wanted(frame):
                    return frame
            seen = len(frames)
            if time.monotonic() > end:
                raise CommandFailed(f"no such frame within {within:.0f} s; saw {[_brief(frame) for frame in frames]}")
            time.sleep(0.01)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)


def _with_tag(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(value)
            if status & _STATUS_VLAN_VALID:
                tpid = tpid if status & _STATUS_TPID_VALID else 0x8100
                return data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
    return data


def _brief(frame: Frame) -> str:
    return f"{frame.source}>{frame.destination} {frame.tags} {frame.ethertype:#06x}"


def send(namespace: Namespace, link: str, data: bytes) -> None:
    """One frame out of `link`, bytes as given: for what no stack would send. Waits until the link is running, since
    what is sent on one that only just came up is dropped without a word."""
    with namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((link, 0))
        request = struct.pack("16sH14x", link.encode(), 0)
        end = time.monotonic() + 30
        while not struct.unpack_from("H", fcntl.ioctl(raw, _SIOCGIFFLAGS, request), 16)[0] & _IFF_RUNNING:
            if time.monotonic() > end:
                raise CommandFailed(f"{link} in {namespace.name} has no carrier")
            time.sleep(0.01)
        time.sleep(0.01)  # the kernel says so a moment before the queue takes frames
        raw.send(data)
