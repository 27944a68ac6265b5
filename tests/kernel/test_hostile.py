"""Frames of a guest that means harm, on real ports: what becomes of each, by which counter, and that none is learned.

All of a table are sent in one go and watched for once, since every look takes long in here. Each carries a marker of
its own; what must pass is seen where it should arrive and nowhere else, in the same run as what must not.
"""

import contextlib
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeport_dataplane.netns import Namespace as Opened
from homeport_dataplane.nft import Nft
from homeport_netns_fixtures.capture import RARP, Capture

from .lan import UPLINK, Guest, Lan, body, frame, ping, wait_until
from .packets import (
    ACK,
    ARP_REPLY,
    ARP_REQUEST,
    AUTHENTICATION,
    BROADCAST,
    DESTINATION,
    FIN,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP,
    ICMP6,
    IGMP,
    NOBODY,
    NOTHING,
    ROUTING,
    RST,
    SYN,
    TCP,
    UDP,
    arp,
    behind,
    cut,
    echo,
    ethernet,
    icmp,
    ip,
    neighbour,
    router_advertisement,
    tcp,
    udp,
)
from .policies import OTHER, PORT, Policies, connect, of, policy, server

MARKER = 8
STRANGER = "02:00:5e:10:00:99"
GATEWAY, GATEWAY6 = "192.0.2.1", "2001:db8:2::1"
NODES, NODES_MAC = "ff02::1", "33:33:00:00:00:01"
DENIED, KERNEL = "denied", "by the kernel"
"""Dropped by a policy; by the kernel, before or without any rule of ours."""
NEAR, FAR = "blue2", "blue3"
"""The receiver that a policy isolates, on the sender's node, and one beyond the uplink that nothing isolates."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Who sends, and to whom."""

    sender: Guest
    near: Guest
    far: Guest

    def address(self, name: str) -> str:
        """`own4` to `far6`, `local6`; anything else is an address."""
        known = {"local6": link_local(self.sender.mac)}
        for who, guest in (("own", self.sender), ("near", self.near), ("far", self.far)):
            known |= {f"{who}4": guest.address, f"{who}6": guest.address6}
        return known.get(name, name)

    def mac(self, name: str) -> str:
        return {"own": self.sender.mac, "near": self.near.mac, "far": self.far.mac}.get(name, name)

    def pair(self, version: int) -> tuple[str, str]:
        """Of the sender and the one that is near."""
        return self.address(f"own{version}"), self.address(f"near{version}")

    def frame(self, packet: bytes, *, to: str = BROADCAST, mac: str = "own", kind: int | None = None) -> bytes:
        return ethernet(self.mac(to), self.mac(mac), packet, kind=kind)


Make = Callable[[Ends, bytes], Sequence[bytes]]
"""Frames with a marker in them."""


@dataclass(frozen=True, slots=True)
class Row:
    """`counter`: the one that counts so many drops of it. `heard`: who gets it."""

    what: str
    counter: str | None
    heard: frozenset[str]
    make: Make
    times: int = 1

    @property
    def counted(self) -> dict[str, int]:
        return {} if self.counter is None or self.counter == KERNEL else {self.counter: self.times}


def dropped(what: str, counter: str, make: Make, *heard: str, times: int = 1) -> Row:
    return Row(what, counter, frozenset(heard), make, times)


def passes(what: str, make: Make, *heard: str) -> Row:
    return Row(what, None, frozenset(heard or (NEAR,)), make, 0)


def link_local(mac: str) -> str:
    octets = bytes.fromhex(mac.replace(":", ""))
    words = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]).hex()
    return "fe80::" + ":".join(words[at : at + 4] for at in range(0, 16, 4))


