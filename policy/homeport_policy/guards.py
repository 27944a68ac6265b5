"""The base table: what ports may never send, and which ports are mute. It holds with no policy loaded, and fails
closed.

    set         a link is in it when                      a link that is missing from it
    uplinks     it is an uplink                           is judged as a port
    ports       it is a guest's port                      is dropped (switch), or not ours (a bridge of the node)
    speaking    it is an uplink, or an open port          is mute, both ways
    trunks      its guest sends VLAN tags                 may send none
    lax         its Network has antiSpoof off             may send IPv4, IPv6, ARP and its own RARP only
    macs        with the MAC of its Interface             may send no RARP

So the loss of an element never opens anything. On a bridge of the node, only frames from and to our ports are judged,
and frames for the bridge itself pass: the node may speak to its guests there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from homeport_api.addresses import MacAddress
from homeport_policy.ruleset import (
    Chain,
    Change,
    Element,
    EtherType,
    Hook,
    InSet,
    Key,
    LinkLocalDestination,
    OuterTag,
    Protocol,
    Rule,
    Ruleset,
    Set,
    Verdict,
)

TABLE = "homeport"
UPLINKS, PORTS, SPEAKING, TRUNKS, LAX, MACS = "uplinks", "ports", "speaking", "trunks", "lax", "macs"

# Before -200, where bridge conntrack looks up, and before a frame's source is learned.
_PREROUTING = -300
_FILTER = -200

_TAGS = frozenset((EtherType.VLAN, EtherType.SERVICE_VLAN))
_CARRIED = frozenset((EtherType.IPV4, EtherType.IPV6, EtherType.ARP, EtherType.RARP))


class Placement(Enum):
    """Where the ports are: on bridges of our own, in a namespace of our own, or on bridges of the node, among
    others'."""

    SWITCH = "switch"
    NODE_BRIDGE = "node bridge"


@dataclass(frozen=True, slots=True)
class GuardedPort:
    """A port as its guards see it. `trunk`: it may send one VLAN tag."""

    name: str
    mac: MacAddress
    trunk: bool = False
    anti_spoof: bool = True


def base(placement: Placement = Placement.SWITCH, table: str = TABLE) -> Ruleset:
    """The table with its chains and empty sets. Applied again it puts back rules that somebody took, and nothing
    else."""
    sets = (
        Set(UPLINKS, Key.IN_LINK),
        Set(PORTS, Key.IN_LINK),
        Set(SPEAKING, Key.IN_LINK),
        Set(TRUNKS, Key.IN_LINK),
        Set(LAX, Key.IN_LINK),
        Set(MACS, Key.IN_LINK_AND_SOURCE),
    )
    mute_in, mute_out = _mute(placement, Key.IN_LINK), _mute(placement, Key.OUT_LINK)
    if placement is Placement.SWITCH:
        judged: tuple[Rule, ...] = (
            Rule((_is_in(UPLINKS),), Verdict.ACCEPT),
            Rule((_is_in(PORTS, False),), Verdict.DROP, "unknown"),
        )
        to_bridge = Rule((), Verdict.DROP, "to_bridge")
    else:
        judged = (Rule((_is_in(PORTS, False),), Verdict.ACCEPT),)
        to_bridge = mute_in
    chains = (
        Chain("prerouting", Hook.PREROUTING, _PREROUTING, (mute_in, *judged, *_guards())),
        Chain("input", Hook.INPUT, _FILTER, (to_bridge,)),
        Chain("forward", Hook.FORWARD, _FILTER, (mute_in, mute_out)),
        Chain("output", Hook.OUTPUT, _FILTER, (mute_out,)),
    )
    counters = sorted({rule.counter for chain in chains for rule in chain.rules if rule.counter is not None})
    return Ruleset(table, tuple(counters), sets, chains)


def admit(port: GuardedPort, table: str = TABLE) -> Change:
    """Puts the port's guards in place, and mutes it. A port whose guards were other ones gets these."""
    present = guards_of(port)
    absent = tuple(Element(name, port.name) for name in (TRUNKS, LAX, SPEAKING, UPLINKS))
    return Change(table, present, tuple(each for each in absent if each not in present))


