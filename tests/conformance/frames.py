"""Frames as guests would send them, with checksums that are right. Pure.

The number of a probe stands where nothing on the way reads it: the identification of IPv4, the flow label of IPv6. It
is the source port as well (of ICMP: the identifier), so that no two probes are of one connection.
References: RFC 791, 8200, 9293, 768, 9260, 792, 4443; RARP is RFC 903.
"""

import struct
from collections.abc import Iterable

from homeport_api.addresses import IpAddress, MacAddress
from homeport_api.workload import Protocol

IPV4, IPV6, VLAN, RARP = 0x0800, 0x86DD, 0x8100, 0x8035
BROADCAST = MacAddress("ff:ff:ff:ff:ff:ff")
GREETING, MARKER = 3, 4
"""RARP's two operations: a guest says where it is, and the last frame of a volley."""
_TCP, _UDP, _SCTP, _ICMP, _ICMP6 = 6, 17, 132, 1, 58
_NUMBERS = {Protocol.TCP: _TCP, Protocol.UDP: _UDP, Protocol.SCTP: _SCTP}
_SYN = 0x02
_PAYLOAD = b"conformance"


def rarp(source: MacAddress, operation: int, vlan: int | None = None) -> bytes:
    """To everybody. Policies never judge it."""
    mac = _octets(source)
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + mac + bytes(4) + mac + bytes(4)
    return _ethernet(source, BROADCAST, RARP, vlan) + body.ljust(46, b"\0")


def probe(
    ends: tuple[MacAddress, MacAddress],
    source: IpAddress,
    target: IpAddress,
    protocol: Protocol | None,
    port: int | None,
    number: int,
    vlan: int | None = None,
) -> bytes:
    """The first packet of a connection: a SYN, a datagram, an INIT, or without a protocol an echo request."""
    carried = _ICMP if source.version == 4 else _ICMP6
    if protocol is not None:
        carried = _NUMBERS[protocol]
    segment = _segment(carried, source, target, number, port or 0)
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), number, 0x4000, 64, carried, 0)
        addresses = source.packed + target.packed
        total = checksum(head + addresses)
        return _ethernet(*ends, IPV4, vlan) + head[:10] + struct.pack("!H", total) + addresses + segment
    head = struct.pack("!IHBB", 6 << 28 | number, len(segment), carried, 64)
    return _ethernet(*ends, IPV6, vlan) + head + source.packed + target.packed + segment


def _segment(carried: int, source: IpAddress, target: IpAddress, number: int, port: int) -> bytes:
    match carried:
        case 6:
            head = struct.pack("!HHIIBBHHH", number, port, number << 8, 0, 5 << 4, _SYN, 65535, 0, 0)
            return _summed(head, 16, carried, source, target)
        case 17:
            body = struct.pack("!HHHH", number, port, 8 + len(_PAYLOAD), 0) + _PAYLOAD
            return _summed(body, 6, carried, source, target)
        case 132:
            init = struct.pack("!BBHIIHHI", 1, 0, 20, 0x10000 + number, 65535, 1, 1, 1)
            head = struct.pack("!HHI", number, port, 0)
            total = struct.pack("<I", crc32c(head + bytes(4) + init))
            return head + total + init
        case 1:
            body = struct.pack("!BBHHH", 8, 0, 0, number, 1) + _PAYLOAD
            return body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        case _:
            body = struct.pack("!BBHHH", 128, 0, 0, number, 1) + _PAYLOAD
            return _summed(body, 2, carried, source, target)


def _summed(segment: bytes, at: int, carried: int, source: IpAddress, target: IpAddress) -> bytes:
    """With its checksum, over the pseudo header too; UDP writes a sum of zero as ones."""
    pseudo = source.packed + target.packed + struct.pack("!II", len(segment), carried)
    total = checksum(pseudo + segment) or (0xFFFF if carried == _UDP else 0)
    return segment[:at] + struct.pack("!H", total) + segment[at + 2 :]


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    total = 0xFFFFFFFF
    for octet in data:
        total = total >> 8 ^ _CASTAGNOLI[(total ^ octet) & 0xFF]
    return total ^ 0xFFFFFFFF


def _table() -> Iterable[int]:
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_CASTAGNOLI = tuple(_table())


def _ethernet(source: MacAddress, target: MacAddress, kind: int, vlan: int | None) -> bytes:
    tag = b"" if vlan is None else struct.pack("!HH", VLAN, vlan)
    return _octets(target) + _octets(source) + tag + kind.to_bytes(2, "big")


def _octets(mac: MacAddress) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
