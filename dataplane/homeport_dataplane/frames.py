"""What a packet's first bytes say of it: addresses, protocol, ports. Pure, and of any bytes it makes something or None.

Reference: RFC 791, RFC 8200 §4 (extension headers), RFC 4302 §2.2 (AH counts its length otherwise), IEEE 802.1Q,
RFC 826, RFC 4861 §4.3.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from homeport_api.addresses import IpAddress

IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
TAGS = (0x8100, 0x88A8)
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132

_WITH_PORTS = (TCP, UDP, SCTP)
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS, _MOBILITY, _HIP, _SHIM6 = 0, 43, 44, 51, 60, 135, 139, 140
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ARP_IPV4 = b"\x00\x01\x08\x00\x06\x04"
_FIRST_HOPS = (64, 128, 255)
"""The time to live of packets as hosts send them (IANA's 64, and what Windows and some routers have)."""
_EXTENSIONS = (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS, _MOBILITY, _HIP, _SHIM6)


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet. `protocol` is the one behind all extension headers. Ports are None where the protocol has none, and all
    that follows `protocol` in fragments behind the first, which carry only their datagram's middle."""

    source: IpAddress
    target: IpAddress
    protocol: int
    source_port: int | None = None
    target_port: int | None = None
    icmp_type: int | None = None
    nd_target: IPv6Address | None = None


def read_packet(ethertype: int, payload: bytes) -> Seen | None:
    """What is behind an ethertype, tags in between skipped. None for what is not IP, and for a packet that ends before
    what it would have to say."""
    at = 0
    while ethertype in TAGS:
        if len(payload) < at + 4:
            return None
        ethertype, at = _u16(payload, at + 2), at + 4
    if ethertype == IPV4:
        return _read_ipv4(payload[at:])
    return _read_ipv6(payload[at:]) if ethertype == IPV6 else None


def claimed_address(ethertype: int, payload: bytes) -> IpAddress | None:
    """The address that its sender has or is about to take: what a probe or duplicate address detection asks for, else
    the source. None where it says nothing of that, and for a packet that was only forwarded."""
    if ethertype == ARP:
        if len(payload) < 28 or payload[:6] != _ARP_IPV4:
            return None
        sender, asked = IPv4Address(payload[14:18]), IPv4Address(payload[24:28])
        return (sender if int(sender) else asked) if int(sender) or int(asked) else None
    seen = read_packet(ethertype, payload) if ethertype in (IPV4, IPV6) else None
    if seen is None:
        return None
    if int(seen.source) == 0:
        return seen.nd_target if seen.icmp_type == _SOLICITATION else None
    return seen.source if payload[8 if ethertype == IPV4 else 7] in _FIRST_HOPS else None


def _read_ipv4(packet: bytes) -> Seen | None:
    length = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < 20 or packet[0] >> 4 != 4 or length < 20:
        return None
    source, target = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if _u16(packet, 6) & 0x1FFF:
        return Seen(source, target, packet[9])
    return _read_upper(source, target, packet[9], packet[length:])


def _read_ipv6(packet: bytes) -> Seen | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    source, target = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    kind, at = packet[6], 40
    while kind in _EXTENSIONS:
        if len(packet) < at + 8:
            return None
        following = packet[at]
        if kind == _FRAGMENT:
            if _u16(packet, at + 2) >> 3:
                return Seen(source, target, following)
            at += 8
        elif kind == _AUTHENTICATION:
            at += (packet[at + 1] + 2) * 4
        else:
            at += (packet[at + 1] + 1) * 8
        kind = following
    return _read_upper(source, target, kind, packet[at:])


def _read_upper(source: IpAddress, target: IpAddress, protocol: int, data: bytes) -> Seen | None:
    if protocol in _WITH_PORTS:
        return Seen(source, target, protocol, _u16(data, 0), _u16(data, 2)) if len(data) >= 4 else None
    if protocol in (ICMP, ICMPV6):
        discovery = protocol == ICMPV6 and len(data) >= 24 and data[0] in (_SOLICITATION, _ADVERTISEMENT)
        about = IPv6Address(data[8:24]) if discovery else None
        return Seen(source, target, protocol, icmp_type=data[0], nd_target=about) if data else None
    return Seen(source, target, protocol)


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