def says(
    source: str,
    target: str,
    *,
    to: str = BROADCAST,
    mac: str = "own",
    ports: tuple[int, int] = (40000, PORT),
    before: bytes = b"",
    kind: int | None = None,
) -> Make:
    """A datagram. `before`: what stands between the Ethernet type, which is then `kind`, and the packet."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        pair = ends.address(source), ends.address(target)
        packet = before + ip(*pair, UDP, udp(*pair, *ports, marker))
        return [ends.frame(packet, to=to, mac=mac, kind=kind)]

    return make


def part_of(source: str, target: str) -> Make:
    """A fragment from the middle."""
    return lambda ends, marker: [
        ends.frame(ip(ends.address(source), ends.address(target), UDP, marker * 4, number=77, offset=64), to="near")
    ]


def speaks(mac: str, address: str, *, operation: int = ARP_REQUEST, asked: str = "") -> Make:
    """ARP in the name of that MAC and address."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        packet = arp(operation, ends.mac(mac), ends.address(address), NOBODY, ends.address(asked or address), marker)
        return [ends.frame(packet, kind=0x0806)]

    return make


def control(kind: int, whom: str = "", *headers: int, source: str = "own6", at: int | None = None) -> Make:
    """Neighbour discovery to all nodes, behind headers. `at`: cut there."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        own = ends.address(source)
        if kind == ADVERTISES_ROUTER:
            message = router_advertisement(own, NODES, marker)
        else:
            message = neighbour(own, NODES, kind, ends.address(whom), marker)
        protocol, whole = behind(ICMP6, message, *headers)
        packets = [ip(own, NODES, protocol, whole)]
        if at is not None:
            packets = cut(own, NODES, protocol, whole, at, number=int.from_bytes(marker[:4]) | 1)
        return [ends.frame(packet, to=NODES_MAC) for packet in packets]

    return make


def member(version: int) -> Make:
    """A report of group membership, IGMPv3 or MLDv2."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        if version == 4:
            packet = ip(ends.address("own4"), "224.0.0.22", IGMP, b"\x22\0\0\0" + marker, options=b"\x94\4\0\0")
            return [ends.frame(packet, to="01:00:5e:00:00:16")]
        pair = ends.address("local6"), "ff02::16"
        packet = ip(*pair, *behind(ICMP6, icmp(*pair, 143, 0, bytes(4), marker), HOP_BY_HOP))
        return [ends.frame(packet, to="33:33:00:00:00:16")]

    return make


def raw(kind: int, before: bytes, to: str = BROADCAST) -> Make:
    return lambda ends, marker: [ends.frame(before + marker * 5, to=to, kind=kind)]


def tagged(*tags: int) -> Make:
    return lambda ends, marker: [ethernet(BROADCAST, ends.sender.mac, marker * 6, kind=0x0800, tags=tags)]


def offer_in_parts(ends: Ends, marker: bytes) -> list[bytes]:
    pair = ends.sender.address, "255.255.255.255"
    return [ends.frame(packet) for packet in cut(*pair, UDP, udp(*pair, 67, 68, marker * 40), 8, number=78)]


