"""Real frames through a real bridge with the base table on it: each denial with its counter and a frame that passes."""

import os
import queue
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from homeport_api.addresses import MacAddress, VlanId, VlanRange
from homeport_dataplane import uplink
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.features import probe
from homeport_dataplane.frames import claimed_address
from homeport_dataplane.guest import GuestConfig, configure_guest
from homeport_dataplane.links import find_index
from homeport_dataplane.netns import ensure_switch_settings
from homeport_dataplane.nflog import PacketLog
from homeport_dataplane.nft import Nft
from homeport_dataplane.veth import ensure_veth
from homeport_dataplane.vlan import MUTED, PortVlans, ensure_vlans
from homeport_netns_fixtures.capture import Capture, send
from homeport_policy import guards
from homeport_policy.guards import GuardedPort, Placement
from homeport_policy.listing import read_element
from homeport_policy.render import fingerprints, render
from homeport_policy.ruleset import Ruleset
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker, guest_in, port_of
from tests.dataplane.packets import ICMPV6, UDP, begin, ethernet, ip
from tests.kernel import packets

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_OTHER = "02:00:5e:10:00:99"
_GUEST = "02:00:5e:10:00:01"


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest on a port of the switch."""

    box: Box
    port: GuardedPort


@dataclass(frozen=True, slots=True)
class World:
    """Guests on one bridge, whose uplink ends at `wire` in the node's namespace."""

    switch: Box
    node: Box
    nft: Nft

    def drops(self) -> dict[str, int]:
        return {name: count.packets for name, count in self.nft.list_owned().counters.items() if count.packets}

    def wait_forwarding(self, link: str) -> None:
        """The bridge starts a port's forwarding from a work queue, a moment after its carrier came."""
        end = time.monotonic() + 30
        while '"state":"forwarding"' not in self.switch.shell.run("bridge", "-j", "link", "show", "dev", link).stdout:
            assert time.monotonic() < end, f"{link} does not forward"
            time.sleep(0.01)

    def wait_drops(self, reason: str, count: int) -> None:
        """A frame that was sent is judged a moment later."""
        end = time.monotonic() + 30
        while self.drops().get(reason, 0) < count:
            assert time.monotonic() < end, f"waited for {count} of {reason}: {self.drops()}"
            time.sleep(0.01)


def frame(*types: int, source: str, to: str = _BROADCAST, tags: tuple[int, ...] = ()) -> bytes:
    """`types` are the types after the addresses: a tag's type is followed by the next of `tags`, the last by bytes that
    are unlike those of any other frame."""
    head = bytes.fromhex((to + source).replace(":", ""))
    vlans = list(tags)
    for each in types:
        head += each.to_bytes(2, "big")
        if each in (0x8100, 0x88A8):
            head += vlans.pop(0).to_bytes(2, "big")
    return head + os.urandom(50)


def packet(source: str, *, mac: str = "", to: str = _BROADCAST) -> bytes:
    """A datagram from an address, whose last 50 bytes are unlike those of any other frame."""
    target = "198.51.100.9" if ":" not in source else "2001:db8:9::9"
    return ethernet(to, mac or _GUEST, ip(source, target, UDP, begin(UDP, 1, 2) + os.urandom(50)))


def arp(sender: str, asked: str, *, mac: str = "") -> bytes:
    own = bytes.fromhex((mac or _GUEST).replace(":", ""))
    body = bytes.fromhex("0001080006040001") + own + ip_address(sender).packed + bytes(6) + ip_address(asked).packed
    return b"\xff" * 6 + own + b"\x08\x06" + body + os.urandom(50)


def discovery(kind: int, source: str, about: str, *, mac: str = "") -> bytes:
    """A neighbour solicitation (135) or advertisement (136)."""
    message = struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(about).packed + os.urandom(50)
    return ethernet("33:33:00:00:00:01", mac or _GUEST, ip(source, "ff02::1", ICMPV6, message))


