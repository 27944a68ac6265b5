"""Packets that rules of a bridge table log, with the ports they came in by and would have left by."""

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from homeport_api.errors import Conflict, Unavailable
from homeport_dataplane import nflog
from homeport_dataplane.frames import IPV4, IPV6, Seen
from homeport_dataplane.links import get_index
from homeport_dataplane.nflog import COPIED, Logged, PacketLog
from homeport_netns_fixtures.capture import send
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker, wait_forwarding
from tests.dataplane.packets import ICMPV6, TCP, UDP, begin, ethernet, ip

_NOBODY, _MAC = "02:00:5e:10:00:99", "02:00:5e:10:00:01"
_GROUP, _OTHER = 4100, 4101
_LOGS = (
    "table bridge tried {"
    f' chain prerouting {{ type filter hook prerouting priority -300; log prefix "came in" group {_OTHER}; }};'
    f' chain forward {{ type filter hook forward priority -200; log prefix "denied" group {_GROUP}; drop; }};'
    "}"
)


class Heard:
    """A log read by a thread of its own, sorted by prefix: what comes first of two groups is not said."""

    def __init__(self, box: Box, *groups: int) -> None:
        self.log = PacketLog(box.ns, groups)
        self._packets: dict[str, queue.Queue[Logged]] = {}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for each in self.log:
            self._packets.setdefault(each.prefix, queue.Queue()).put(each)

    def wait(self, prefix: str) -> Logged:
        return self._packets.setdefault(prefix, queue.Queue()).get(timeout=30)

    def close(self) -> None:
        self.log.close()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@pytest.fixture
def peer(switch: Box, box: BoxMaker) -> Box:
    """Has the other ends of the ports p1 and p2, and says nothing by itself."""
    made = box("peer")
    made.ns.ensure_sysctl("ipv6/conf/default/disable_ipv6", "1")
    for at in (1, 2):
        switch.shell.ip(
            f"link add p{at} type veth peer name e{at} netns {made.shell.name}", f"link set p{at} master {BRIDGE} up"
        )
        made.shell.ip(f"link set e{at} up")
    return made


@pytest.fixture
def heard(switch: Box, peer: Box) -> Iterator[Heard]:
    wait_forwarding(switch, "p1", "p2")
    listening = Heard(switch, _GROUP, _OTHER)
    switch.shell.nft(_LOGS)
    yield listening
    listening.close()


@pytest.mark.parametrize(
    ("packet", "ethertype", "seen"),
    [
        pytest.param(
            ip("192.0.2.7", "192.0.2.1", UDP, begin(UDP, 1000, 53)),
            IPV4,
            Seen(ip_address("192.0.2.7"), ip_address("192.0.2.1"), UDP, 1000, 53),
            id="IPv4",
        ),
        pytest.param(
            ip("2001:db8::7", "2001:db8::1", TCP, begin(TCP, 1000, 80) + os.urandom(500)),
            IPV6,
            Seen(ip_address("2001:db8::7"), ip_address("2001:db8::1"), TCP, 1000, 80),
            id="IPv6, longer than is copied",
        ),
        pytest.param(
            ip("2001:db8::7", "2001:db8::1", ICMPV6, begin(ICMPV6)),
            IPV6,
            Seen(ip_address("2001:db8::7"), ip_address("2001:db8::1"), ICMPV6, icmp_type=128),
            id="ICMPv6",
        ),
    ],
)
def test_a_denied_packet(packet: bytes, ethertype: int, seen: Seen, switch: Box, peer: Box, heard: Heard) -> None:
    frame = ethernet(_NOBODY, _MAC, packet)
    send(peer.shell, "e1", frame)
    logged = heard.wait("denied")
    assert (logged.group, logged.ethertype, logged.vlan) == (_GROUP, ethertype, None)
    assert logged.in_index == get_index(switch.ns, "p1")
    assert logged.out_index == get_index(switch.ns, "p2")
    assert logged.payload == packet[:COPIED]
    assert logged.link_header == frame[:14]
    assert logged.seen() == seen
    before = heard.wait("came in")
    assert (before.group, before.in_index, before.out_index) == (_OTHER, logged.in_index, None)
    assert before.seen() == seen
    assert heard.log.lost == 0


_PACKET = ip("192.0.2.7", "192.0.2.1", UDP, begin(UDP, 1000, 53))
_SEEN = Seen(ip_address("192.0.2.7"), ip_address("192.0.2.1"), UDP, 1000, 53)