def open_port(name: str, table: str = TABLE) -> Change:
    """Lets a port speak, which must have been admitted: else it stays dropped."""
    return Change(table, add=(Element(SPEAKING, name),))


def mute(name: str, table: str = TABLE) -> Change:
    """Silences a port both ways; its guards stay."""
    return Change(table, delete=(Element(SPEAKING, name),))


def remove(port: GuardedPort, table: str = TABLE) -> Change:
    """Takes away everything that names the port, which is mute from then on."""
    names = tuple(Element(name, port.name) for name in (SPEAKING, PORTS, TRUNKS, LAX))
    return Change(table, delete=(*names, Element(MACS, port.name, port.mac)))


def admit_uplink(name: str, table: str = TABLE) -> Change:
    """Lets an uplink's frames pass to the ports. Only in the switch: a bridge of the node has its own way out."""
    return Change(table, add=(Element(UPLINKS, name), Element(SPEAKING, name)))


def remove_uplink(name: str, table: str = TABLE) -> Change:
    return Change(table, delete=(Element(UPLINKS, name), Element(SPEAKING, name)))


def guards_of(port: GuardedPort) -> tuple[Element, ...]:
    """The elements of an admitted port, whether open or mute."""
    elements = [Element(PORTS, port.name), Element(MACS, port.name, port.mac)]
    if port.trunk:
        elements.append(Element(TRUNKS, port.name))
    if not port.anti_spoof:
        elements.append(Element(LAX, port.name))
    return tuple(elements)


def desired(uplinks: Iterable[str], ports: Iterable[tuple[GuardedPort, bool]]) -> frozenset[Element]:
    """All elements for these uplinks and ports (with True: open)."""
    elements: set[Element] = set()
    for uplink in uplinks:
        elements.update(admit_uplink(uplink).add)
    for port, is_open in ports:
        elements.update(guards_of(port))
        if is_open:
            elements.add(Element(SPEAKING, port.name))
    return frozenset(elements)


def difference(wanted: Iterable[Element], present: Iterable[Element], table: str = TABLE) -> Change:
    """What makes `present` into `wanted`: nothing more, so that an unchanged port sees no change."""
    wanted, present = frozenset(wanted), frozenset(present)
    return Change(table, tuple(sorted(wanted - present, key=_order)), tuple(sorted(present - wanted, key=_order)))


def read_element(set_name: str, key: str) -> Element:
    """An element as the kernel lists it: `hp0123` or `hp0123 . 02:00:00:00:00:01`."""
    link, separator, mac = key.partition(" . ")
    return Element(set_name, link, mac if separator else None)


def _guards() -> tuple[Rule, ...]:
    """What a port that speaks may not send. A tag that the kernel has split off is the outer one; one that is left in
    the frame is an inner one."""
    tag_is = OuterTag(_TAGS)
    return (
        Rule((LinkLocalDestination(),), Verdict.DROP, "link_local"),
        Rule((Protocol(_TAGS),), Verdict.DROP, "tagged"),
        Rule((_is_in(TRUNKS, False), tag_is), Verdict.DROP, "tagged"),
        Rule((OuterTag(frozenset((EtherType.SERVICE_VLAN,))),), Verdict.DROP, "tagged"),
        Rule((_is_in(LAX),), Verdict.ACCEPT),
        Rule((Protocol(_CARRIED, one_of=False),), Verdict.DROP, "ethertype"),
        Rule(
            (Protocol(frozenset((EtherType.RARP,))), InSet(Key.IN_LINK_AND_SOURCE, MACS, member=False)),
            Verdict.DROP,
            "rarp",
        ),
    )


def _mute(placement: Placement, key: Key) -> Rule:
    ours = () if placement is Placement.SWITCH else (InSet(key, PORTS),)
    return Rule((*ours, InSet(key, SPEAKING, member=False)), Verdict.DROP, "muted")


def _is_in(name: str, member: bool = True) -> InSet:
    return InSet(Key.IN_LINK, name, member)


def _order(element: Element) -> tuple[str, str, str]:
    return element.set, element.link, element.mac or ""
