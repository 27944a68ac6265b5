"""The base table, judged rule by rule on frames as values. `tests/dataplane/test_guarded_frames.py` has real ones."""

from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from itertools import chain, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import MacAddress
from homeport_policy import guards
from homeport_policy.guards import GuardedPort, Placement
from homeport_policy.listing import read_element
from homeport_policy.program import NOTHING
from homeport_policy.render import render
from homeport_policy.ruleset import L4, Change, CtState, Element, EtherType, OverCount, Ruleset, Verdict, element
from homeport_policy.simulate import Frame, judge, load

OWN4, OWN6, GATEWAY6 = ip_address("192.0.2.1"), ip_address("2001:db8::1"), ip_address("fe80::1")
OTHER4, OTHER6, OTHER_MAC = ip_address("192.0.2.2"), ip_address("2001:db8::2"), "02:00:00:00:00:99"
NO4, NO6, LINK_LOCAL = ip_address("0.0.0.0"), ip_address("::"), ip_address("fe80::5")
TAKEN4, TAKEN6, OTHER_LOCAL = ip_address("192.0.2.77"), ip_address("2001:db8::77"), ip_address("fe80::6")
ACCESS = GuardedPort("hp1", MacAddress("02:00:00:00:00:01"), addresses=frozenset({TAKEN4, TAKEN6, LINK_LOCAL}))
TRUNK = GuardedPort("hp2", MacAddress("02:00:00:00:00:02"), trunk=True, native=10)
LAX = GuardedPort("hp3", MacAddress("02:00:00:00:00:03"), anti_spoof=False)
BOUND = replace(
    ACCESS,
    name="hp4",
    addresses=frozenset({OWN4, OWN6, LINK_LOCAL}),
    learning=frozenset(),
    forbidden=frozenset({GATEWAY6}),
)
SERVER = replace(ACCESS, name="hp5", dhcp_server=True, router=True)
LAX_TRUNK = replace(LAX, name="hp6", trunk=True, native=10)
PORTS = (ACCESS, TRUNK, LAX, BOUND, SERVER, LAX_TRUNK)
UPLINK = "hpu-eth1"
ALL = guards.desired([UPLINK], [(port, True) for port in PORTS])
SETS = {each.name: each for placement in Placement for each in guards.base(placement, tracking=True).sets}


def frame(carries: int = EtherType.IPV4, *, port: GuardedPort = ACCESS, into: str = "", **what: object) -> Frame:
    """From the port, with its own MAC unless something else is said."""
    known: dict[str, object] = {"source_mac": port.mac, "target_mac": "ff:ff:ff:ff:ff:ff", "arp_mac": port.mac}
    return Frame(into or port.name, UPLINK, carries, **(known | what))  # type: ignore[arg-type]


def udp(source: int, target: int, version: int = 4, port: GuardedPort = ACCESS) -> Frame:
    carries = EtherType.IPV4 if version == 4 else EtherType.IPV6
    return frame(carries, port=port, protocol=L4.UDP, source_port=source, target_port=target)


def icmp6(kind: int, **what: object) -> Frame:
    return frame(EtherType.IPV6, protocol=L4.ICMP6, icmp6_type=kind, **what)  # type: ignore[arg-type]


@cache
def tables() -> tuple[Ruleset, ...]:
    return tuple(guards.base(placement, tracking=tracking) for placement, tracking in product(Placement, (False, True)))


def dropped(table: Ruleset, elements: frozenset[Element], data: Frame, *hooks: str) -> str | None:
    """The counter of the rule that drops the frame on its way; None when it passes."""
    loaded = load(table, NOTHING, [each for each in elements if each.set in {one.name for one in table.sets}])
    for hook in hooks or ("prerouting", "forward"):
        judged = judge(loaded, hook, data)
        if judged.verdict is Verdict.DROP:
            return judged.counted[-1]
    return None