SOLICITS, ADVERTISES, ADVERTISES_ROUTER, REDIRECTS = 135, 136, 134, 137
ALL4 = "255.255.255.255"
EVERYWHERE = 3
"""A drop in forward is at each port that a frame to all goes to: those of blue2 and trunk1, and the uplink."""
GUARDS = [
    dropped("IPv4 from another MAC", "foreign_mac", says("own4", "near4", mac=STRANGER)),
    dropped("IPv6 from another MAC", "foreign_mac", says("own6", "near6", mac=STRANGER)),
    dropped("from the receiver's MAC", "foreign_mac", says("own4", "far4", mac="near")),
    dropped("from the far one's MAC", "foreign_mac", says("own4", "near4", mac="far")),
    dropped("from a group's MAC", KERNEL, says("own4", "near4", mac="01:00:5e:00:00:05")),
    dropped("from another IPv4", "foreign_ipv4", says("far4", "near4", to="near")),
    dropped("from the receiver's own IPv4", "foreign_ipv4", says("near4", "near4", to="near")),
    dropped("from another IPv6", "foreign_ipv6", says("far6", "near6", to="near")),
    dropped("from the receiver's own IPv6", "foreign_ipv6", says("near6", "near6", to="near")),
    dropped("a fragment from another IPv4", "foreign_ipv4", part_of("far4", "near4")),
    dropped("a fragment from another IPv6", "foreign_ipv6", part_of("far6", "near6")),
    dropped("ARP in another's name", "foreign_arp", speaks("own", "far4", asked="near4")),
    dropped("an ARP answer in another's name", "foreign_arp", speaks("own", "far4", operation=ARP_REPLY)),
    dropped("an ARP answer of another MAC", "foreign_arp", speaks(STRANGER, "own4", operation=ARP_REPLY)),
    dropped("gratuitous ARP for the gateway", "foreign_arp", speaks("own", GATEWAY)),
    passes("its own gratuitous ARP", speaks("own", "own4"), NEAR, FAR),
    passes("an ARP probe", speaks("own", "0.0.0.0", asked="192.0.2.99"), NEAR, FAR),
    dropped("NA for another", "foreign_nd", control(ADVERTISES, "far6")),
    dropped("NA for another, from a link-local address", "foreign_nd", control(ADVERTISES, "far6", source="local6")),
    dropped("NA for the gateway", "foreign_nd", control(ADVERTISES, GATEWAY6)),
    dropped("NA for another behind a header", "foreign_nd", control(ADVERTISES, "far6", DESTINATION)),
    dropped("DAD for another", "foreign_nd", control(SOLICITS, "far6", source="::")),
    passes("its own NA", control(ADVERTISES, "own6"), NEAR, FAR),
    passes("NS for another", control(SOLICITS, "near6"), NEAR, FAR),
    dropped("NA for another in fragments", "fragment", control(ADVERTISES, "far6", at=8)),
    dropped("NA behind a header in fragments", "fragment", control(ADVERTISES, "far6", DESTINATION, at=8), times=2),
    dropped("RA", "ra_guard", control(ADVERTISES_ROUTER, source="local6"), times=EVERYWHERE),
    dropped(
        "RA behind a header", "ra_guard", control(ADVERTISES_ROUTER, "", HOP_BY_HOP, source="local6"), times=EVERYWHERE
    ),
    dropped(
        "RA behind two",
        "ra_guard",
        control(ADVERTISES_ROUTER, "", HOP_BY_HOP, DESTINATION, source="local6"),
        times=EVERYWHERE,
    ),
    dropped("RA in a fragment that is all", "fragment", control(ADVERTISES_ROUTER, "", FRAGMENT, source="local6")),
    dropped("RA in fragments", "fragment", control(ADVERTISES_ROUTER, source="local6", at=8)),
    dropped(
        "RA in fragments, hidden",
        "fragment",
        control(ADVERTISES_ROUTER, "", DESTINATION, source="local6", at=8),
        times=2,
    ),
    dropped("redirect", "ra_guard", control(REDIRECTS, "far6", source="local6"), times=EVERYWHERE),
    dropped("DHCP offer", "dhcp_guard", says("own4", ALL4, ports=(67, 68)), times=EVERYWHERE),
    dropped("DHCP offer from another port", "dhcp_guard", says("own4", ALL4, ports=(6767, 68)), times=EVERYWHERE),
    dropped("DHCP offer in fragments", "dhcp_guard", offer_in_parts, times=EVERYWHERE),
    dropped("DHCPv6 answer", "dhcp_guard", says("own6", "near6", to="near", ports=(547, 546))),
    dropped("DHCPv6 answer from another port", "dhcp_guard", says("own6", "near6", to="near", ports=(5470, 546))),
    dropped("DHCP question", DENIED, says("0.0.0.0", ALL4, ports=(68, 67)), FAR),
    dropped("a tag", "tagged", tagged(200)),
    dropped("two tags", "tagged", tagged(100, 200)),
    dropped("802.3 with a length", "ethertype", raw(43, b"\x42\x42\x03")),
    dropped("IPv4 in 802.3", "ethertype", says("own4", "near4", before=b"\xaa\xaa\x03\0\0\0\x08\0", kind=44)),
    dropped("IPv4 in PPPoE", "ethertype", says("own4", "near4", before=b"\x11\0\0\1\0\x26\0\x21", kind=0x8864)),
    dropped("IPv4 in MPLS", "ethertype", says("own4", "near4", before=b"\0\1\1\x40", kind=0x8847)),
    dropped("spanning tree", "link_local", raw(43, b"\x42\x42\x03", to="01:80:c2:00:00:00")),
    dropped("to a group, 01:00:5e", DENIED, says("own4", "224.0.0.251", to="01:00:5e:00:00:fb"), FAR),
    dropped("to a group, 33:33", DENIED, says("own6", "ff02::fb", to="33:33:00:00:00:fb"), FAR),
    dropped("to one guest at a group's MAC", DENIED, says("own4", "near4", to="01:00:5e:00:00:fb"), FAR),
    passes("group membership, IPv4", member(4), NEAR, FAR),
    passes("group membership, IPv6", member(6), NEAR, FAR),
]


