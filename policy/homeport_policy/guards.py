"""The base table: what ports may never send, which ports are mute, and what policies hang from. It holds with no policy
loaded, and fails closed.

    set           a link is in it when                      a link that is missing from it
    uplinks       it is an uplink                           is judged as a port
    ports         it is a guest's port                      is dropped (switch), or not ours (a bridge of the node)
    speaking      it is an uplink, or an open port          is mute, both ways
    trunks        its guest sends VLAN tags                 may send none
    lax           its Network has antiSpoof off             may send IPv4, IPv6, ARP and its own RARP only
    macs          with the MAC of its Interface             may send nothing, and no ARP in another's name
    sources4, 6   with an address of its own                may not send from it
    targets6      with an IPv6 address of its own           may not answer for it
    learning4, 6  its guest takes its addresses of that     takes none by itself, but link-local ones
                  family by itself
    dhcp_servers  its guest may answer DHCP                 may not
    routers       its guest may advertise routes            may not

So the loss of an element never opens anything. The other way round are `forbidden…`, addresses of others, and
`natives`, the VLAN that a trunk's guest sends without a tag: with its tag frames would be in the same VLAN, and nothing
is known of the addresses of what has a tag.

On a bridge of the node, only frames from and to our ports are judged, and frames for the bridge itself pass: the node
may speak to its guests there.

Who takes an address by itself asks first whether anybody has it, which always passes, or just uses it, which is dropped
like every use of what is not its own. The agent is told of both (`claim`), as often as `CLAIMS_A_SECOND` of a port, and
if nobody has the address it is the guest's own from then on: first come, first bound. The kernel notes when each was
last used (`used4`, `used6`), so that the one that may go is known when there are too many.

What is dropped before forwarding is not learned: the source of a dropped frame never gets into the bridge's table.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from homeport_api.addresses import AddressRange, IpAddress, MacAddress
from homeport_policy import forward
from homeport_policy.chains import DENIALS
from homeport_policy.forward import DHCP_SERVERS, ROUTERS
from homeport_policy.ruleset import (
    ArpProbe,
    Chain,
    Change,
    Element,
    EtherType,
    FragmentOf,
    Goto,
    Hook,
    Icmp6Type,
    InSet,
    Jump,
    Key,
    Leads,
    LinkLocalDestination,
    Log,
    Map,
    NdTargetLinkLocal,
    OuterTag,
    OverRate,
    PriorityTag,
    Protocol,
    Rule,
    Ruleset,
    Set,
    SetZone,
    Side,
    Touch,
    Verdict,
    Within,
    element,
)

TABLE = "homeport"
PORTS = forward.PORTS
UPLINKS, SPEAKING, TRUNKS, NATIVES, LAX, MACS = "uplinks", "speaking", "trunks", "natives", "lax", "macs"
SOURCES4, SOURCES6, TARGETS6 = "sources4", "sources6", "targets6"
LEARNING4, LEARNING6 = "learning4", "learning6"
USED4, USED6, CLAIMS, CLAIM = "used4", "used6", "claims", "claim"
FOREIGN_ARP, FOREIGN_IPV4, FOREIGN_IPV6, FOREIGN_ND = "foreign_arp", "foreign_ipv4", "foreign_ipv6", "foreign_nd"
FORBIDDEN6, FORBIDDEN_TARGETS6 = "forbidden6", "forbidden_targets6"
PORT_ZONES, VLAN_ZONES, GUEST_ZONES, BRIDGES = "port_zones", "vlan_zones", "guest_zones", "bridges"

CLAIMS_A_SECOND, CLAIMS_AT_ONCE = 4, 32
"""Claims of one port that the agent is told of. What is over that is lost: a guest uses what it has claimed again."""
CLAIMS_OF_ALL = 1000
"""Claims of all ports a second: more than a node's guests send when all of them start."""
USED_FOR = "7d"
"""How long the kernel remembers that an address was used."""
_CLAIM_GROUP, _FIRST_GROUP, _GROUPS = 4101, 4200, 60000

# Before -200, where bridge conntrack looks up, and before a frame's source is learned.
_PREROUTING = -300
_FILTER = -200