FRAMES = [
    pytest.param(frame(), None, id="IPv4"),
    pytest.param(frame(EtherType.IPV6), None, id="IPv6"),
    pytest.param(frame(EtherType.ARP), None, id="ARP"),
    pytest.param(frame(EtherType.RARP), None, id="RARP of its own MAC"),
    pytest.param(frame(EtherType.RARP, source_mac=OTHER_MAC), "foreign_mac", id="RARP of another MAC"),
    pytest.param(frame(source_mac=OTHER_MAC), "foreign_mac", id="another MAC"),
    pytest.param(frame(port=LAX, source_mac=OTHER_MAC), None, id="another MAC without antiSpoof"),
    pytest.param(frame(EtherType.ARP, arp_mac=OTHER_MAC), "foreign_arp", id="ARP for another MAC"),
    pytest.param(frame(0x88CC), "ethertype", id="another ethertype"),
    pytest.param(frame(0x0004), "ethertype", id="802.3 with a length"),
    pytest.param(frame(0x88CC, port=LAX), None, id="another ethertype without antiSpoof"),
    pytest.param(frame(tag=0x8100), "tagged", id="tag on an access port"),
    pytest.param(frame(port=LAX, tag=0x8100), "tagged", id="tag on an access port without antiSpoof"),
    pytest.param(frame(tag=0x88A8), "tagged", id="service tag on an access port"),
    pytest.param(frame(0x8100), "tagged", id="tag left in the frame"),
    pytest.param(frame(port=TRUNK, tag=0x8100), None, id="tag on a trunk"),
    pytest.param(frame(port=TRUNK, tag=0x8100, vlan=200), None, id="tag of another VLAN on a trunk"),
    pytest.param(frame(port=TRUNK, tag=0x8100, vlan=10), "tagged", id="tag of a trunk's native VLAN"),
    pytest.param(frame(port=TRUNK, tag=0x8100, vlan=0), "tagged", id="priority tag on a trunk"),
    pytest.param(frame(EtherType.ARP, port=TRUNK, tag=0x8100, vlan=0), "tagged", id="ARP in a priority tag"),
    pytest.param(frame(EtherType.ARP, port=TRUNK, tag=0x8100, vlan=10), "tagged", id="ARP in the native VLAN's tag"),
    pytest.param(frame(port=LAX_TRUNK, tag=0x8100, vlan=200), None, id="tag on a trunk without antiSpoof"),
    pytest.param(frame(port=LAX_TRUNK, tag=0x8100, vlan=10), "tagged", id="native VLAN's tag without antiSpoof"),
    pytest.param(frame(port=LAX_TRUNK, tag=0x8100, vlan=0), "tagged", id="priority tag without antiSpoof"),
    pytest.param(frame(port=TRUNK), None, id="untagged on a trunk"),
    pytest.param(frame(0x8100, port=TRUNK, tag=0x8100), "tagged", id="inner tag on a trunk"),
    pytest.param(frame(0x88A8, port=TRUNK, tag=0x8100), "tagged", id="inner service tag on a trunk"),
    pytest.param(frame(port=TRUNK, tag=0x88A8), "tagged", id="service tag on a trunk"),
    pytest.param(frame(port=TRUNK, tag=0x8100, source_mac=OTHER_MAC), "foreign_mac", id="another MAC in a trunk's tag"),
    pytest.param(frame(target_mac="01:80:c2:00:00:00"), "link_local", id="BPDU"),
    pytest.param(frame(port=LAX, target_mac="01:80:c2:00:00:0e"), "link_local", id="LLDP without antiSpoof"),
    pytest.param(frame(target_mac="01:80:c2:00:00:10"), None, id="beyond the link-local range"),
    # Addresses
    pytest.param(frame(port=BOUND, source=OWN4), None, id="its own IPv4"),
    pytest.param(frame(port=BOUND, source=OTHER4), "foreign_ipv4", id="another IPv4"),
    pytest.param(frame(port=BOUND, source=NO4), None, id="no IPv4 yet"),
    pytest.param(frame(source=TAKEN4), None, id="an IPv4 that it took"),
    pytest.param(frame(source=OTHER4), "foreign_ipv4", id="an IPv4 that it has not taken yet"),
    pytest.param(frame(EtherType.ARP, arp_ip=TAKEN4), None, id="ARP of an IPv4 that it took"),
    pytest.param(frame(EtherType.ARP, arp_ip=OTHER4), "foreign_arp", id="ARP of an IPv4 that it has not taken yet"),
    pytest.param(frame(EtherType.ARP, arp_ip=NO4), None, id="ARP probe where it takes any"),
    pytest.param(frame(EtherType.IPV6, source=TAKEN6), None, id="an IPv6 that it took"),
    pytest.param(frame(EtherType.IPV6, source=OTHER6), "foreign_ipv6", id="an IPv6 that it has not taken yet"),
    pytest.param(frame(EtherType.IPV6, source=OTHER_LOCAL), "foreign_ipv6", id="a link-local not taken yet"),
    pytest.param(frame(EtherType.ARP, port=BOUND, arp_ip=OWN4), None, id="ARP of its own IPv4"),
    pytest.param(frame(EtherType.ARP, port=BOUND, arp_ip=OTHER4), "foreign_arp", id="ARP of another IPv4"),
    pytest.param(frame(EtherType.ARP, port=BOUND, arp_ip=NO4), None, id="ARP probe"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=OWN6), None, id="its own IPv6"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=OTHER6), "foreign_ipv6", id="another IPv6"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=LINK_LOCAL), None, id="link-local"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=OTHER_LOCAL), "foreign_ipv6", id="another's link-local"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=GATEWAY6), "foreign_ipv6", id="the gateway's link-local"),
    # Neighbour discovery
    pytest.param(icmp6(136, port=BOUND, source=OWN6, nd_target=OWN6), None, id="NA of its own"),
    pytest.param(icmp6(136, port=BOUND, source=OWN6, nd_target=OTHER6), "foreign_nd", id="NA of another"),
    pytest.param(icmp6(136, port=BOUND, source=OWN6, nd_target=GATEWAY6), "foreign_nd", id="NA of the gateway"),
    pytest.param(icmp6(136, port=BOUND, source=LINK_LOCAL, nd_target=LINK_LOCAL), None, id="NA of its link-local"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=OWN6), None, id="DAD of its own"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=OTHER6), "foreign_nd", id="DAD of another"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=GATEWAY6), "foreign_nd", id="DAD of the gateway"),
    pytest.param(icmp6(135, port=BOUND, source=OWN6, nd_target=GATEWAY6), None, id="NS for the gateway"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=OTHER_LOCAL), None, id="DAD of a further link-local"),
    pytest.param(icmp6(136, port=BOUND, source=OWN6, nd_target=OTHER_LOCAL), "foreign_nd", id="NA of a link-local"),
    pytest.param(icmp6(136, source=TAKEN6, nd_target=TAKEN6), None, id="NA of one that it took"),
    pytest.param(icmp6(136, source=TAKEN6, nd_target=OTHER6), "foreign_nd", id="NA of one that it has not taken"),
    pytest.param(icmp6(135, source=NO6, nd_target=OTHER6), None, id="DAD where it takes any"),
    pytest.param(icmp6(135, source=NO6, nd_target=OTHER_LOCAL), None, id="DAD of a link-local"),
    pytest.param(icmp6(136, port=BOUND, source=OWN6, fragment_of=58), "fragment", id="NA in fragments"),
    pytest.param(icmp6(134, source=LINK_LOCAL, fragment_of=58), "fragment", id="router advertisement in fragments"),
    pytest.param(icmp6(128, source=LINK_LOCAL, fragment_of=58), None, id="ping in fragments"),
    pytest.param(frame(EtherType.IPV6, fragment_of=60), "fragment", id="fragment of what is behind another header"),
    pytest.param(frame(EtherType.IPV6, port=TRUNK, tag=0x8100, fragment_of=44), "fragment", id="fragment in a trunk"),
    pytest.param(frame(EtherType.IPV6, fragment_of=17), None, id="fragment of a datagram"),
    # Servers
    pytest.param(udp(67, 68), "dhcp_guard", id="DHCP answer"),
    pytest.param(udp(67, 67), "dhcp_guard", id="DHCP answer to a relay"),
    pytest.param(udp(6767, 68), "dhcp_guard", id="DHCP answer from another port"),
    pytest.param(udp(67, 68, port=SERVER), None, id="DHCP answer of a server"),
    pytest.param(udp(547, 546, 6), "dhcp_guard", id="DHCPv6 answer"),
    pytest.param(udp(5470, 546, 6), "dhcp_guard", id="DHCPv6 answer from another port"),
    pytest.param(udp(547, 546, 6, SERVER), None, id="DHCPv6 answer of a server"),
    pytest.param(udp(68, 67), None, id="DHCP question"),
    pytest.param(udp(546, 547, 6), None, id="DHCPv6 question"),
    pytest.param(icmp6(134, source=LINK_LOCAL), "ra_guard", id="router advertisement"),
    pytest.param(icmp6(137, source=LINK_LOCAL), "ra_guard", id="redirect"),
    pytest.param(icmp6(134, port=SERVER, source=LINK_LOCAL), None, id="router advertisement of a router"),
    pytest.param(icmp6(133, source=LINK_LOCAL), None, id="router solicitation"),
]


