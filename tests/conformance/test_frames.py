"""Crafted frames, held against bytes that others made and against their own checksums."""

from ipaddress import ip_address

import pytest

from homeport_api.addresses import MacAddress
from homeport_api.workload import Protocol
from tests.conformance import frames
from tests.conformance.frames import checksum, crc32c, probe, rarp

ONE, TWO = MacAddress("02:00:5e:10:00:01"), MacAddress("02:00:5e:10:00:02")
FOUR = ip_address("192.0.2.1"), ip_address("192.0.2.2")
SIX = ip_address("2001:db8::1"), ip_address("2001:db8::2")


def test_a_syn_is_what_a_stack_would_send() -> None:
    assert probe((ONE, TWO), *FOUR, Protocol.TCP, 80, 0x1234).hex(" ") == (
        "02 00 5e 10 00 02 02 00 5e 10 00 01 08 00 "
        "45 00 00 28 12 34 40 00 40 06 a4 98 c0 00 02 01 c0 00 02 02 "
        "12 34 00 50 00 12 34 00 00 00 00 00 50 02 ff ff e5 48 00 00"
    )


def test_the_checksum_of_sctp_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("source", "target"), [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP, None])
def test_checksums_are_right(source: object, target: object, protocol: Protocol | None) -> None:
    assert not isinstance(source, str)
    ends = (FOUR, SIX)[source == SIX[0]]
    data = probe((ONE, TWO), *ends, protocol, None if protocol is None else 53, 40000)
    if ends is FOUR:
        assert checksum(data[14:34]) == 0
        segment, carried = data[34:], data[23]
    else:
        segment, carried = data[54:], data[20]
    pseudo = b"".join(each.packed for each in ends) + len(segment).to_bytes(4, "big") + carried.to_bytes(4, "big")
    assert checksum((b"" if carried == 1 else pseudo) + segment) == 0


def test_the_number_stands_where_the_watcher_looks_for_it() -> None:
    assert probe((ONE, TWO), *FOUR, Protocol.UDP, 53, 0xBEEF)[18:20] == b"\xbe\xef"
    assert probe((ONE, TWO), *SIX, Protocol.SCTP, 53, 0xBEEF)[16:18] == b"\xbe\xef"
    assert rarp(ONE, frames.MARKER)[20:22] == b"\x00\x04"
    assert rarp(ONE, frames.MARKER, 100)[12:18].hex() == "810000648035"
