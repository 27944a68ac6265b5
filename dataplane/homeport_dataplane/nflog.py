"""Packets that rules log to a group (`log group N`), as they were judged: the prefix, the ports, the first bytes.

In every hook of the bridge family the payload begins behind the Ethernet header, which is given beside it (kernels 6.1
and 6.18). A tag that the kernel took off stands apart; one that it did not, or put back since another is outside, is
what the payload begins with. In forward a frame already has the tag with which it will leave. Reference: the kernel's
`nfnetlink_log.c`, nft(8).
"""

import errno
import os
import select
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from homeport_api.addresses import VlanId
from homeport_api.errors import Conflict, Unavailable
from homeport_dataplane import frames
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netlink import (
    NETFILTER,
    NetlinkListener,
    Reply,
    Request,
    as_be16,
    as_be32,
    as_text,
    attribute,
    attribute_map,
    be16,
    be32,
    netfilter_header,
)
from homeport_dataplane.netns import Namespace, entered

COPIED = 128
"""Bytes of a packet that are copied: IPv6 with some extension headers, and the ports."""
_BUFFER = 4 << 20

_PACKET, _CONFIG = 4 << 8, 4 << 8 | 1
_CFG_COMMAND, _CFG_MODE, _CFG_TIMEOUT, _CFG_THRESHOLD, _CFG_FLAGS = 1, 2, 4, 5, 6
_BIND, _COPY_PACKET, _NUMBERED = 1, 2, 1
_TIMEOUT, _THRESHOLD = 1, 16
"""The kernel sends what it has after 10 ms, or when there are 16: prompt, and a flood does not cost a buffer each."""

_HEADER, _IN, _OUT, _PORT_IN, _PORT_OUT, _PAYLOAD, _PREFIX, _SEQUENCE, _VLAN, _LINK_HEADER = (
    1, 4, 5, 6, 7, 9, 10, 12, 20, 21,
)  # fmt: skip
_VLAN_TCI = 2
_SEQUENCES = 1 << 32
_ETHERNET = 14


@dataclass(frozen=True, slots=True)
class Logged:
    """One packet. `in_index` and `out_index` are links of the namespace, in the bridge family the ports; None where the
    hook does not know them. `ethertype` is what `payload` begins with, which is cut off after `COPIED` bytes.
    `link_header` is the Ethernet header, empty where there was none; `vlan` is the tag that the kernel took off, 0 a
    priority tag."""

    group: int
    prefix: str
    in_index: int | None
    out_index: int | None
    ethertype: int
    payload: bytes
    link_header: bytes = b""
    vlan: VlanId | None = None

    def seen(self) -> frames.Seen | None:
        """What packet it was; None when it is not IP, or its end is cut off."""
        return frames.read_packet(self.ethertype, self.payload)


class PacketLog:
    """What is logged to some groups of a namespace, in order within a group and not between them. Iterating blocks
    until something is and ends after `close`, which any thread may call. One reader only. `lost` counts what was logged
    and could not be delivered, since nobody read in time or the kernel had no memory; it is known when the next packet
    of the group is."""

    def __init__(self, namespace: Namespace, groups: Sequence[int], *, buffer_size: int = _BUFFER) -> None:
        """Hears everything from its end on. Raises Conflict when somebody else reads a group, for each has one reader;
        Unavailable where the kernel has no such log."""
        self.lost = 0
        self._expected: dict[int, int] = {}
        with entered(namespace):
            self._listener = _listener(namespace, buffer_size)
        try:
            for group in groups:
                _bind(self._listener, namespace, group)
        except BaseException:
            self._listener.close()
            raise
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._reading = self._released = False

    def __iter__(self) -> Iterator[Logged]:
        with self._lock:
            if self._released:
                return
            self._reading = True
        poll = select.poll()
        for each in (self._wake, self._listener.fileno()):
            poll.register(each, select.POLLIN)
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._wake in ready:
                    return
                # None: an overrun. The numbers of the packets that follow tell how many it took.
                for reply in self._listener.receive() or ():
                    if reply.type == _PACKET:
                        yield self._read(reply)
        finally:
            with self._lock:
                self._release()

    def close(self) -> None:
        """Ends the iteration, now or when it begins, and gives the groups back. Repeating it does nothing more."""
        with self._lock:
            if self._reading and not self._released:
                os.eventfd_write(self._wake, 1)
            else:
                self._release()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._listener.close()
            os.close(self._wake)

    def _read(self, reply: Reply) -> Logged:
        values = attribute_map(reply.body, 4)
        group = as_be16(reply.body[2:4])
        if _SEQUENCE in values:
            number = as_be32(values[_SEQUENCE])
            self.lost += (number - self._expected.get(group, number)) % _SEQUENCES
            self._expected[group] = (number + 1) % _SEQUENCES
        return read_logged(group, values)


def read_logged(group: int, values: dict[int, bytes]) -> Logged:
    """A packet's message by its attributes. What is missing is None, 0 or empty."""
    tag = attribute_map(values[_VLAN]).get(_VLAN_TCI) if _VLAN in values else None
    return Logged(
        group=group,
        prefix=as_text(values.get(_PREFIX)),
        in_index=as_be32(values.get(_PORT_IN) or values.get(_IN)) or None,
        out_index=as_be32(values.get(_PORT_OUT) or values.get(_OUT)) or None,
        ethertype=as_be16(values.get(_HEADER)),
        payload=values.get(_PAYLOAD, b""),
        link_header=values.get(_LINK_HEADER, b"")[:_ETHERNET],
        vlan=VlanId(as_be16(tag) & 0xFFF) if tag else None,
    )


def _listener(namespace: Namespace, buffer_size: int) -> NetlinkListener:
    try:
        return NetlinkListener(NETFILTER, (), buffer_size)
    except OSError as error:
        raise Unavailable(f"{namespace.label}: this kernel has no netfilter ({error})") from error


def _bind(listener: NetlinkListener, namespace: Namespace, group: int) -> None:
    """One message does it all, so no packet of the group comes otherwise than asked for."""
    body = netfilter_header(0, group) + b"".join(
        (
            attribute(_CFG_COMMAND, bytes((_BIND,))),
            attribute(_CFG_MODE, struct.pack("!IBx", COPIED, _COPY_PACKET)),
            be32(_CFG_TIMEOUT, _TIMEOUT),
            be32(_CFG_THRESHOLD, _THRESHOLD),
            be16(_CFG_FLAGS, _NUMBERED),
        )
    )
    try:
        listener.request(Request(f"reading log group {group} of {namespace.label}", _CONFIG, body))
    except KernelRefused as refused:
        if refused.errno in (errno.EPERM, errno.EBUSY):
            raise Conflict(
                f"log group {group} of {namespace.label} has another reader already ({refused})"
            ) from refused
        if refused.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise Unavailable(f"{namespace.label}: this kernel cannot log packets to us ({refused})") from refused
        raise
