"""Packets made by hand, packets cut off anywhere, and any bytes at all."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_dataplane.frames import ARP, IPV4, IPV6, Seen, claimed_address, read_packet
from tests.dataplane.packets import ICMP, ICMPV6, SCTP, TCP, UDP, begin, ip

_4, _6 = ("192.0.2.7", "192.0.2.1"), ("2001:db8::7", "2001:db8::1")


def seen(protocol: int, *ports: int, of: tuple[str, str] = _6, icmp_type: int | None = None) -> Seen:
    source, target = ports or (None, None)
    return Seen(ip_address(of[0]), ip_address(of[1]), protocol, source, target, icmp_type)


def arp(sender: str, asked: str, *, head: str = "0001080006040001") -> bytes:
    mac = bytes.fromhex("02005e100001")
    return bytes.fromhex(head) + mac + ip_address(sender).packed + bytes(6) + ip_address(asked).packed


def discovery(kind: int, source: str, about: str, hops: int = 255) -> bytes:
    packet = ip(source, "ff02::1", ICMPV6, struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(about).packed)
    return packet[:7] + bytes((hops,)) + packet[8:]


def with_hops(packet: bytes, at: int, hops: int) -> bytes:
    return packet[:at] + bytes((hops,)) + packet[at + 1 :]


def extended(*headers: tuple[int, bytes], upper: int, body: bytes) -> bytes:
    """An IPv6 packet with extension headers, each by its number and what follows its first octet."""
    kinds = [kind for kind, _ in headers] + [upper]
    chain = b"".join(bytes((following,)) + rest for following, (_, rest) in zip(kinds[1:], headers, strict=True))
    return ip(*_6, kinds[0], chain + body)


_OPTIONS = b"\x00" + b"\x01\x04\0\0\0\0"
PACKETS = [
    pytest.param(IPV4, ip(*_4, TCP, begin(TCP, 1000, 80)), seen(TCP, 1000, 80, of=_4), id="TCP"),
    pytest.param(IPV4, ip(*_4, UDP, begin(UDP, 1000, 53)), seen(UDP, 1000, 53, of=_4), id="UDP"),
    pytest.param(IPV4, ip(*_4, SCTP, begin(SCTP, 1000, 99)), seen(SCTP, 1000, 99, of=_4), id="SCTP"),
    pytest.param(IPV4, ip(*_4, ICMP, begin(ICMP)), seen(ICMP, of=_4, icmp_type=8), id="ICMP"),
    pytest.param(IPV4, ip(*_4, 47, b""), seen(47, of=_4), id="GRE"),
    pytest.param(
        IPV4,
        b"\x46" + ip(*_4, UDP, b"")[1:] + b"\x01" * 4 + begin(UDP, 1, 2),
        seen(UDP, 1, 2, of=_4),
        id="IPv4 options",
    ),
    pytest.param(
        IPV4,
        ip(*_4, UDP, b"x" * 8)[:6] + b"\x20\x01" + ip(*_4, UDP, b"x" * 8)[8:],
        seen(UDP, of=_4),
        id="IPv4 fragment",
    ),
    pytest.param(IPV6, ip(*_6, TCP, begin(TCP, 1000, 80)), seen(TCP, 1000, 80), id="TCP over IPv6"),
    pytest.param(IPV6, ip(*_6, ICMPV6, begin(ICMPV6)), seen(ICMPV6, icmp_type=128), id="ICMPv6"),
    pytest.param(
        IPV6,
        extended((0, _OPTIONS), (60, b"\x01" + b"\0" * 14), (43, _OPTIONS), upper=UDP, body=begin(UDP, 5, 6)),
        seen(UDP, 5, 6),
        id="hop by hop, destination options, routing",
    ),
    pytest.param(
        IPV6,
        extended((44, b"\0\0\x01\0\0\0\x07"), upper=UDP, body=begin(UDP, 5, 6)),
        seen(UDP, 5, 6),
        id="first fragment",
    ),
    pytest.param(
        IPV6, extended((44, b"\0\0\x08\0\0\0\x07"), upper=UDP, body=b"middle"), seen(UDP), id="later fragment"
    ),
    pytest.param(
        IPV6,
        extended((51, b"\x04" + b"\0" * 22), upper=TCP, body=begin(TCP, 5, 6)),
        seen(TCP, 5, 6),
        id="authentication header",
    ),
    pytest.param(IPV6, ip(*_6, 50, b"sealed"), seen(50), id="ESP"),
    pytest.param(IPV6, ip(*_6, 59, b""), seen(59), id="no next header"),
    pytest.param(0x8100, b"\0\x07\x08\0" + ip(*_4, TCP, begin(TCP, 1, 2)), seen(TCP, 1, 2, of=_4), id="a tag in front"),
    pytest.param(
        0x88A8, b"\0\x07\x81\0\0\x08\x86\xdd" + ip(*_6, TCP, begin(TCP, 1, 2)), seen(TCP, 1, 2), id="two tags in front"
    ),
    pytest.param(0x0806, b"\0\x01\x08\0\x06\x04" + bytes(22), None, id="ARP"),
    pytest.param(IPV6, ip(*_4, TCP, begin(TCP, 1, 2)) + bytes(40), None, id="IPv4 that says it is IPv6"),
    pytest.param(IPV4, b"\x44" + bytes(40), None, id="a header shorter than its least"),
]


@pytest.mark.parametrize(("ethertype", "payload", "expected"), PACKETS)
def test_what_a_packet_is(ethertype: int, payload: bytes, expected: Seen | None) -> None:
    assert read_packet(ethertype, payload) == expected


@pytest.mark.parametrize(("ethertype", "payload", "expected"), PACKETS)
def test_cut_off_anywhere_it_is_the_same_or_nothing(ethertype: int, payload: bytes, expected: Seen | None) -> None:
    for length in range(len(payload)):
        assert read_packet(ethertype, payload[:length]) in (expected, None)


@given(st.sampled_from((IPV4, IPV6, 0x8100, 0x88A8, 0x0806)) | st.integers(0, 0xFFFF), st.binary(max_size=200))
def test_any_bytes_are_a_packet_or_none(ethertype: int, payload: bytes) -> None:
    read_packet(ethertype, payload)


@given(st.sampled_from((0, 43, 44, 51, 60, 135, TCP, UDP, ICMPV6)), st.binary(max_size=150))
def test_any_bytes_behind_an_ipv6_header(kind: int, rest: bytes) -> None:
    found = read_packet(IPV6, struct.pack("!IHBB", 6 << 28, len(rest), kind, 1) + bytes(32) + rest)
    assert found is None or found.source == ip_address("::")


CLAIMED = [
    pytest.param(ARP, arp("0.0.0.0", "192.0.2.7"), "192.0.2.7", id="ARP probe"),
    pytest.param(ARP, arp("192.0.2.7", "192.0.2.1"), "192.0.2.7", id="ARP question"),
    pytest.param(ARP, arp("192.0.2.7", "192.0.2.7"), "192.0.2.7", id="ARP announcement"),
    pytest.param(ARP, arp("0.0.0.0", "0.0.0.0"), None, id="ARP of nothing"),
    pytest.param(ARP, arp("192.0.2.7", "192.0.2.1", head="0006080006040001"), None, id="ARP of another medium"),
    pytest.param(ARP, arp("192.0.2.7", "192.0.2.1")[:-1], None, id="ARP cut off"),
    pytest.param(IPV6, discovery(135, "::", "2001:db8::7"), "2001:db8::7", id="DAD"),
    pytest.param(IPV6, discovery(135, "2001:db8::7", "2001:db8::1"), "2001:db8::7", id="solicitation"),
    pytest.param(IPV6, discovery(136, "::", "2001:db8::7"), None, id="advertisement from nobody"),
    pytest.param(IPV6, discovery(135, "::", "2001:db8::7")[:-1], None, id="DAD cut off"),
    pytest.param(IPV6, ip("::", "ff02::16", ICMPV6, b"\x8f" + bytes(7)), None, id="MLD from nobody"),
    pytest.param(IPV4, ip(*_4, UDP, begin(UDP, 1, 2)), "192.0.2.7", id="IPv4"),
    pytest.param(IPV6, ip(*_6, TCP, begin(TCP, 1, 2)), "2001:db8::7", id="IPv6"),
    pytest.param(IPV4, ip("0.0.0.0", "255.255.255.255", UDP, begin(UDP, 68, 67)), None, id="DHCP"),
    pytest.param(IPV4, with_hops(ip(*_4, UDP, begin(UDP, 1, 2)), 8, 63), None, id="forwarded"),
    pytest.param(IPV6, with_hops(ip(*_6, TCP, begin(TCP, 1, 2)), 7, 127), None, id="forwarded over IPv6"),
    pytest.param(IPV4, with_hops(ip(*_4, UDP, begin(UDP, 1, 2)), 8, 128), "192.0.2.7", id="as Windows sends"),
    pytest.param(0x8100, b"\0\x07\x08\0" + ip(*_4, UDP, begin(UDP, 1, 2)), None, id="in a tag"),
    pytest.param(0x8035, arp("0.0.0.0", "192.0.2.7"), None, id="RARP"),
]


@pytest.mark.parametrize(("ethertype", "packet", "address"), CLAIMED)
def test_which_address_a_packet_claims(ethertype: int, packet: bytes, address: str | None) -> None:
    assert claimed_address(ethertype, packet) == (None if address is None else ip_address(address))


@given(st.sampled_from([ARP, IPV4, IPV6, 0x8100]), st.binary(max_size=130))
def test_any_bytes_claim_something_or_nothing(ethertype: int, packet: bytes) -> None:
    claimed = claimed_address(ethertype, packet)
    assert claimed is None or int(claimed)