def build(box: BoxMaker, *, vlan_aware: bool = False) -> World:
    switch, node = box("switch"), box("node")
    ensure_switch_settings(switch.ns)
    node.shell.ip("link add eth1 type veth peer name wire", "link set wire up")
    ensure_bridge(switch.ns, BRIDGE, vlan_aware)
    uplink.ensure_uplink(node.ns, switch.ns, "eth1", BRIDGE)
    nft = Nft(switch.ns)
    nft.apply(render(guards.base()))
    nft.apply(render(guards.admit_uplink("hpu-eth1")))
    world = World(switch, node, nft)
    world.wait_forwarding("hpu-eth1")
    return world


def attach(
    world: World,
    box: BoxMaker,
    number: int,
    *,
    trunk: bool = False,
    anti_spoof: bool = True,
    native: int | None = None,
) -> Guest:
    """A guest that took an address of each family, and takes more."""
    guest = box(f"guest{number}")
    end = guest_in(guest, number)
    port = port_of(f"uid{number}")
    own = {ip_address(text) for text in (f"192.0.2.{number}", f"2001:db8::{number}", f"fe80::{number}")}
    guarded = GuardedPort(port.name, end.mac, trunk, anti_spoof, frozenset(own), native=native)
    world.nft.apply(render(guards.admit(guarded)))
    ensure_veth(world.switch.ns, port, end)
    guest.ns.ensure_sysctl("ipv6/conf/all/disable_ipv6", "1")
    configure_guest(guest.ns, "eth1", GuestConfig())
    world.wait_forwarding(port.name)
    return Guest(guest, guarded)


def expect(world: World, sender: Guest, data: bytes, receiver: Box, link: str, reason: str | None) -> None:
    """`data` arrives; or, with a `reason`, it does not while a frame sent after it does, and that counter moved."""
    before = world.drops()
    control = frame(0x8035, source=sender.port.mac)
    with Capture(receiver.shell, link) as seen:
        send(sender.box.shell, "eth1", data)
        send(sender.box.shell, "eth1", control)
        seen.wait(lambda each: each.payload == control[14:])
        arrived = seen.matching(lambda each: each.data[-50:] == data[-50:])
    after = world.drops()
    assert bool(arrived) == (reason is None), f"{data.hex()}: {before} {after}"
    if reason is not None:
        assert after[reason] > before.get(reason, 0)


FRAMES = [
    pytest.param(packet("192.0.2.1"), None, id="IPv4"),
    pytest.param(packet("2001:db8::1"), None, id="IPv6"),
    pytest.param(packet("fe80::1"), None, id="link-local"),
    pytest.param(packet("192.0.2.99"), "foreign_ipv4", id="IPv4 that it has not taken"),
    pytest.param(packet("2001:db8::99"), "foreign_ipv6", id="IPv6 that it has not taken"),
    pytest.param(packet("fe80::99"), "foreign_ipv6", id="link-local that it has not taken"),
    pytest.param(arp("192.0.2.1", "192.0.2.2"), None, id="ARP"),
    pytest.param(arp("192.0.2.99", "192.0.2.2"), "foreign_arp", id="ARP of an address that it has not taken"),
    pytest.param(arp("0.0.0.0", "192.0.2.99"), None, id="ARP probe"),
    pytest.param(discovery(135, "::", "2001:db8::99"), None, id="DAD"),
    pytest.param(discovery(135, "::", "fe80::99"), None, id="DAD of a link-local"),
    pytest.param(discovery(135, "2001:db8::1", "2001:db8::2"), None, id="NS"),
    pytest.param(discovery(135, "2001:db8::99", "2001:db8::2"), "foreign_ipv6", id="NS from what it has not taken"),
    pytest.param(discovery(136, "2001:db8::1", "2001:db8::1"), None, id="NA"),
    pytest.param(discovery(136, "2001:db8::1", "2001:db8::99"), "foreign_nd", id="NA of what it has not taken"),
    pytest.param(discovery(136, "fe80::1", "fe80::99"), "foreign_nd", id="NA of a link-local that it has not taken"),
    pytest.param(frame(0x0806, source=_GUEST), "foreign_arp", id="ARP of another MAC"),
    pytest.param(frame(0x8035, source=_GUEST), None, id="RARP of its own MAC"),
    pytest.param(frame(0x8035, source=_OTHER), "foreign_mac", id="RARP of another MAC"),
    pytest.param(frame(0x88B5, source=_GUEST), "ethertype", id="another ethertype"),
    pytest.param(frame(0x8100, 0x0800, source=_GUEST, tags=(200,)), "tagged", id="tag"),
    pytest.param(frame(0x8100, 0x0800, source=_GUEST, tags=(0,)), "tagged", id="priority tag"),
    pytest.param(frame(0x88A8, 0x0800, source=_GUEST, tags=(200,)), "tagged", id="service tag"),
    pytest.param(frame(0x8100, 0x8100, 0x0800, source=_GUEST, tags=(100, 200)), "tagged", id="two tags"),
    pytest.param(frame(0x8100, 0x88A8, 0x0800, source=_GUEST, tags=(0, 200)), "tagged", id="service tag inside"),
    pytest.param(frame(0x0027, source=_GUEST, to="01:80:c2:00:00:00"), "link_local", id="BPDU"),
    pytest.param(frame(0x88CC, source=_GUEST, to="01:80:c2:00:00:0e"), "to_bridge", id="LLDP"),
]