_TAGS = frozenset((EtherType.VLAN, EtherType.SERVICE_VLAN))
_VLAN = OuterTag(frozenset({EtherType.VLAN}))
_CARRIED = frozenset((EtherType.IPV4, EtherType.IPV6, EtherType.ARP, EtherType.RARP))
_IPV4, _IPV6 = Protocol(frozenset({EtherType.IPV4})), Protocol(frozenset({EtherType.IPV6}))
_ARP, _RARP = Protocol(frozenset({EtherType.ARP})), Protocol(frozenset({EtherType.RARP}))
_LINK_LOCAL = AddressRange(IPv6Address("fe80::"), IPv6Address("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
_FROM_LINK_LOCAL = Within(Side.SOURCE, (_LINK_LOCAL,))
_NOWHERE = AddressRange(IPv6Address(0), IPv6Address(0))
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ICMP6 = frozenset({58})
# Hop-by-hop and destination options, routing, and another fragment header (RFC 8200, section 4).
_EXTENSIONS = frozenset({0, 43, 44, 60})

UNSPECIFIED: tuple[IpAddress, IpAddress] = (IPv4Address(0), IPv6Address(0))
"""What a host that has no address yet sends from (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2): always its own."""


class Placement(Enum):
    """Where the ports are: on bridges of our own, in a namespace of our own, or on bridges of the node, among
    others'."""

    SWITCH = "switch"
    NODE_BRIDGE = "node bridge"


@dataclass(frozen=True, slots=True)
class GuardedPort:
    """A port as its guards see it. `trunk`: it may send one VLAN tag, but not that of `native`, which is where it is
    without one. `addresses` are those it may send from; of a family in `learning`, and link-local, it may take further
    ones. `forbidden` are link-local addresses of others, such as the gateway's.
    `zone`: the connection tracking zone of what it sends without a tag; `vlan_zones`: with one. `among_others`: on a
    bridge of the node, where what comes for it is known by its MAC. `mark`: the number of the connections that it
    begins; 0: one made of its name."""

    name: str
    mac: MacAddress
    trunk: bool = False
    anti_spoof: bool = True
    addresses: frozenset[IpAddress] = frozenset()
    learning: frozenset[int] = frozenset({4, 6})
    forbidden: frozenset[IPv6Address] = frozenset()
    dhcp_server: bool = False
    router: bool = False
    node: bool = False
    zone: int | None = None
    vlan_zones: tuple[tuple[int, int], ...] = ()
    among_others: bool = False
    mark: int = 0
    native: int | None = None


def base(
    placement: Placement = Placement.SWITCH,
    table: str = TABLE,
    *,
    tracking: bool = False,
    room: int | None = forward.ROOM,
) -> Ruleset:
    """The table with its chains and empty sets. Applied again it puts back rules that somebody took, and nothing else.
    `tracking`: the kernel tracks bridged connections, without which no policy can be enforced. `room`: how many it
    tracks at most; None where it cannot count those of one port."""
    sets: tuple[Set | Map, ...] = (
        Set(UPLINKS, Key.IN_LINK),
        Set(PORTS, Key.IN_LINK),
        Set(SPEAKING, Key.IN_LINK),
        Set(TRUNKS, Key.IN_LINK),
        Set(NATIVES, Key.IN_LINK_AND_VLAN),
        Set(LAX, Key.IN_LINK),
        Set(LEARNING4, Key.IN_LINK),
        Set(LEARNING6, Key.IN_LINK),
        Set(MACS, Key.IN_LINK_AND_SOURCE),
        Set(SOURCES4, Key.IN_LINK_AND_SOURCE4),
        Set(SOURCES6, Key.IN_LINK_AND_SOURCE6),
        Set(FORBIDDEN6, Key.IN_LINK_AND_SOURCE6),
        Set(TARGETS6, Key.IN_LINK_AND_ND_TARGET),
        Set(FORBIDDEN_TARGETS6, Key.IN_LINK_AND_ND_TARGET),
        Set(USED4, Key.IN_LINK_AND_SOURCE4, meter=True, kept=USED_FOR),
        Set(USED6, Key.IN_LINK_AND_SOURCE6, meter=True, kept=USED_FOR),
        Set(CLAIMS, Key.IN_LINK, meter=True),
        *forward.SETS,
    )
    mute_in, mute_out = _mute(placement, Key.IN_LINK), _mute(placement, Key.OUT_LINK)
    if placement is Placement.SWITCH:
        judged: tuple[Rule, ...] = (
            Rule((_is_in(UPLINKS),), Verdict.ACCEPT),
            Rule((_is_in(PORTS, False),), Verdict.DROP, "unknown"),
        )
        to_bridge = Rule((), Verdict.DROP, "to_bridge")
        ours: tuple[Rule, ...] = ()
    else:
        judged = (Rule((_is_in(PORTS, False),), Verdict.ACCEPT),)
        to_bridge = mute_in
        ours = (Rule((_is_in(PORTS, False), InSet(Key.OUT_LINK, PORTS, False)), Verdict.ACCEPT),)
    zones: tuple[Rule, ...] = ()
    policies: tuple[Rule, ...] = ()
    more: tuple[Chain, ...] = ()
    if tracking:
        zones, zone_maps = _zones(placement)
        sets += (*zone_maps, *forward.POLICY_SETS, *(forward.COUNT_SETS if room is not None else ()))
        policies, more = forward.policy_rules(room), forward.policy_chains()
    chains = (
        *more,
        *_foreign(claims_group(placement, table)),
        Chain("prerouting", Hook.PREROUTING, _PREROUTING, (mute_in, *zones, *judged, *_guards())),
        Chain("input", Hook.INPUT, _FILTER, (to_bridge,)),
        Chain("forward", Hook.FORWARD, _FILTER, (mute_in, mute_out, *ours, *forward.guard_rules(), *policies)),
        Chain("output", Hook.OUTPUT, _FILTER, (mute_out,)),
    )
    counters = sorted({rule.counter for chain in chains for rule in chain.rules if rule.counter is not None})
    return Ruleset(table, tuple(counters), sets, chains, (DENIALS,) if tracking else ())


def claims_group(placement: Placement, table: str = TABLE) -> int:
    """The log group of claims (nfnetlink_log). Each has one reader in a namespace: in the node's own there may be other
    agents, each with a table of another name."""
    if placement is Placement.SWITCH:
        return _CLAIM_GROUP
    return _FIRST_GROUP + int.from_bytes(hashlib.sha256(table.encode()).digest()[:4], "big") % _GROUPS


def admit(port: GuardedPort, table: str = TABLE, *, tracking: bool = False) -> Change:
    """Puts the port's guards in place, and mutes it. A port whose guards were other ones gets these; addresses and
    zones that it had before and that are not its own any more are the reconciler's to take out."""
    present = guards_of(port, tracking=tracking)
    absent = tuple(
        element(name, port.name)
        for name in (TRUNKS, LAX, SPEAKING, UPLINKS, LEARNING4, LEARNING6, DHCP_SERVERS, ROUTERS)
    )
    return Change(table, present, tuple(each for each in absent if each not in present))


def open_port(name: str, table: str = TABLE) -> Change:
    """Lets a port speak, which must have been admitted: else it stays dropped."""
    return Change(table, add=(element(SPEAKING, name),))


def mute(name: str, table: str = TABLE) -> Change:
    """Silences a port both ways; its guards stay."""
    return Change(table, delete=(element(SPEAKING, name),))


def remove(port: GuardedPort, table: str = TABLE, *, tracking: bool = False) -> Change:
    """Takes away everything that names the port, which is mute from then on."""
    links = (SPEAKING, PORTS, TRUNKS, LAX, LEARNING4, LEARNING6, DHCP_SERVERS, ROUTERS)
    known = guards_of(port, tracking=tracking)
    others = [each for each in known if each.set not in links]
    others += [
        element(USED4 if each.version == 4 else USED6, port.name, each) for each in {*port.addresses, *UNSPECIFIED}
    ]
    return Change(table, delete=(*(element(name, port.name) for name in links), *others))


def admit_uplink(
    name: str, zones: Iterable[tuple[int, int]] = (), untagged: int | None = None, table: str = TABLE
) -> Change:
    """Lets an uplink's frames pass to the ports. Only in the switch: a bridge of the node has its own way out. `zones`
    are the connection tracking zones by VLAN ID, `untagged` that of frames without a tag."""
    found = [element(UPLINKS, name), element(SPEAKING, name)]
    found += [Element(VLAN_ZONES, (name, vlan), zone) for vlan, zone in zones]
    if untagged is not None:
        found.append(Element(PORT_ZONES, (name,), untagged))
    return Change(table, add=tuple(found))


def admit_bridge(mac: MacAddress, table: str = TABLE) -> Change:
    """On a bridge of the node: what is for the bridge itself stays in the node's own connection tracking."""
    return Change(table, add=(element(BRIDGES, mac),))


def remove_uplink(name: str, table: str = TABLE) -> Change:
    return Change(table, delete=(element(UPLINKS, name), element(SPEAKING, name)))


def guards_of(port: GuardedPort, *, tracking: bool = False) -> tuple[Element, ...]:
    """The elements of an admitted port, whether open or mute."""
    return tuple(_guards_of(port, tracking))


def desired(
    uplinks: Iterable[str], ports: Iterable[tuple[GuardedPort, bool]], *, tracking: bool = False
) -> frozenset[Element]:
    """All elements for these uplinks and ports (with True: open)."""
    elements: set[Element] = set()
    for uplink in uplinks:
        elements.update(admit_uplink(uplink).add)
    for port, is_open in ports:
        elements.update(_guards_of(port, tracking))
        if is_open:
            elements.add(element(SPEAKING, port.name))
    return frozenset(elements)


OF_PORTS = (
    *(UPLINKS, PORTS, SPEAKING, TRUNKS, LAX, MACS, LEARNING4, LEARNING6, SOURCES4, SOURCES6, TARGETS6),
    *(FORBIDDEN6, FORBIDDEN_TARGETS6, DHCP_SERVERS, ROUTERS, PORT_ZONES, VLAN_ZONES, GUEST_ZONES, forward.NODES),
    *(NATIVES, forward.MARKS, forward.BEGUN_BY, forward.SENT_BY),
)
"""The sets and maps whose elements are made here; those of the others are the program's, or the kernel's own."""


def mark_of(text: str) -> int:
    """A number for connections, the same for the same text; not 0, which is nobody's."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") | 1


def difference(wanted: Iterable[Element], present: Iterable[Element], table: str = TABLE) -> Change:
    """What makes `present` into `wanted`: nothing more, so that an unchanged port sees no change."""
    wanted, present = frozenset(wanted), frozenset(present)
    return Change(
        table,
        tuple(sorted(wanted - present, key=Element.order)),
        tuple(sorted(present - wanted, key=Element.order)),
    )


def _guards_of(port: GuardedPort, tracking: bool) -> Iterator[Element]:
    name = port.name
    yield element(PORTS, name)
    yield element(MACS, name, port.mac)
    flags = {
        TRUNKS: port.trunk,
        LAX: not port.anti_spoof,
        LEARNING4: 4 in port.learning,
        LEARNING6: 6 in port.learning,
        DHCP_SERVERS: port.dhcp_server,
        ROUTERS: port.router,
    }
    yield from (element(flag, name) for flag, is_set in flags.items() if is_set)
    if port.native is not None:
        yield element(NATIVES, name, port.native)
    for address in sorted({*port.addresses, *UNSPECIFIED}, key=lambda each: (each.version, int(each))):
        if isinstance(address, IPv4Address):
            yield element(SOURCES4, name, address)
        else:
            yield element(SOURCES6, name, address)
            yield element(TARGETS6, name, int(address))
    for address in sorted(port.forbidden):
        yield element(FORBIDDEN6, name, address)
        yield element(FORBIDDEN_TARGETS6, name, int(address))
    if tracking:
        if port.zone is not None:
            yield Element(PORT_ZONES, (name,), port.zone)
        if port.zone is not None and port.among_others:
            yield Element(GUEST_ZONES, (port.mac,), port.zone)
        yield from (Element(VLAN_ZONES, (name, vlan), zone) for vlan, zone in port.vlan_zones)
        if port.node:
            yield element(forward.NODES, name)
        mark = port.mark or mark_of(name)
        yield Element(forward.MARKS, (name,), mark)
        yield element(forward.BEGUN_BY, mark, name)
        yield element(forward.SENT_BY, mark, name)


def _zones(placement: Placement) -> tuple[tuple[Rule, ...], tuple[Set | Map, ...]]:
    """The connection tracking zone of each L2 domain, so that two VLANs with the same addresses keep apart: by port and
    VLAN ID, or without a tag by port. A VLAN that has none is in no domain, and not in the native one's. On a bridge of
    the node only for our ports: what comes from the bridge's other ports is known by the guest that it goes to, and the
    node's own connections are left alone."""
    by_vlan = Map(VLAN_ZONES, Key.IN_LINK_AND_VLAN, Leads.ZONE)
    by_port = Map(PORT_ZONES, Key.IN_LINK, Leads.ZONE)
    untagged = OuterTag(_VLAN.types, one_of=False)
    rules = (
        Rule((_VLAN,), SetZone(by_vlan.key, by_vlan.name)),
        Rule((untagged,), SetZone(by_port.key, by_port.name)),
    )
    if placement is Placement.SWITCH:
        return rules, (by_vlan, by_port)
    by_guest = Map(GUEST_ZONES, Key.DESTINATION, Leads.ZONE)
    not_for_bridge = InSet(Key.DESTINATION, BRIDGES, member=False)
    there = (*rules, Rule((), SetZone(by_guest.key, by_guest.name)))
    return (
        tuple(Rule((not_for_bridge, *rule.matches), rule.action) for rule in there),
        (Set(BRIDGES, Key.DESTINATION), by_vlan, by_port, by_guest),
    )


def _guards() -> tuple[Rule, ...]:
    """What a port that speaks may not send. A tag that the kernel has split off is the outer one; one that is left in
    the frame is an inner one."""
    solicits = (_IPV6, Icmp6Type(frozenset({_SOLICITATION})), Within(Side.SOURCE, (_NOWHERE,)))
    advertises = (_IPV6, Icmp6Type(frozenset({_ADVERTISEMENT})))
    forbidden_target = InSet(Key.IN_LINK_AND_ND_TARGET, FORBIDDEN_TARGETS6)
    foreign_target = InSet(Key.IN_LINK_AND_ND_TARGET, TARGETS6, member=False)
    return (
        Rule((LinkLocalDestination(),), Verdict.DROP, "link_local"),
        Rule((Protocol(_TAGS),), Verdict.DROP, "tagged"),
        Rule((_is_in(TRUNKS, False), OuterTag(_TAGS)), Verdict.DROP, "tagged"),
        Rule((OuterTag(frozenset((EtherType.SERVICE_VLAN,))),), Verdict.DROP, "tagged"),
        # The bridge takes both for frames without a tag: what is said below of tagged ones would be said of these.
        Rule((_VLAN, PriorityTag()), Verdict.DROP, "tagged"),
        Rule((_VLAN, InSet(Key.IN_LINK_AND_VLAN, NATIVES)), Verdict.DROP, "tagged"),
        Rule((_is_in(LAX),), Verdict.ACCEPT),
        Rule((Protocol(_CARRIED, one_of=False),), Verdict.DROP, "ethertype"),
        Rule((InSet(Key.IN_LINK_AND_SOURCE, MACS, member=False),), Verdict.DROP, "foreign_mac"),
        Rule((_RARP,), Verdict.ACCEPT),
        *_hidden(),
        Rule((_ARP, InSet(Key.IN_LINK_AND_ARP_MAC, MACS, member=False)), Verdict.DROP, FOREIGN_ARP),
        # A trunk's addresses are those of its native VLAN; in the others only its MAC is known.
        Rule((OuterTag(_TAGS),), Verdict.ACCEPT),
        Rule((_ARP, _is_in(LEARNING4), ArpProbe()), Jump(CLAIM)),
        Rule((_ARP, InSet(Key.IN_LINK_AND_ARP4, SOURCES4, member=False)), Goto(FOREIGN_ARP)),
        Rule((_IPV4, InSet(Key.IN_LINK_AND_SOURCE4, SOURCES4, member=False)), Goto(FOREIGN_IPV4)),
        Rule((_IPV6, InSet(Key.IN_LINK_AND_SOURCE6, FORBIDDEN6)), Verdict.DROP, FOREIGN_IPV6),
        # Whoever answers for an address has it; and so has, to those who listen, whoever asks if anybody has it.
        Rule((*solicits, forbidden_target), Verdict.DROP, FOREIGN_ND),
        Rule((*solicits, foreign_target), Goto(FOREIGN_ND)),
        Rule((*advertises, forbidden_target), Verdict.DROP, FOREIGN_ND),
        Rule((*advertises, foreign_target), Verdict.DROP, FOREIGN_ND),
        Rule((_IPV6, InSet(Key.IN_LINK_AND_SOURCE6, SOURCES6, member=False)), Goto(FOREIGN_IPV6)),
        Rule((_ARP, _is_in(LEARNING4)), Touch(Key.IN_LINK_AND_ARP4, USED4)),
        Rule((_IPV4, _is_in(LEARNING4)), Touch(Key.IN_LINK_AND_SOURCE4, USED4)),
        Rule((_IPV6, _is_in(LEARNING6)), Touch(Key.IN_LINK_AND_SOURCE6, USED6)),
        Rule((_IPV6, _is_in(LEARNING6, False), _FROM_LINK_LOCAL), Touch(Key.IN_LINK_AND_SOURCE6, USED6)),
    )


def _foreign(group: int) -> tuple[Chain, ...]:
    """Where a frame goes that uses, or asks for, what is not its sender's: a claim where he may take it by himself. An
    address that is only asked for passes then."""
    within = OverRate(Key.IN_LINK, CLAIMS, CLAIMS_A_SECOND, CLAIMS_AT_ONCE, over=False)
    told = Rule((within,), Verdict.CONTINUE, log=Log(CLAIM, group, CLAIMS_OF_ALL, 2 * CLAIMS_OF_ALL))
    takes4, takes6 = Rule((_is_in(LEARNING4),), Jump(CLAIM)), Rule((_is_in(LEARNING6),), Jump(CLAIM))
    takes_link_local = Rule((_IPV6, _is_in(LEARNING6, False), _FROM_LINK_LOCAL), Jump(CLAIM))
    asks = tuple(Rule((*which,), Goto(CLAIM)) for which in ((_is_in(LEARNING6),), (_IPV6, NdTargetLinkLocal())))
    return (
        Chain(CLAIM, None, 0, (told,)),
        Chain(FOREIGN_ARP, None, 0, (takes4, Rule((), Verdict.DROP, FOREIGN_ARP))),
        Chain(FOREIGN_IPV4, None, 0, (takes4, Rule((), Verdict.DROP, FOREIGN_IPV4))),
        Chain(FOREIGN_IPV6, None, 0, (takes6, takes_link_local, Rule((), Verdict.DROP, FOREIGN_IPV6))),
        Chain(FOREIGN_ND, None, 0, (*asks, Rule((), Verdict.DROP, FOREIGN_ND))),
    )


def _hidden() -> Iterator[Rule]:
    """Fragments that hide what they carry: neighbour discovery, of which the first fragment need not have the target,
    and what has further headers before it, so that it is in none of the first. Nobody who means well sends them
    (RFC 6980, RFC 7112)."""
    neighbours = Icmp6Type(frozenset(range(133, 138)))
    yield Rule((_IPV6, FragmentOf(_ICMP6), neighbours), Verdict.DROP, "fragment")
    yield Rule((_IPV6, FragmentOf(_EXTENSIONS)), Verdict.DROP, "fragment")


def _mute(placement: Placement, key: Key) -> Rule:
    ours = () if placement is Placement.SWITCH else (InSet(key, PORTS),)
    return Rule((*ours, InSet(key, SPEAKING, member=False)), Verdict.DROP, "muted")


def _is_in(name: str, member: bool = True) -> InSet:
    return InSet(Key.IN_LINK, name, member)
