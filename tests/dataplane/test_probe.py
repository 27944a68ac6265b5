"""Probes are the bytes that RFC 5227 and RFC 4862 say, and any bytes may come back."""

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import MacAddress, VlanId
from homeport_dataplane.probe import Claim, Wire, build_probe, read_claim
from homeport_netns_fixtures.capture import send
from tests.dataplane.conftest import Box, BoxMaker

OURS = MacAddress("02:00:00:00:00:01")
THEIRS = MacAddress("02:00:00:00:00:99")


def test_an_arp_probe_has_no_sender_address() -> None:
    ethernet, arp = "ffffffffffff 020000000001 0806", "0001 0800 06 04 0001"
    sender, target = "020000000001 00000000", "000000000000 0a000005"
    expected = bytes.fromhex(ethernet + arp + sender + target)
    assert build_probe(ip_address("10.0.0.5"), OURS) == expected.ljust(60, b"\0")


def test_a_tagged_probe_has_the_tag_before_the_type() -> None:
    frame = build_probe(ip_address("10.0.0.5"), OURS, VlanId(100))
    assert frame[12:18] == bytes.fromhex("810000640806")


def test_a_dad_solicitation_is_what_others_build() -> None:
    from scapy import all as scapy  # takes half a second to import

    target = "2001:db8::1234:5678"
    expected = (
        scapy.Ether(src=OURS, dst="33:33:ff:34:56:78")
        / scapy.IPv6(src="::", dst="ff02::1:ff34:5678", hlim=255)
        / scapy.ICMPv6ND_NS(tgt=target)
    )
    assert build_probe(ip_address(target), OURS) == bytes(expected)


def test_an_arp_reply_and_a_gratuitous_one_are_claims_and_a_probe_is_none() -> None:
    reply = bytes.fromhex("020000000001 020000000099 0806 0001080006040002 020000000099 0a000005 020000000001 00000000")
    assert read_claim(reply) == Claim(ip_address("10.0.0.5"), THEIRS)
    assert read_claim(reply, VlanId(7)) == Claim(ip_address("10.0.0.5"), THEIRS, VlanId(7))
    assert read_claim(build_probe(ip_address("10.0.0.5"), THEIRS)) is None


def test_an_advertisement_is_a_claim_only_from_the_link_itself() -> None:
    from scapy import all as scapy  # takes half a second to import

    target = "2001:db8::1"

    def advertisement(hops: int) -> bytes:
        return bytes(
            scapy.Ether(src=THEIRS, dst="33:33:00:00:00:01")
            / scapy.IPv6(src=target, dst="ff02::1", hlim=hops)
            / scapy.ICMPv6ND_NA(tgt=target, R=0, S=0, O=1)
        )

    assert read_claim(advertisement(255)) == Claim(ip_address(target), THEIRS)
    assert read_claim(advertisement(64)) is None


@given(st.binary(max_size=120), st.none() | st.integers(1, 4094).map(VlanId))
def test_any_bytes_are_read_or_ignored(frame: bytes, vlan: VlanId | None) -> None:
    claim = read_claim(frame, vlan)
    assert claim is None or isinstance(claim, Claim)


@given(st.sampled_from([0x0806, 0x86DD, 0x8100]), st.binary(max_size=90))
def test_any_body_of_a_kind_that_is_looked_at_is_read_or_ignored(kind: int, body: bytes) -> None:
    claim = read_claim(bytes(12) + kind.to_bytes(2, "big") + body)
    assert claim is None or isinstance(claim, Claim)


ASKED = [ip_address("10.0.0.5"), ip_address("2001:db8::5")]


def arp(sender: str, tag: str = "") -> bytes:
    body = "0001080006040002 020000000099" + ip_address(sender).packed.hex() + "020000000001 00000000"
    return bytes.fromhex(f"020000000001 020000000099 {tag} 0806" + body).ljust(60, b"\0")


def advertisement(target: str) -> bytes:
    from scapy import all as scapy  # takes half a second to import

    return bytes(
        scapy.Ether(src=THEIRS, dst="33:33:00:00:00:01")
        / scapy.IPv6(src=target, dst="ff02::1", hlim=255)
        / scapy.ICMPv6ND_NA(tgt=target, R=0, S=0, O=1)
    )


@pytest.fixture
def peer(box: BoxMaker) -> Iterator[tuple[Box, socket.socket]]:
    """A box with link `near`, and a socket at its other end."""
    here, there = box("here"), box("there")
    here.shell.ip(f"link add near type veth peer name far netns {there.shell.name}", "link set near up")
    there.shell.ip("link set far up")
    send(there.shell, "far", b"\xff" * 60)  # waits until it can
    far = there.shell.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    far.bind(("far", 0))
    yield here, far
    far.close()


def test_no_other_frame_takes_the_place_of_a_claim(peer: tuple[Box, socket.socket]) -> None:
    """A socket holds some hundred frames; what comes after is lost."""
    here, far = peer
    wire = Wire(here.ns, "near", ASKED)
    others = (
        bytes.fromhex("020000000001 020000000099 0800") + bytes(1000),
        bytes.fromhex("020000000001 020000000099 86dd") + bytes(1000),
        arp("10.0.0.6"),
        arp("10.0.0.6", "81000064"),
        advertisement("2001:db8::6"),
        b"\xff" * 14,
    )
    for _ in range(1000):
        for other in others:
            far.send(other)
    for frame in (arp("10.0.0.5"), arp("10.0.0.5", "81000064"), advertisement("2001:db8::5")):
        far.send(frame)
    claims = list(wire.listen(0.5))
    wire.close()
    assert claims == [Claim(ASKED[0], THEIRS), Claim(ASKED[0], THEIRS, VlanId(100)), Claim(ASKED[1], THEIRS)]


def test_a_flood_of_claims_is_heard_in_part_and_for_as_long_as_was_asked(peer: tuple[Box, socket.socket]) -> None:
    here, far = peer
    wire = Wire(here.ns, "near", ASKED)
    began, heard = time.monotonic(), 0
    for _ in wire.listen(0.5):
        heard += 1
        for _ in range(2):
            far.send(arp("10.0.0.5"))
        assert heard <= 500
    assert heard == 0
    far.send(arp("10.0.0.5"))
    for _ in wire.listen(0.5):
        heard += 1
        for _ in range(2):
            far.send(arp("10.0.0.5"))
    assert heard == 500
    assert time.monotonic() - began >= 1.0
    wire.close()


def test_more_addresses_than_a_filter_compares_are_all_heard(peer: tuple[Box, socket.socket]) -> None:
    here, far = peer
    for count in (0, 256, 257, 5000):
        asked = [ip_address("10.1.0.0") + number for number in range(count)]
        wire = Wire(here.ns, "near", asked)
        far.send(arp("10.0.0.5"))
        for address in asked[-1:]:
            far.send(arp(str(address)))
        assert [claim.address for claim in wire.listen(0.2) if claim.address in asked] == asked[-1:]
        wire.close()