@pytest.fixture
def world(box: BoxMaker) -> World:
    return build(box)


def test_what_a_guest_may_send_to_another_and_to_the_wire(world: World, box: BoxMaker) -> None:
    sender, receiver = attach(world, box, 1), attach(world, box, 2)
    for each in (sender, receiver):
        world.nft.apply(render(guards.open_port(each.port.name)))
    for param in FRAMES:
        data, reason = param.values
        assert isinstance(data, bytes)
        assert reason is None or isinstance(reason, str)
        expect(world, sender, data, receiver.box, "eth1", reason)
        expect(world, sender, data, world.node, "wire", reason)


def test_a_trunk_tags_neither_with_its_native_vlan_nor_with_none(world: World, box: BoxMaker) -> None:
    sender = attach(world, box, 1, trunk=True, native=10)
    world.nft.apply(render(guards.open_port(sender.port.name)))
    for vlan, reason in ((200, None), (10, "tagged"), (0, "tagged"), (11, None)):
        for carried in (0x0800, 0x86DD, 0x8035):
            expect(world, sender, frame(0x8100, carried, source=_GUEST, tags=(vlan,)), world.node, "wire", reason)


def test_claims_are_told_as_often_as_a_port_may_and_use_is_noted(world: World, box: BoxMaker) -> None:
    """A guest that claims a hundred addresses at once is heard some times, and keeps nobody else from being heard."""
    hostile, other = attach(world, box, 1), attach(world, box, 2)
    for each in (hostile, other):
        world.nft.apply(render(guards.open_port(each.port.name)))
    heard: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    log = PacketLog(world.switch.ns, (guards.claims_group(Placement.SWITCH),))

    def listen() -> None:
        for each in log:
            link = None if each.in_index is None else find_index(world.switch.ns, each.in_index)
            heard.put((link.name if link else "", str(claimed_address(each.ethertype, each.payload))))

    reader = threading.Thread(target=listen)
    reader.start()
    try:
        for at in range(100):
            send(hostile.box.shell, "eth1", arp("0.0.0.0", f"198.51.100.{at}"))
        mac = other.port.mac
        claims = {
            "192.0.2.77": arp("0.0.0.0", "192.0.2.77", mac=mac),
            "192.0.2.78": arp("192.0.2.78", "192.0.2.1", mac=mac),
            "192.0.2.79": packet("192.0.2.79", mac=mac),
            "2001:db8::77": discovery(135, "::", "2001:db8::77", mac=mac),
            "2001:db8::78": discovery(135, "2001:db8::78", "2001:db8::1", mac=mac),
            "2001:db8::79": packet("2001:db8::79", mac=mac),
            "fe80::79": packet("fe80::79", mac=mac),
        }
        for data in (packet("192.0.2.2", mac=mac), packet("fe80::2", mac=mac), *claims.values()):
            send(other.box.shell, "eth1", data)
        found: list[tuple[str, str]] = []
        while len([link for link, _ in found if link == other.port.name]) < len(claims):
            found.append(heard.get(timeout=30))
    finally:
        log.close()
        reader.join()
    assert [address for link, address in found if link == other.port.name] == list(claims)
    of_hostile = [address for link, address in found if link == hostile.port.name]
    assert guards.CLAIMS_AT_ONCE <= len(of_hostile) < 2 * guards.CLAIMS_AT_ONCE, of_hostile
    ages = {**world.nft.ages(guards.USED4), **world.nft.ages(guards.USED6)}
    assert {f"{other.port.name} . 192.0.2.2", f"{other.port.name} . fe80::2"} <= ages.keys()
    assert not any(address in key for key in ages for address in claims), "what is not its own is not used"
    assert all(age < 60 for age in ages.values())


