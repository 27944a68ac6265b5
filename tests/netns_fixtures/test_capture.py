"""A capture has the frame as it stands on the wire, tag included."""

from collections.abc import Callable

import pytest

from homeport_netns_fixtures.capture import ARP, Capture, Frame, send
from homeport_netns_fixtures.netns import CommandFailed, Namespace

BODY = bytes(46)


def frame(*tags: str, ethertype: str = "88b5") -> bytes:
    return bytes.fromhex("ffffffffffff" + "020000000001" + "".join(tags) + ethertype) + BODY


@pytest.mark.parametrize(
    ("data", "tags", "ethertype"),
    [
        pytest.param(frame(), (), 0x88B5, id="untagged"),
        pytest.param(frame("81000064"), ((0x8100, 100),), 0x88B5, id="VLAN 100"),
        pytest.param(frame("8100e064"), ((0x8100, 100),), 0x88B5, id="priority is no part of the VLAN ID"),
        pytest.param(frame("88a800c8", "81000064"), ((0x88A8, 200), (0x8100, 100)), 0x88B5, id="double tag"),
        pytest.param(frame("81000000", ethertype="0806"), ((0x8100, 0),), ARP, id="priority tag"),
        pytest.param(frame()[:13], (), 0x88, id="cut off"),
    ],
)
def test_tags_are_read_from_the_outside_in(data: bytes, tags: tuple[tuple[int, int], ...], ethertype: int) -> None:
    read = Frame(data, outgoing=False, at=0.0)
    assert (read.tags, read.ethertype) == (tags, ethertype)


@pytest.mark.parametrize(
    "data",
    [frame(), frame("81000064"), frame("88a800c8", "81000064")],
    ids=["untagged", "tagged", "double-tagged"],
)
def test_what_is_sent_is_what_is_captured(
    netns: Callable[[str], Namespace], capture: Callable[[Namespace, str], Capture], data: bytes
) -> None:
    left, right = netns("left"), netns("right")
    left.ip(f"link add eth0 type veth peer name eth0 netns {right.name}", "link set eth0 up")
    right.ip("link set eth0 up")
    arriving, leaving = capture(right, "eth0"), capture(left, "eth0")
    send(left, "eth0", data)
    assert arriving.wait(lambda seen: seen.source == "02:00:00:00:00:01").data == data
    assert leaving.wait(lambda seen: seen.outgoing and seen.source == "02:00:00:00:00:01").data == data


def test_waiting_in_vain_tells_what_was_seen(
    netns: Callable[[str], Namespace], capture: Callable[[Namespace, str], Capture]
) -> None:
    quiet = netns("quiet")
    with pytest.raises(CommandFailed, match="no such frame within 0 s"):
        capture(quiet, "lo").wait(lambda seen: seen.vlan == 7, within=0.1)