def carrying(protocol: int, data: bytes, version: int = 4) -> Make:
    """A packet of that protocol, with any data."""
    return lambda ends, marker: [ends.frame(ip(*ends.pair(version), protocol, data + marker), to="near")]


def opening(
    port: int, version: int, *headers: int, flags: int = SYN, options: bytes = b"", inside: int | None = None
) -> Make:
    """A connection's first segment, behind headers or options, or with all of its packet inside a packet of IPv4 or
    IPv6."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        packet = ip(*ends.pair(version), *behind(TCP, segment(ends, marker, port, version, flags), *headers))
        if options:
            packet = ip(*ends.pair(4), TCP, segment(ends, marker, port, 4, flags), options=options)
        if inside is not None:
            packet = ip(*ends.pair(inside), 4 if version == 4 else 41, packet)
        return [ends.frame(packet, to="near")]

    return make


def segment(ends: Ends, marker: bytes, port: int, version: int, flags: int = SYN, *, copies: int = 3) -> bytes:
    return tcp(*ends.pair(version), int.from_bytes(marker[:2]) | 0x8000, port, flags, marker * copies)


def asks(version: int, protocol: int) -> Make:
    """A datagram to the port that TCP is allowed to, or an echo request."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        pair = ends.pair(version)
        body = udp(*pair, 4000, PORT, marker) if protocol == UDP else echo(*pair, marker)
        return [ends.frame(ip(*pair, protocol, body), to="near")]

    return make