@pytest.mark.parametrize(("data", "reason"), FRAMES)
def test_what_a_guest_may_send(data: Frame, reason: str | None) -> None:
    for table in tables():
        assert dropped(table, ALL, data) == reason


@pytest.mark.parametrize(("data", "reason"), FRAMES)
def test_an_uplink_brings_what_it_brings(data: Frame, reason: str | None) -> None:
    assert dropped(guards.base(), ALL, replace(data, into=UPLINK, out=data.into)) is None


CLAIMS = [
    pytest.param(frame(EtherType.ARP, arp_ip=NO4), True, id="ARP probe"),
    pytest.param(frame(EtherType.ARP, arp_ip=OTHER4), True, id="ARP of a further IPv4"),
    pytest.param(frame(EtherType.ARP, arp_ip=TAKEN4), False, id="ARP of its own"),
    pytest.param(frame(source=OTHER4), True, id="a further IPv4"),
    pytest.param(frame(source=TAKEN4), False, id="its own IPv4"),
    pytest.param(frame(source=NO4), False, id="DHCP"),
    pytest.param(icmp6(135, source=NO6, nd_target=OTHER6), True, id="DAD"),
    pytest.param(icmp6(135, source=NO6, nd_target=TAKEN6), False, id="DAD of its own"),
    pytest.param(icmp6(135, source=NO6, nd_target=OTHER_LOCAL), True, id="DAD of a link-local"),
    pytest.param(icmp6(135, source=OTHER6, nd_target=OTHER4), True, id="NS from a further IPv6"),
    pytest.param(icmp6(136, source=TAKEN6, nd_target=OTHER6), False, id="NA"),
    pytest.param(frame(EtherType.IPV6, source=OTHER6), True, id="a further IPv6"),
    pytest.param(frame(EtherType.IPV6, source=OTHER_LOCAL), True, id="a further link-local"),
    pytest.param(icmp6(143, source=NO6), False, id="MLD before it has one"),
    pytest.param(frame(EtherType.ARP, port=BOUND, arp_ip=NO4), False, id="ARP probe where addresses are given"),
    pytest.param(frame(EtherType.ARP, port=BOUND, arp_ip=OTHER4), False, id="ARP where addresses are given"),
    pytest.param(frame(port=BOUND, source=OTHER4), False, id="an IPv4 where addresses are given"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=OTHER6), False, id="DAD where addresses are given"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=OTHER6), False, id="an IPv6 where addresses are given"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=OTHER_LOCAL), True, id="DAD of a link-local there"),
    pytest.param(icmp6(135, port=BOUND, source=NO6, nd_target=GATEWAY6), False, id="DAD of the gateway"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=OTHER_LOCAL), True, id="a further link-local there"),
    pytest.param(frame(EtherType.IPV6, port=BOUND, source=GATEWAY6), False, id="the gateway's link-local"),
    pytest.param(frame(port=LAX, source=OTHER4), False, id="without antiSpoof"),
    pytest.param(frame(source=OTHER4, source_mac=OTHER_MAC), False, id="from another MAC"),
    pytest.param(frame(EtherType.ARP, arp_ip=OTHER4, arp_mac=OTHER_MAC), False, id="ARP for another MAC"),
    pytest.param(frame(port=TRUNK, tag=0x8100, source=OTHER4), False, id="in a trunk's VLAN"),
    pytest.param(frame(port=TRUNK, source=OTHER4), True, id="in a trunk's native VLAN"),
    pytest.param(frame(into=UPLINK, source=OTHER4), False, id="from the uplink"),
]