def test_tags_where_the_bridge_knows_no_vlans(peer: Box, heard: Heard) -> None:
    for tags, vlan, ethertype in (((100,), 100, IPV4), ((0,), 0, IPV4), ((100, 7), 100, 0x8100)):
        send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET, *tags))
        logged = heard.wait("denied")
        assert (logged.vlan, logged.ethertype, logged.seen()) == (vlan, ethertype, _SEEN)
    send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET, 100, tpid=0x88A8))
    logged = heard.wait("denied")
    assert (logged.vlan, logged.ethertype, logged.seen()) == (100, IPV4, _SEEN)


def test_tags_where_the_bridge_filters_vlans(vlan_kernel: None, switch: Box, peer: Box, heard: Heard) -> None:
    """In forward a frame has the tag with which it leaves, and a foreign one is in front of the payload again."""
    switch.shell.ip(f"link set {BRIDGE} type bridge vlan_filtering 1")
    switch.shell.bridge(*(f"vlan add vid 100 dev p{at}" for at in (1, 2)), "vlan add vid 7 dev p2 pvid untagged")
    switch.shell.bridge("vlan add vid 1 dev p1 pvid untagged", "vlan add vid 1 dev p2")
    for tags, came, leaves, ethertype in (
        ((), None, 1, IPV4),
        ((0,), 0, 1, IPV4),
        ((100,), 100, 100, IPV4),
        ((100, 7), 100, 100, 0x8100),
    ):
        send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET, *tags))
        before, logged = heard.wait("came in"), heard.wait("denied")
        assert (before.vlan, before.ethertype, before.seen()) == (came, ethertype, _SEEN)
        assert (logged.vlan, logged.ethertype, logged.seen()) == (leaves, ethertype, _SEEN)
    send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET, 100, tpid=0x88A8))
    logged = heard.wait("denied")
    assert (logged.vlan, logged.ethertype, logged.seen()) == (1, 0x88A8, _SEEN)
    assert logged.link_header[:12] == ethernet(_NOBODY, _MAC, _PACKET)[:12]


def test_too_slow_a_reader_knows_how_many_it_lost(switch: Box, peer: Box) -> None:
    wait_forwarding(switch, "p1", "p2")
    log = PacketLog(switch.ns, (_GROUP,), buffer_size=8192)
    switch.shell.nft(_LOGS)
    frame, sent = ethernet(_NOBODY, _MAC, _PACKET), 400
    send(peer.shell, "e1", frame)
    with peer.shell.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("e1", 0))
        for _ in range(sent - 1):
            raw.send(frame)
    time.sleep(0.1)
    got: list[Logged] = []
    arrived = threading.Event()

    def read() -> None:
        for each in log:
            got.append(each)
            arrived.set()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert arrived.wait(30)
        end = time.monotonic() + 30
        while len(got) + log.lost < sent:
            assert time.monotonic() < end, f"{len(got)} and {log.lost} lost of {sent}"
            send(peer.shell, "e1", frame)
            sent += 1
    finally:
        log.close()
        thread.join()
    assert log.lost > 0
    assert len(got) + log.lost == sent


def test_one_packet_is_told_soon(peer: Box, heard: Heard) -> None:
    send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET))
    heard.wait("denied")
    started = time.monotonic()
    for _ in range(10):
        send(peer.shell, "e1", ethernet(_NOBODY, _MAC, _PACKET))
        heard.wait("denied")
    assert time.monotonic() - started < 10, "the kernel's own delay would be a second each"


def test_a_group_has_one_reader_in_its_namespace(switch: Box, box: BoxMaker) -> None:
    first = PacketLog(switch.ns, (_GROUP,))
    with pytest.raises(Conflict, match=f"log group {_GROUP} of .* has another reader"):
        PacketLog(switch.ns, (_OTHER, _GROUP))
    PacketLog(box("elsewhere").ns, (_GROUP,)).close()
    first.close()
    PacketLog(switch.ns, (_GROUP, _OTHER)).close()


def test_closed_before_it_is_read_and_twice(switch: Box) -> None:
    unread = PacketLog(switch.ns, (_GROUP,))
    unread.close()
    unread.close()
    assert list(unread) == []


def test_closed_while_it_is_read_its_groups_are_free(switch: Box) -> None:
    for _ in range(3):
        reading = Heard(switch, _GROUP)
        reading.close()
        reading.log.close()
        assert list(reading.log) == []


@pytest.mark.parametrize(("name", "value"), [("NETFILTER", 31), ("_CONFIG", 15 << 8 | 1)])
def test_a_kernel_without_it(name: str, value: int, switch: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol, or a subsystem, that no kernel has."""
    monkeypatch.setattr(nflog, name, value)
    with pytest.raises(Unavailable, match="this kernel"):
        PacketLog(switch.ns, (_GROUP,))