def test_a_fragment_hides_nothing(world: World, box: BoxMaker) -> None:
    """Of neighbour discovery, or with a header before what it carries; on kernels that put none together, too."""
    sender, receiver = attach(world, box, 1), attach(world, box, 2)
    for each in (sender, receiver):
        world.nft.apply(render(guards.open_port(each.port.name)))
    source, nodes = "fe80::1", "ff02::1"
    advertised = packets.neighbour(source, nodes, 136, "2001:db8::1", os.urandom(8)).ljust(80, b"\0")
    echoed = packets.echo(source, nodes, os.urandom(72))
    datagram = packets.udp(source, nodes, 1, 2, os.urandom(72))
    for protocol, body, headers, reason in (
        (packets.ICMP6, advertised, (), "fragment"),
        (packets.ICMP6, advertised, (packets.DESTINATION,), "fragment"),
        (packets.ICMP6, echoed, (packets.HOP_BY_HOP,), "fragment"),
        (packets.ICMP6, echoed, (), None),
        (packets.UDP, datagram, (), None),
    ):
        parts = packets.cut(source, nodes, *packets.behind(protocol, body, *headers), 56, number=7)
        to_all = [packets.ethernet(_BROADCAST, _GUEST, part + os.urandom(50)) for part in parts]
        expect(world, sender, to_all[0], receiver.box, "eth1", reason)
        expect(world, sender, to_all[1], receiver.box, "eth1", reason if headers else None)


def test_without_anti_spoof_other_ethertypes_pass_and_tags_do_not(world: World, box: BoxMaker) -> None:
    sender = attach(world, box, 1, anti_spoof=False)
    world.nft.apply(render(guards.open_port(sender.port.name)))
    expect(world, sender, frame(0x88B5, source=_GUEST), world.node, "wire", None)
    expect(world, sender, frame(0x8035, source=_OTHER), world.node, "wire", None)
    expect(world, sender, frame(0x8100, 0x0800, source=_GUEST, tags=(200,)), world.node, "wire", "tagged")
    expect(world, sender, frame(0x0027, source=_GUEST, to="01:80:c2:00:00:00"), world.node, "wire", "link_local")


def test_a_muted_port_is_silent_both_ways_and_opens(world: World, box: BoxMaker) -> None:
    muted, other = attach(world, box, 1), attach(world, box, 2)
    world.nft.apply(render(guards.open_port(other.port.name)))
    outward = [frame(kind, source=_GUEST) for kind in (0x0800, 0x86DD, 0x8035, 0x88CC)]
    inward = [frame(kind, source=other.port.mac, to=to) for kind in (0x0800, 0x8035) for to in (_BROADCAST, _GUEST)]
    with (
        Capture(world.node.shell, "wire") as wire,
        Capture(muted.box.shell, "eth1") as inside,
        Capture(other.box.shell, "eth1") as beside,
    ):
        for each in outward:
            send(muted.box.shell, "eth1", each)
        for each in inward:
            send(other.box.shell, "eth1", each)
        wire.wait(lambda each: each.data[-50:] == inward[-1][-50:])
        world.wait_drops("muted", len(outward) + len(inward))
        sent = {data[-50:] for data in outward}
        assert not wire.matching(lambda each: each.data[-50:] in sent)
        assert not beside.matching(lambda each: each.data[-50:] in sent)
        assert not inside.matching(lambda each: not each.outgoing)
        learned = world.switch.shell.run("bridge", "fdb", "show", "dev", muted.port.name).stdout
        assert _GUEST not in learned

        world.nft.apply(render(guards.open_port(muted.port.name)))
        last = frame(0x8035, source=_GUEST)
        send(muted.box.shell, "eth1", last)
        wire.wait(lambda each: each.data == last)
        beside.wait(lambda each: each.data == last)