def fragmented(port: int, version: int, *at: int, keep: slice = slice(None), copies: int = 3) -> Make:
    """A connection's first packet, cut; and of the fragments only some."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        whole, number = segment(ends, marker, port, version, copies=copies), int.from_bytes(marker[:2]) | 1
        packets = cut(*ends.pair(version), TCP, whole, *at, number=number)
        return [ends.frame(packet, to="near") for packet in packets[keep]]

    return make


def overlapping(version: int) -> Make:
    """The first fragment says the port that is allowed, another that lies over it says one that is not."""

    def make(ends: Ends, marker: bytes) -> list[bytes]:
        pair, number = ends.pair(version), int.from_bytes(marker[:2]) | 1
        allowed, other = (segment(ends, marker, port, version) for port in (PORT, OTHER))
        packets = (
            ip(*pair, TCP, allowed[:24], number=number, offset=0, more=True),
            ip(*pair, TCP, other[:16], number=number, offset=0, more=True),
            ip(*pair, TCP, other[16:], number=number, offset=16, more=False),
        )
        return [ends.frame(packet, to="near") for packet in packets]

    return make


ROUTE = b"\x83\x07\x04\xc0\x00\x02\x01\x00"
"""Loose source routing by way of 192.0.2.1."""
PORTS = b"\x15\x38\x15\x38"
"""Would be port 5432, where a protocol has its ports first."""
ONE_HEADER = (HOP_BY_HOP, ROUTING, DESTINATION, AUTHENTICATION, FRAGMENT)
POLICY = [
    passes("to the allowed port", opening(PORT, 4)),
    passes("to the allowed port, IPv6", opening(PORT, 6)),
    dropped("to another port", DENIED, opening(OTHER, 4)),
    dropped("to another port, IPv6", DENIED, opening(OTHER, 6)),
    passes("IPv4 options", opening(PORT, 4, options=b"\1" * 4)),
    dropped("IPv4 options to another port", DENIED, opening(OTHER, 4, options=b"\1" * 4)),
    dropped("source routing to another port", DENIED, opening(OTHER, 4, options=ROUTE)),
    dropped("as many options as there can be", DENIED, opening(OTHER, 4, options=b"\1" * 40)),
    passes("hop-by-hop options", opening(PORT, 6, HOP_BY_HOP)),
    passes("three headers", opening(PORT, 6, HOP_BY_HOP, ROUTING, DESTINATION)),
    # What came in fragments that are all below IPv6's least MTU, the kernel puts together and never cuts again.
    dropped("a fragment that is all there is", KERNEL, opening(PORT, 6, FRAGMENT)),
    *(dropped(f"header {each} to another port", DENIED, opening(OTHER, 6, each)) for each in ONE_HEADER),
    dropped("three headers to another port", DENIED, opening(OTHER, 6, HOP_BY_HOP, ROUTING, DESTINATION)),
    dropped("seven headers to another port", DENIED, opening(OTHER, 6, *(DESTINATION,) * 7)),
    dropped("a header in a fragment", "fragment", opening(PORT, 6, FRAGMENT, DESTINATION)),
    *(dropped(f"protocol {each}", DENIED, carrying(each, PORTS)) for each in (50, 89, 253)),
    *(dropped(f"protocol {each}, IPv6", DENIED, carrying(each, PORTS, 6)) for each in (50, 89, 253)),
    dropped("IPv4 in IPv4", DENIED, opening(PORT, 4, inside=4)),
    dropped("IPv6 in IPv4", DENIED, opening(PORT, 6, inside=4)),
    dropped("IPv4 in IPv6", DENIED, opening(PORT, 4, inside=6)),
    dropped("no next header", "untracked", carrying(NOTHING, PORTS, 6)),
    dropped("headers that end too soon", "untracked", carrying(DESTINATION, bytes([TCP, 30]), 6)),
    dropped("TCP that ends too soon", "untracked", carrying(TCP, PORTS)),
    dropped("UDP to the port", DENIED, asks(4, UDP)),
    dropped("UDP to the port, IPv6", DENIED, asks(6, UDP)),
    dropped("ping", DENIED, asks(4, ICMP)),
    dropped("ping, IPv6", DENIED, asks(6, ICMP6)),
    dropped("the middle of a connection", "no_syn", opening(PORT, 4, flags=ACK)),
    dropped("the end of one that is not", "untracked", opening(PORT, 4, flags=RST)),
    dropped("no flag at all", "untracked", opening(PORT, 4, flags=0)),
    dropped("SYN and FIN", "untracked", opening(PORT, 4, flags=SYN | FIN)),
    passes("in fragments", fragmented(PORT, 4, 24)),
    passes("in tiny fragments", fragmented(PORT, 4, 8, 16, 24)),
    passes("in fragments, IPv6", fragmented(PORT, 6, 1288, copies=200)),
    dropped("in small fragments, IPv6", KERNEL, fragmented(PORT, 6, 24)),
    # What the kernel puts together of these is of no connection that it can track (seen on 6.1).
    dropped("in tiny fragments, IPv6", "untracked", fragmented(PORT, 6, 8, 16, 24)),
    *(dropped(f"fragments to another port, IPv{each}", DENIED, fragmented(OTHER, each, 24)) for each in (4, 6)),
    dropped("tiny ones to another port", DENIED, fragmented(OTHER, 4, 8, 16, 24)),
    dropped("tiny ones to another port, IPv6", "untracked", fragmented(OTHER, 6, 8, 16, 24)),
    *(
        dropped(f"no first fragment, IPv{each}", KERNEL, fragmented(PORT, each, 24, keep=slice(1, 2)))
        for each in (4, 6)
    ),
    *(dropped(f"a first one alone, IPv{each}", KERNEL, fragmented(PORT, each, 32, keep=slice(1))) for each in (4, 6)),
    dropped("fragments that overlap", KERNEL, overlapping(4)),
    dropped("fragments that overlap, IPv6", "untracked", overlapping(6)),
]


@pytest.fixture
def policies(lan: Lan) -> Iterator[Policies]:
    made = Policies(lan)
    yield made
    made.clear()


@pytest.fixture
def ends(lan: Lan) -> Ends:
    """Who know one another's MACs, and the switch knows theirs."""
    found = Ends(lan["blue1"], lan[NEAR], lan[FAR])
    for each in (found.near, found.far):
        for address in (each.address, each.address6):
            wait_until(lambda each=each, address=address: ping(found.sender, address), f"{each.name} answers")
    return found