@pytest.mark.parametrize(("data", "heard"), CLAIMS)
def test_which_frames_claim_an_address(data: Frame, heard: bool) -> None:
    for table in tables():
        loaded = load(table, NOTHING, [each for each in ALL if each.set in {one.name for one in table.sets}])
        assert judge(loaded, "prerouting", data).logged == ([guards.CLAIM] if heard else [])


@pytest.mark.parametrize(
    ("data", "used"),
    [
        pytest.param(frame(source=TAKEN4), [("used4", ("hp1", TAKEN4))], id="IPv4"),
        pytest.param(frame(EtherType.ARP, arp_ip=TAKEN4), [("used4", ("hp1", TAKEN4))], id="ARP"),
        pytest.param(frame(EtherType.IPV6, source=TAKEN6), [("used6", ("hp1", TAKEN6))], id="IPv6"),
        pytest.param(frame(EtherType.IPV6, source=LINK_LOCAL), [("used6", ("hp1", LINK_LOCAL))], id="link-local"),
        pytest.param(
            frame(EtherType.IPV6, port=BOUND, source=LINK_LOCAL), [("used6", ("hp4", LINK_LOCAL))], id="there"
        ),
        pytest.param(frame(EtherType.IPV6, port=BOUND, source=OWN6), [], id="given"),
        pytest.param(frame(port=BOUND, source=OWN4), [], id="given IPv4"),
        pytest.param(frame(source=OTHER4), [], id="not its own"),
        pytest.param(frame(EtherType.IPV6, source=OTHER6), [], id="IPv6 not its own"),
    ],
)
def test_the_use_of_what_was_taken_is_noted(data: Frame, used: list[tuple[str, tuple[str, object]]]) -> None:
    for table in tables():
        loaded = load(table, NOTHING, [each for each in ALL if each.set in {one.name for one in table.sets}])
        assert judge(loaded, "prerouting", data).touched == used