def test_a_port_that_was_never_admitted_is_dropped(world: World, box: BoxMaker) -> None:
    unknown = attach(world, box, 1)
    world.nft.apply(render(guards.remove(unknown.port)))
    world.nft.apply(render(guards.open_port(unknown.port.name)))
    with Capture(world.node.shell, "wire") as wire:
        send(unknown.box.shell, "eth1", frame(0x8035, source=_GUEST))
        world.wait_drops("unknown", 1)
        world.nft.apply(render(guards.admit(unknown.port)))
        world.nft.apply(render(guards.open_port(unknown.port.name)))
        control = frame(0x8035, source=_GUEST)
        send(unknown.box.shell, "eth1", control)
        wire.wait(lambda each: each.data == control)
        assert len(wire.matching(lambda each: each.source == _GUEST)) == 1


@pytest.mark.parametrize("placement", Placement)
def test_the_base_table_loads_and_repeats(placement: Placement, switch: Box) -> None:
    nft = Nft(switch.ns)
    table: Ruleset = guards.base(placement)
    nft.apply(render(table))
    first = nft.list_owned()
    assert first.rules == fingerprints(table.chains)
    port = GuardedPort("hp1", MacAddress(_GUEST))
    nft.apply(render(guards.admit(port)))
    nft.apply(render(guards.open_port("hp1")))
    with_port = nft.list_owned()
    nft.apply(render(table))
    assert nft.list_owned() == with_port, "applied again it keeps elements"
    known = {each.name: each for each in table.sets}
    present = {read_element(known, name, key) for name, keys in with_port.elements.items() for key in keys}
    assert present == guards.desired([], [(port, True)])
    for _ in range(2):
        nft.apply(render(guards.mute("hp1")))
        nft.apply(render(guards.remove(port)))
    assert nft.list_owned() == first


def test_a_rule_taken_by_hand_shows_and_is_put_back(switch: Box) -> None:
    nft = Nft(switch.ns)
    nft.apply(render(guards.base()))
    switch.shell.run("nft", "flush", "chain", "bridge", "homeport", "prerouting")
    assert nft.list_owned().rules != fingerprints(guards.base().chains)
    nft.apply(render(guards.base()))
    assert nft.list_owned().rules == fingerprints(guards.base().chains)


def test_a_bridge_of_the_node_keeps_its_own_traffic(box: BoxMaker) -> None:
    """The node speaks on its bridge, a foreign port sends what it likes; ours is muted, then guarded."""
    node, foreign = box("node"), box("foreign")
    node.shell.ip("link add br0 type bridge", "address add 192.0.2.1/24 dev br0", "link set br0 up")
    node.shell.ip(f"link add f0 type veth peer name eth0 netns {foreign.shell.name}", "link set f0 master br0 up")
    foreign.shell.ip("address add 192.0.2.2/24 dev eth0", "link set eth0 up")
    nft = Nft(node.ns)
    nft.apply(render(guards.base(Placement.NODE_BRIDGE)))
    world = World(node, node, nft)
    guest = box("guest")
    port, end = port_of("uid1", bridge="br0"), guest_in(guest)
    guarded = GuardedPort(port.name, end.mac, addresses=frozenset({ip_address("192.0.2.3")}))
    nft.apply(render(guards.admit(guarded)))
    ensure_veth(node.ns, port, end)
    ensure_vlans(node.ns, port.name, MUTED)
    guest.shell.ip("address add 192.0.2.3/24 dev eth1", "link set eth1 up")
    foreign.shell.wait_ping("192.0.2.1")
    assert not guest.shell.pings("192.0.2.1", wait=1)
    nft.apply(render(guards.open_port(port.name)))
    if probe().vlan_filtering:
        ensure_vlans(node.ns, port.name, PortVlans(VlanId(1)))
    guest.shell.wait_ping("192.0.2.1")
    expect(world, Guest(guest, guarded), frame(0x88B5, source=_GUEST), foreign, "eth0", "ethertype")
    with Capture(guest.shell, "eth1") as seen:
        odd = frame(0x88B5, source=_OTHER)
        send(foreign.shell, "eth0", odd)
        seen.wait(lambda each: each.data == odd)