ALLOWED = [{"port": PORT, "protocol": "TCP"}]
INGRESS = {
    "podSelector": of(NEAR),
    "policyTypes": ["Ingress"],
    "ingress": [{"from": [{"podSelector": of("blue1")}], "ports": ALLOWED}],
}
EGRESS = {
    "podSelector": of("blue1"),
    "policyTypes": ["Egress"],
    "egress": [{"to": [{"podSelector": of(NEAR)}], "ports": ALLOWED}],
}


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        pytest.param(INGRESS, GUARDS, id="guards"),
        pytest.param(INGRESS, POLICY, id="ingress"),
        pytest.param(EGRESS, POLICY, id="egress"),
    ],
)
def test_a_table_of_frames(
    lan: Lan, policies: Policies, ends: Ends, spec: dict[str, object], rows: Sequence[Row]
) -> None:
    isolated = ends.near if spec is INGRESS else ends.sender
    policies.put(policy("narrow", spec), isolated)
    markers = {row.what: os.urandom(MARKER) for row in rows}
    assert len(markers) == len(rows)
    told: dict[str, dict[str, int]] = {}
    with contextlib.ExitStack() as stack:
        heard = {name: stack.enter_context(Capture(lan[name].namespace, "eth0")) for name in (NEAR, FAR, "green1")}
        wires = stack.enter_context(lan.wires())
        learning = stack.enter_context(Learning(lan, ends.sender))
        counts = stack.enter_context(contextlib.closing(Counts(lan)))
        with wire_of(ends.sender) as wire:
            for row in rows:
                was = counts.read()
                for data in row.make(ends, markers[row.what]):
                    wire.send(data)
                told[row.what] = dict(counts.wait(was, row) - was)
            # Its port's entry is gone, so that this one is seen to be learned.
            learning.forget()
            last = frame(RARP, source=ends.sender.mac)
            wire.send(last)
        wires.wait_sent(lan.a, last)
        for name in (NEAR, FAR):
            heard[name].wait(lambda each: body(each.data) == body(last))
        learned = learning.seen()

        def arrived(marker: bytes) -> set[str]:
            found = {
                name
                for name, capture in heard.items()
                if any(marker in each.data and not each.outgoing for each in capture)
            }
            if not found and any(marker in each.data for each in wires.sent(lan.a)):
                found.add("the wire")
            return found

        got = {row.what: arrived(markers[row.what]) for row in rows}
        assert got == {row.what: set(row.heard) for row in rows}
        assert told == {row.what: row.counted for row in rows}
        assert learned == {(ends.sender.mac, ends.sender.port)}, "nobody's MAC is elsewhere now, or new"