def test_claims_on_bridges_of_the_node_have_a_group_of_each_agents_own() -> None:
    one, other = (guards.claims_group(Placement.NODE_BRIDGE, name) for name in ("homeport", "homeport_0badcafe"))
    assert one != other
    assert guards.claims_group(Placement.SWITCH) == guards.claims_group(Placement.SWITCH, "other")
    assert all(0 < each < 1 << 16 for each in (one, other))


LIMITED = frozenset({"new_flows", "flows_from", "flows_to"})
SYN = frame(protocol=L4.TCP)
OTHERS = replace(SYN, into=UPLINK, out=ACCESS.name)


@pytest.mark.parametrize(
    ("data", "full", "reason"),
    [
        pytest.param(SYN, {"new_flows"}, "new_flows", id="too many a second"),
        pytest.param(SYN, {"flows_from"}, "flows_from", id="too many at once"),
        pytest.param(frame(protocol=L4.UDP), {"flows_from"}, "flows_from", id="a datagram"),
        pytest.param(replace(SYN, first=False), LIMITED, None, id="the next packet before any answer"),
        pytest.param(replace(SYN, state=CtState.ESTABLISHED, first=False), LIMITED, None, id="one that was begun"),
        pytest.param(frame(EtherType.ARP, state=CtState.UNTRACKED), LIMITED, None, id="ARP"),
        pytest.param(SYN, {"flows_to"}, None, id="others are too many, it may begin some"),
        pytest.param(OTHERS, {"flows_to"}, "flows_to", id="too many from outside"),
        pytest.param(OTHERS, {"new_flows", "flows_from"}, None, id="from outside it is not the guest's own"),
        pytest.param(replace(OTHERS, protocol=L4.UDP), LIMITED, None, id="a datagram from outside"),
        pytest.param(replace(OTHERS, into=TRUNK.name), {"flows_to"}, None, id="another guest's is its own"),
    ],
)
def test_connections_of_a_port_are_limited(data: Frame, full: set[str], reason: str | None) -> None:
    table = guards.base(tracking=True)
    loaded = load(table, NOTHING, ALL)
    judged = judge(replace(loaded, full=frozenset(full)), "forward", data)
    assert (judged.verdict is Verdict.DROP, *judged.counted) == ((False,) if reason is None else (True, reason))