def test_vlans_keep_guests_apart_and_leave_tagged(vlan_kernel: None, box: BoxMaker) -> None:
    """Two access ports and a trunk: what arrives on the wire carries the tag of its VLAN, and VLAN 1 is nowhere."""
    world = build(box, vlan_aware=True)
    one, two, trunk = attach(world, box, 1), attach(world, box, 2), attach(world, box, 3, trunk=True, native=10)
    for each in (one, two, trunk):
        world.nft.apply(render(guards.open_port(each.port.name)))
    vlans = (VlanRange(VlanId(100), VlanId(100)), VlanRange(VlanId(200), VlanId(200)))
    ensure_vlans(world.switch.ns, "hpu-eth1", PortVlans(None, (*vlans, VlanRange(VlanId(10), VlanId(10)))))
    silent = frame(0x8035, source=one.port.mac)
    with (
        Capture(world.node.shell, "wire") as wire,
        Capture(two.box.shell, "eth1") as at_two,
        Capture(trunk.box.shell, "eth1") as at_trunk,
    ):
        send(one.box.shell, "eth1", silent)  # no VLAN yet: mute
        ensure_vlans(world.switch.ns, one.port.name, PortVlans(VlanId(100)))
        ensure_vlans(world.switch.ns, two.port.name, PortVlans(VlanId(200)))
        ensure_vlans(world.switch.ns, trunk.port.name, PortVlans(VlanId(10), vlans))
        first = frame(0x8035, source=one.port.mac)
        send(one.box.shell, "eth1", first)
        assert wire.wait(lambda each: each.data[-50:] == first[-50:]).tags == ((0x8100, 100),)
        assert at_trunk.wait(lambda each: each.data[-50:] == first[-50:]).tags == ((0x8100, 100),)
        tagged = frame(0x8100, 0x8035, source=trunk.port.mac, tags=(200,))
        send(trunk.box.shell, "eth1", tagged)
        assert wire.wait(lambda each: each.data[-50:] == tagged[-50:]).tags == ((0x8100, 200),)
        assert at_two.wait(lambda each: each.data[-50:] == tagged[-50:]).tags == ()
        for wrong in (
            frame(0x8100, 0x8100, 0x8035, source=trunk.port.mac, tags=(100, 200)),
            frame(0x8100, 0x88A8, 0x8035, source=trunk.port.mac, tags=(100, 200)),
            frame(0x88A8, 0x8035, source=trunk.port.mac, tags=(200,)),
            frame(0x88A8, 0x8100, 0x8035, source=trunk.port.mac, tags=(100, 200)),
            frame(0x8100, 0x8035, source=trunk.port.mac, tags=(300,)),
            frame(0x8100, 0x8035, source=trunk.port.mac, tags=(10,)),
            frame(0x8100, 0x8035, source=trunk.port.mac, tags=(0,)),
        ):
            send(trunk.box.shell, "eth1", wrong)
        for wrong in (
            frame(0x8100, 0x8035, source=one.port.mac, tags=(100,)),
            frame(0x8100, 0x8100, 0x8035, source=one.port.mac, tags=(100, 200)),
            frame(0x8100, 0x8100, 0x8035, source=one.port.mac, tags=(0, 200)),
            frame(0x88A8, 0x8035, source=one.port.mac, tags=(200,)),
            frame(0x0027, source=one.port.mac, to="01:80:c2:00:00:00"),
        ):
            send(one.box.shell, "eth1", wrong)
        native, last = frame(0x8035, source=trunk.port.mac), frame(0x8035, source=one.port.mac)
        send(trunk.box.shell, "eth1", native)
        send(one.box.shell, "eth1", last)
        wire.wait(lambda each: each.data[-50:] == native[-50:])
        wire.wait(lambda each: each.data[-50:] == last[-50:])
        assert [each.tags for each in wire.matching(lambda each: each.source.startswith("02:00:5e"))] == [
            ((0x8100, 100),),
            ((0x8100, 200),),
            ((0x8100, 10),),
            ((0x8100, 100),),
        ]
        assert len(at_two.matching(lambda each: not each.outgoing)) == 1
    assert world.drops()["tagged"] >= 8
    assert world.drops()["link_local"] == 1
