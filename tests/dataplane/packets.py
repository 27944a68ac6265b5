"""Packets as bytes, made by hand: the first ones of connections of every protocol that has ports or numbers."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from homeport_api.addresses import IpAddress

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132


def ethernet(to: str, source: str, packet: bytes, *tags: int, tpid: int = 0x8100) -> bytes:
    """A frame with an IP packet in it."""
    head = bytes.fromhex((to + source).replace(":", ""))
    head += b"".join(struct.pack("!HH", tpid, tag) for tag in tags)
    return head + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def ip(source: str, target: str, protocol: int, body: bytes) -> bytes:
    """A packet of the addresses' family."""
    return _ip(ip_address(source), ip_address(target), protocol, body)


def begin(protocol: int, source_port: int = 0, target_port: int = 0) -> bytes:
    """What opens a connection. Checksums are left out: conntrack checks them only where it is told to."""
    match protocol:
        case 6:
            return struct.pack("!HHIIBBHHH", source_port, target_port, 1, 0, 0x50, 0x02, 1024, 0, 0)
        case 17:
            return struct.pack("!HHHH", source_port, target_port, 8, 0)
        case 132:
            chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 4096, 1, 1, 1)
            return struct.pack("!HHII", source_port, target_port, 0, 0) + chunk
        case 1:
            return struct.pack("!BBHHH", 8, 0, 0, source_port, 1)
        case 58:
            return struct.pack("!BBHHH", 128, 0, 0, source_port, 1)
    raise ValueError(protocol)


def _ip(source: IpAddress, target: IpAddress, protocol: int, body: bytes) -> bytes:
    if isinstance(source, IPv6Address):
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source.packed + target.packed + body
    assert isinstance(target, IPv4Address)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + source.packed + target.packed
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + body