@pytest.mark.parametrize(
    ("room", "begun", "received"), [(262_144, 1024, 2048), (65_536, 256, 512), (131_073, 512, 1024), (100, 16, 16)]
)
def test_a_port_has_a_share_of_what_the_kernel_tracks(room: int, begun: int, received: int) -> None:
    found = {
        match.set: match.parts * match.count
        for chain in guards.base(tracking=True, room=room).chains
        for rule in chain.rules
        for match in rule.matches
        if isinstance(match, OverCount)
    }
    assert found == {"flows_from": begun * 32, "flows_to": received * 32}


def test_a_kernel_that_cannot_count_limits_the_rate_alone() -> None:
    table = guards.base(tracking=True, room=None)
    assert LIMITED & {*table.counters} == LIMITED & {each.name for each in table.sets} == {"new_flows"}


def test_a_muted_port_is_silent_both_ways() -> None:
    muted = guards.desired([UPLINK], [(ACCESS, False), (TRUNK, True)])
    for table in tables():
        assert dropped(table, muted, frame()) == "muted"
        assert dropped(table, muted, replace(frame(port=TRUNK), out=ACCESS.name)) == "muted"
        assert dropped(table, muted, frame(port=TRUNK)) is None
        assert dropped(table, muted, replace(frame(), out=ACCESS.name), "output") == "muted"
        assert dropped(table, muted, frame(), "input") in ("muted", "to_bridge")


def test_nothing_reaches_the_switch_itself() -> None:
    assert dropped(guards.base(), ALL, frame(), "input") == "to_bridge"
    assert dropped(guards.base(), ALL, replace(frame(), into=UPLINK), "input") == "to_bridge"


@pytest.mark.parametrize("tracking", [False, True])
def test_the_node_keeps_talking_on_its_own_bridge(tracking: bool) -> None:
    table = guards.base(Placement.NODE_BRIDGE, tracking=tracking)
    for hook in ("prerouting", "input", "forward", "output"):
        others = replace(frame(0x88CC, tag=0x8100), into="eth0", out="br0")
        assert dropped(table, ALL, others, hook) is None
    assert dropped(table, ALL, frame(), "input") is None, "a guest may speak to the node there"


def test_zones_are_by_vlan_and_without_a_tag_by_port() -> None:
    trunk = replace(TRUNK, zone=7, vlan_zones=((200, 9),))
    elements = guards.desired([], [(trunk, True)], tracking=True)
    loaded = load(guards.base(tracking=True), NOTHING, elements)
    assert judge(loaded, "prerouting", frame(port=trunk)).zone == 7
    assert judge(loaded, "prerouting", frame(port=trunk, tag=0x8100, vlan=200)).zone == 9
    assert judge(loaded, "prerouting", frame(port=trunk, tag=0x8100, vlan=201)).zone is None


def test_on_a_bridge_of_the_node_only_what_is_for_our_guests_has_a_zone() -> None:
    bridge = "02:00:00:00:00:b0"
    elements = {
        *guards.desired([], [(replace(ACCESS, zone=7), True)], tracking=True),
        element(guards.BRIDGES, bridge),
        Element(guards.GUEST_ZONES, (ACCESS.mac,), 7),
    }
    loaded = load(guards.base(Placement.NODE_BRIDGE, tracking=True), NOTHING, elements)
    assert judge(loaded, "prerouting", frame()).zone == 7
    assert judge(loaded, "prerouting", frame(target_mac=bridge)).zone is None, "the node's own connections"
    assert judge(loaded, "prerouting", replace(frame(target_mac=ACCESS.mac), into="eth0")).zone == 7
    assert judge(loaded, "prerouting", replace(frame(), into="eth0")).zone is None