class Counts:
    """Drops by counter, those of policies together. What goes to all goes to the bridge itself too, which counts it."""

    def __init__(self, lan: Lan) -> None:
        self._namespace = Opened.open_named(lan.a.switch.name, lan.a.switch.path.parent)
        self._nft = Nft(self._namespace)  # in this process, since to start another takes a second in here

    def read(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, count in self._nft.counters().items():
            if not name.startswith("p_") and name != "to_bridge":
                found[DENIED if name.endswith("_denied") else name] += count.packets
        return found

    def wait(self, was: Counter[str], row: Row) -> Counter[str]:
        """As it is when what the row should be counted by has counted, or some time later."""
        time.sleep(0.05)
        end = time.monotonic() + 2
        while (now := self.read()) - was != Counter(row.counted) and time.monotonic() < end:
            time.sleep(0.05)
        return now

    def close(self) -> None:
        self._nft.close()
        self._namespace.close()


def wire_of(guest: Guest) -> socket.socket:
    """For frames as they are."""
    made = guest.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind(("eth0", 0))
    return made


_TRIAL = "02:00:5e:10:00:77"


class Learning:
    """What the switch of the sender's node learns of the sender's VLAN while the block runs."""

    def __init__(self, lan: Lan, sender: Guest) -> None:
        self._switch, self._sender = sender.node.switch, sender
        self._log = Path(tempfile.mkstemp(prefix="fdb-", dir=lan.world.directory)[1])
        # Those of the other node are where the uplink is.
        self._own = {(guest.mac, guest.port if guest.node is sender.node else UPLINK) for guest in lan.guests.values()}

    def forget(self) -> None:
        self._switch.bridge(f"fdb del {self._sender.mac} dev {self._sender.port} master vlan 100")

    def seen(self) -> set[tuple[str, str]]:
        """(MAC, port) of what came or moved: whatever is on the sender's port, and guests' MACs elsewhere."""
        sender = (self._sender.mac, self._sender.port)
        wait_until(lambda: sender in self._lines(), "the sender was learned anew")
        theirs = {mac for mac, _ in self._own}
        return {
            (mac, port)
            for mac, port in self._lines()
            if mac != _TRIAL and (port == self._sender.port or (mac in theirs and (mac, port) not in self._own))
        }

    def _lines(self) -> set[tuple[str, str]]:
        found = set()
        for line in self._log.read_text().splitlines():
            words = line.split()
            if words and words[0] != "Deleted" and "dev" in words:
                found.add((words[0], words[words.index("dev") + 1]))
        return found

    def __enter__(self) -> "Learning":
        self._process = self._switch.popen("bridge", "monitor", "fdb", log=self._log)
        # It is watching when it tells of a change.
        entry = f"{_TRIAL} dev {self._sender.port} master vlan 100"

        def watching() -> bool:
            self._switch.bridge(f"fdb replace {entry} dynamic", f"fdb del {entry}")
            return (_TRIAL, self._sender.port) in self._lines()

        wait_until(watching, "the bridge's table is watched")
        self._log.write_text("")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def test_a_connection_outlives_resets_in_anothers_name(lan: Lan, policies: Policies, ends: Ends) -> None:
    """Of the guest beyond the uplink, in the name of either end, with the ports and numbers of the connection."""
    policies.put(policy("narrow", INGRESS), ends.near)
    with server(ends.near) as listening:
        opened = connect(ends.sender, ends.near.address)
        assert opened is not None
        with opened, listening.accept()[0] as accepted, Capture(ends.near.namespace, "eth0") as seen:
            port = opened.getsockname()[1]
            before = lan.drops(lan.b)["foreign_ipv4"]
            marker = os.urandom(MARKER)
            pairs = (
                (ends.sender.address, ends.near, port, PORT),
                (ends.near.address, ends.sender, PORT, port),
            )
            with wire_of(ends.far) as wire:
                for source, target, source_port, target_port in pairs:
                    segment = tcp(source, target.address, source_port, target_port, RST | ACK, marker)
                    wire.send(ethernet(target.mac, ends.far.mac, ip(source, target.address, TCP, segment)))
            wait_until(lambda: lan.drops(lan.b)["foreign_ipv4"] >= before + 2, "both are counted")
            for sender, receiver in ((opened, accepted), (accepted, opened)):
                sender.send(marker)
                receiver.settimeout(10)
                assert receiver.recv(MARKER) == marker
            assert not seen.matching(lambda each: marker in each.data and each.source == ends.far.mac)
