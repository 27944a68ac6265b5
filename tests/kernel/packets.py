"""Packets as a guest that means harm would make them: whole, cut, or wrapped in headers. Pure.

Checksums are right, since connection tracking looks at them. References: RFC 791, 792, 768, 8200, 4443, 4861, 9293.
"""

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise

from tests.conformance.frames import checksum

ICMP, IGMP, TCP, UDP, ICMP6 = 1, 2, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, NOTHING, DESTINATION = 0, 43, 44, 51, 59, 60
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ARP_REQUEST, ARP_REPLY = 1, 2
NOBODY = "00:00:00:00:00:00"
BROADCAST = "ff:ff:ff:ff:ff:ff"

# Of each extension header what follows the next one's number. An option that pads, a route that is at its end, an
# authentication of nothing, and a fragment that is all there is (RFC 6946).
_WRAPPING = {
    HOP_BY_HOP: bytes([0, 1, 4, 0, 0, 0, 0]),
    DESTINATION: bytes([0, 1, 4, 0, 0, 0, 0]),
    ROUTING: bytes(7),
    AUTHENTICATION: bytes([4]) + bytes(22),
    FRAGMENT: bytes(7),
}


def ethernet(to: str, source: str, packet: bytes, *, kind: int | None = None, tags: Sequence[int] = ()) -> bytes:
    """`kind` is that of the packet's family unless something else is said."""
    if kind is None:
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    head = bytes.fromhex((to + source).replace(":", ""))
    return head + b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags) + kind.to_bytes(2) + packet


def ip(
    source: str,
    target: str,
    protocol: int,
    body: bytes,
    *,
    options: bytes = b"",
    number: int = 0,
    offset: int = 0,
    more: bool = False,
    length: int | None = None,
) -> bytes:
    """Of the addresses' family. With a `number` one fragment of that packet, which begins at `offset`. `length`: what
    the header says, where that is not the truth."""
    ends = ip_address(source).packed + ip_address(target).packed
    if len(ends) == 32:
        if number:
            body = struct.pack("!BBHI", protocol, 0, offset | more, number) + body
            protocol = FRAGMENT
        return struct.pack("!IHBB", 6 << 28, len(body) if length is None else length, protocol, 64) + ends + body
    words = 5 + len(options) // 4
    total = words * 4 + len(body) if length is None else length
    where = 0x2000 * more | offset // 8
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, number, where, 64, protocol, 0) + ends + options
    return head[:10] + checksum(head).to_bytes(2) + head[12:] + body


def behind(protocol: int, body: bytes, *headers: int) -> tuple[int, bytes]:
    """The number of the first of these IPv6 extension headers, and the body with all of them before it."""
    for each in reversed(headers):
        protocol, body = each, bytes([protocol]) + _WRAPPING[each] + body
    return protocol, body


def cut(source: str, target: str, protocol: int, body: bytes, *at: int, number: int) -> list[bytes]:
    """The packet in fragments, cut at these places, all of which are multiples of eight."""
    places = [0, *at, len(body)]
    return [
        ip(source, target, protocol, body[first:last], number=number, offset=first, more=last < len(body))
        for first, last in pairwise(places)
    ]


def udp(source: str, target: str, source_port: int, target_port: int, data: bytes = b"") -> bytes:
    head = struct.pack("!HHHH", source_port, target_port, 8 + len(data), 0)
    return _summed(head + data, 6, UDP, source, target)


def tcp(source: str, target: str, source_port: int, target_port: int, flags: int, data: bytes = b"") -> bytes:
    head = struct.pack("!HHIIBBHHH", source_port, target_port, 1, 0, 5 << 4, flags, 65535, 0, 0)
    return _summed(head + data, 16, TCP, source, target)


def icmp(source: str, target: str, kind: int, code: int, rest: bytes, data: bytes = b"") -> bytes:
    """Of the addresses' family. `rest` are the four bytes behind the checksum."""
    body = bytes([kind, code, 0, 0]) + rest + data
    if ip_address(source).version == 6:
        return _summed(body, 2, ICMP6, source, target)
    return body[:2] + checksum(body).to_bytes(2) + body[4:]


def echo(source: str, target: str, data: bytes = b"", *, number: int = 1) -> bytes:
    """A request."""
    kind = 8 if ip_address(source).version == 4 else 128
    return icmp(source, target, kind, 0, struct.pack("!HH", number, 1), data)


def neighbour(source: str, target: str, kind: int, whom: str, marker: bytes) -> bytes:
    """A neighbour solicitation (135) or advertisement (136) for an address, or a redirect (137). The marker is in an
    option that nobody knows."""
    flags = 0x20000000 if kind == 136 else 0
    what = ip_address(whom).packed * (2 if kind == 137 else 1)
    return icmp(source, target, kind, 0, struct.pack("!I", flags), what + bytes([254, 2]) + marker.ljust(14, b"\0"))


def router_advertisement(source: str, target: str, marker: bytes) -> bytes:
    body = struct.pack("!II", 0, 0) + bytes([254, 2]) + marker.ljust(14, b"\0")
    return icmp(source, target, 134, 0, struct.pack("!BBH", 64, 0, 1800), body)


def arp(operation: int, mac: str, address: str, whose: str, asked: str, marker: bytes) -> bytes:
    """`mac` and `address` are the sender's, `whose` and `asked` the target's. The marker is behind the end."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    for hardware, protocol in ((mac, address), (whose, asked)):
        body += bytes.fromhex(hardware.replace(":", "")) + ip_address(protocol).packed
    return body + marker.ljust(18, b"\0")


def _summed(segment: bytes, at: int, protocol: int, source: str, target: str) -> bytes:
    """With its checksum, over the pseudo header too; UDP writes a sum of zero as ones."""
    pseudo = ip_address(source).packed + ip_address(target).packed + struct.pack("!II", len(segment), protocol)
    total = checksum(pseudo + segment) or (0xFFFF if protocol == UDP else 0)
    return segment[:at] + total.to_bytes(2) + segment[at + 2 :]