HELD = sorted(ALL, key=str)
DATA = [each.values[0] for each in FRAMES]


@given(
    lost=st.sets(st.sampled_from(HELD)),
    data=st.sampled_from(DATA),
    into=st.sampled_from([*(port.name for port in PORTS), UPLINK]),
    out=st.sampled_from([*(port.name for port in PORTS), UPLINK]),
)
def test_the_loss_of_elements_opens_nothing(lost: set[Element], data: Frame, into: str, out: str) -> None:
    """But for addresses that nobody but their owner may use, whose they are must be known for that; and a trunk's
    native VLAN."""
    table, crossing = guards.base(), replace(data, into=into, out=out)
    lost = {each for each in lost if each.set not in (guards.FORBIDDEN6, guards.FORBIDDEN_TARGETS6, guards.NATIVES)}
    if dropped(table, ALL, crossing) is not None:
        assert dropped(table, ALL - lost, crossing) is not None


def apply(present: frozenset[Element], change: Change) -> frozenset[Element]:
    return (present - set(change.delete)) | set(change.add)


SOME_PORTS = st.builds(
    GuardedPort,
    st.sampled_from(["hp1", "hp2"]),
    st.just(MacAddress("02:00:00:00:00:01")),
    st.booleans(),
    st.booleans(),
    learning=st.frozensets(st.sampled_from([4, 6])),
    dhcp_server=st.booleans(),
    router=st.booleans(),
    native=st.just(10),
)


@given(st.lists(st.tuples(SOME_PORTS, st.sampled_from(["admit", "open", "mute", "remove"])), max_size=12))
def test_verbs_in_any_order(steps: list[tuple[GuardedPort, str]]) -> None:
    """A port is what its last admission made it, mute unless opened since, and leaves nothing when it is removed."""
    present: frozenset[Element] = frozenset()
    admitted: dict[str, GuardedPort] = {}
    speaking: set[str] = set()
    for port, verb in steps:
        if verb == "admit":
            change = guards.admit(port)
            admitted[port.name] = port
            speaking.discard(port.name)
        elif verb == "open":
            change = guards.open_port(port.name)
            speaking.add(port.name)
        elif verb == "mute":
            change = guards.mute(port.name)
            speaking.discard(port.name)
        else:
            change = guards.remove(port)
            admitted.pop(port.name, None)
            speaking.discard(port.name)
        present = apply(present, change)
        assert apply(present, change) == present
        guarded = frozenset(element for each in admitted.values() for element in guards.guards_of(each))
        assert present == guarded | {element(guards.SPEAKING, name) for name in speaking}


@given(st.sets(st.sampled_from(sorted(ALL, key=str))), st.sets(st.sampled_from(sorted(ALL, key=str))))
def test_a_difference_changes_what_differs_and_no_more(wanted: set[Element], present: set[Element]) -> None:
    change = guards.difference(wanted, present)
    assert apply(frozenset(present), change) == wanted
    assert not set(change.add) & present and not set(change.delete) & wanted


def test_an_element_is_read_as_it_is_listed() -> None:
    for each in chain(ALL, guards.guards_of(replace(BOUND, zone=7, vlan_zones=((200, 9),), node=True), tracking=True)):
        text = " . ".join(
            hex(part) if each.set == guards.TARGETS6 and type(part) is int else str(part) for part in each.key
        )
        assert read_element(SETS, each.set, text, each.value) == each


def test_every_change_can_be_rendered() -> None:
    for port in PORTS:
        for change in (
            guards.admit(port, tracking=True),
            guards.open_port(port.name),
            guards.remove(port, tracking=True),
        ):
            assert render(change)


def test_changes_add_up() -> None:
    both = guards.admit(ACCESS) + guards.admit(TRUNK)
    assert set(both.add) == set(guards.admit(ACCESS).add) | set(guards.admit(TRUNK).add)
    with pytest.raises(ValueError, match="two transactions"):
        _ = both + replace(both, table="other")
