"""A ruleset as a value: one table, its sets and maps, its chains and their rules. Pure, and known to no kernel.

    Ruleset ─┬─ counters, limits  by name
             ├─ sets, maps        of links, MACs, addresses, ports; elements are apart
             └─ chains ── Rule ── matches, all of which must hold, then counter, log and an action

Elements are apart from the ruleset because they change with every attach, and a base chain that is made anew drops the
packets on their way. `Change` adds and deletes elements. `render` makes nft text of both, `simulate` judges frames by
them in memory.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum

from homeport_api.addresses import AddressRange, IpAddress


class Hook(StrEnum):
    """Where bridged frames are seen. Input and output are frames for and from the bridge itself."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"


class Verdict(StrEnum):
    """`ACCEPT` ends the chain's hook, not the frame's way through the others. `CONTINUE` goes on with the next rule:
    what the rule is for is its counter, its log or its zone."""

    ACCEPT = "accept"
    DROP = "drop"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Jump:
    """Judged by that chain first; if it decides nothing, the next rule is asked."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Judged by that chain in place of the rest of this one."""

    chain: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Goes to the chain that the map has for the frame's key; with no element for it, the next rule is asked."""

    key: "Key"
    map: str


@dataclass(frozen=True, slots=True)
class SetZone:
    """Gives the frame the connection tracking zone that the map has for its key, unless it has one already; the next
    rule is asked in any case."""

    key: "Key"
    map: str


@dataclass(frozen=True, slots=True)
class SetMark:
    """Gives the connection the number that the map has for the frame's key, and the next rule is asked."""

    key: "Key"
    map: str


@dataclass(frozen=True, slots=True)
class Touch:
    """Notes in a set that the kernel fills that the frame's key was seen just now, and the next rule is asked."""

    key: "Key"
    set: str


Action = Verdict | Jump | Goto | Dispatch | SetZone | SetMark | Touch


class EtherType(IntEnum):
    """IEEE 802 numbers, "EtherType"."""

    IPV4 = 0x0800
    ARP = 0x0806
    RARP = 0x8035
    VLAN = 0x8100
    IPV6 = 0x86DD
    SERVICE_VLAN = 0x88A8


class L4(IntEnum):
    """IANA protocol numbers."""

    ICMP = 1
    IGMP = 2
    TCP = 6
    UDP = 17
    ICMP6 = 58
    SCTP = 132


class CtState(StrEnum):
    """As the kernel's connection tracking sees a packet (nft(8), `ct state`). One that it was told not to track, such
    as neighbour discovery, is untracked; one that it cannot make sense of is invalid."""

    NEW = "new"
    ESTABLISHED = "established"
    RELATED = "related"
    INVALID = "invalid"
    UNTRACKED = "untracked"


@dataclass(frozen=True, slots=True)
class Reading:
    """An expression that reads a key from a frame, the type of sets of such keys, and the ether type that the frame
    must have been found to carry before."""

    expression: str
    type: str
    carried: EtherType | None = None


class Key(Enum):
    """What of a frame is looked up in a set or map."""

    IN_LINK = Reading("iifname", "type ifname")
    OUT_LINK = Reading("oifname", "type ifname")
    IN_LINK_AND_SOURCE = Reading("iifname . ether saddr", "type ifname . ether_addr")
    IN_LINK_AND_VLAN = Reading("iifname . vlan id", "typeof iifname . vlan id")
    MARK_AND_IN_LINK = Reading("ct mark . iifname", "typeof ct mark . iifname")
    MARK_AND_OUT_LINK = Reading("ct mark . oifname", "typeof ct mark . oifname")
    # The last is a number that the kernel draws for each connection, and nobody can guess.
    IN_LINK_AND_CONNECTION = Reading("iifname . ct id", "typeof iifname . ct id")
    OUT_LINK_AND_CONNECTION = Reading("oifname . ct id", "typeof oifname . ct id")
    DESTINATION = Reading("ether daddr", "type ether_addr")
    IN_LINK_AND_SOURCE4 = Reading("iifname . ip saddr", "type ifname . ipv4_addr", EtherType.IPV4)
    IN_LINK_AND_SOURCE6 = Reading("iifname . ip6 saddr", "type ifname . ipv6_addr", EtherType.IPV6)
    IN_LINK_AND_ARP_MAC = Reading("iifname . arp saddr ether", "type ifname . ether_addr", EtherType.ARP)
    IN_LINK_AND_ARP4 = Reading("iifname . arp saddr ip", "type ifname . ipv4_addr", EtherType.ARP)
    # The target of a neighbour solicitation or advertisement, RFC 4861 §4.3 and §4.4: 8 bytes into the message.
    IN_LINK_AND_ND_TARGET = Reading("iifname . @th,64,128", "typeof iifname . @th,64,128", EtherType.IPV6)
    SOURCE4 = Reading("ip saddr", "type ipv4_addr", EtherType.IPV4)
    TARGET4 = Reading("ip daddr", "type ipv4_addr", EtherType.IPV4)
    SOURCE6 = Reading("ip6 saddr", "type ipv6_addr", EtherType.IPV6)
    TARGET6 = Reading("ip6 daddr", "type ipv6_addr", EtherType.IPV6)
    TARGET4_PORT = Reading(
        "ip daddr . meta l4proto . th dport", "type ipv4_addr . inet_proto . inet_service", EtherType.IPV4
    )
    TARGET6_PORT = Reading(
        "ip6 daddr . meta l4proto . th dport", "type ipv6_addr . inet_proto . inet_service", EtherType.IPV6
    )

    @property
    def expression(self) -> str:
        return self.value.expression

    @property
    def type(self) -> str:
        return self.value.type

    @property
    def carried(self) -> EtherType | None:
        return self.value.carried


class Side(StrEnum):
    """Whose address: the packet's source or its target."""

    SOURCE = "saddr"
    TARGET = "daddr"


@dataclass(frozen=True, slots=True)
class InSet:
    """The frame's key is an element of the set, or (`member` False) is not."""

    key: Key
    set: str
    member: bool = True


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the frame carries behind its outer VLAN tag. `one_of` holds when it is among these, else when it is not."""

    types: frozenset[EtherType]
    one_of: bool = True


@dataclass(frozen=True, slots=True)
class OuterTag:
    """The frame arrived with a VLAN tag of these types, or (`one_of` False) with none of them. Only before a VLAN-aware
    bridge tags frames itself."""

    types: frozenset[EtherType]
    one_of: bool = True


@dataclass(frozen=True, slots=True)
class PriorityTag:
    """The outer tag has VLAN ID 0: a priority, and no VLAN (IEEE 802.1Q, table 9-2). After an `OuterTag` that says that
    there is one."""


@dataclass(frozen=True, slots=True)
class LinkLocalDestination:
    """The destination is one of 01:80:c2:00:00:00 to 0f, which no bridge forwards (IEEE 802.1Q, table 8-1)."""


@dataclass(frozen=True, slots=True)
class Within:
    """The address lies in one of these ranges, which are of one family, in order and apart."""

    side: Side
    ranges: tuple[AddressRange, ...]


@dataclass(frozen=True, slots=True)
class Carries:
    """The packet's protocol, behind IPv6 extension headers, is one of these."""

    protocols: frozenset[L4]


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Destination ports `first` to `last` of one protocol, both included."""

    protocol: L4
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ToPort:
    """The packet goes to one of these ports."""

    ranges: tuple[PortRange, ...]


@dataclass(frozen=True, slots=True)
class UdpPorts:
    """A UDP datagram from one port to another; None: any."""

    source: int | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Icmp6Type:
    types: frozenset[int]


@dataclass(frozen=True, slots=True)
class FragmentOf:
    """An IPv6 packet with a fragment header, behind which the packet goes on with one of these headers."""

    headers: frozenset[int]


@dataclass(frozen=True, slots=True)
class NdTargetLinkLocal:
    """The target of a neighbour solicitation or advertisement is link-local, fe80::/10, or (`member` False) is not."""

    member: bool = True


@dataclass(frozen=True, slots=True)
class ArpProbe:
    """ARP whose sender has no address yet: it asks whether anybody has the target (RFC 5227 §1.1)."""


@dataclass(frozen=True, slots=True)
class State:
    """How connection tracking sees the packet."""

    states: frozenset[CtState]


@dataclass(frozen=True, slots=True)
class Reply:
    """The packet goes against the direction of the connection's first one, or (`against` False) with it."""

    against: bool = True


@dataclass(frozen=True, slots=True)
class First:
    """None of its connection has come through before. That is less than the state `new`, which all packets of a
    connection have until there is a reply: one way streams, for ever."""


@dataclass(frozen=True, slots=True)
class Unmarked:
    """The packet's connection has no number."""


@dataclass(frozen=True, slots=True)
class InZone:
    """The packet is tracked in this zone."""

    zone: int


@dataclass(frozen=True, slots=True)
class NoSyn:
    """A TCP segment that opens no connection: without SYN, or with ACK, RST or FIN beside it."""


@dataclass(frozen=True, slots=True)
class NoInit:
    """An SCTP packet that opens no association: without an INIT chunk, which is never beside others (RFC 9260
    §6.10)."""


@dataclass(frozen=True, slots=True)
class OverRate:
    """More frames of this key than `rate` a second with bursts of `burst` have come, or (`over` False) not more. `set`
    remembers; frames that do not match what stands before in the rule are not counted."""

    key: Key
    set: str
    rate: int
    burst: int
    over: bool = True


@dataclass(frozen=True, slots=True)
class OverCount:
    """The packet's connection would be one more than `count` that live, among those that share its key and, of its
    number, the part below `parts`, a power of two. `set` remembers them; what has closed counts no more.

    The kernel goes through all that share a key whenever one more comes, so a key alone would make that as dear as it
    has connections."""

    key: Key
    set: str
    parts: int
    count: int


Match = (
    InSet
    | Protocol
    | OuterTag
    | PriorityTag
    | LinkLocalDestination
    | Within
    | Carries
    | ToPort
    | UdpPorts
    | Icmp6Type
    | FragmentOf
    | NdTargetLinkLocal
    | ArpProbe
    | State
    | Reply
    | First
    | Unmarked
    | InZone
    | NoSyn
    | NoInit
    | OverRate
    | OverCount
)


@dataclass(frozen=True, slots=True)
class Log:
    """A copy of the packet's head for the agent, at most `rate` a second from this rule, and (`shared`) not more than a
    `Limit` of this name lets through of all rules that share it."""

    prefix: str
    group: int
    rate: int = 10
    burst: int = 20
    shared: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """All matches, in this order, then the counter, then the log, then the action. With a log the action must be
    CONTINUE, for a frame over the log's rate does not get to it."""

    matches: tuple[Match, ...]
    action: Action
    counter: str | None = None
    log: Log | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain if it has a hook: what no rule ends is accepted there. Without one it is reached by rules only."""

    name: str
    hook: Hook | None
    priority: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """A set whose elements come and go by `Change`. `meter`: the kernel fills it, from `OverRate` or `Touch`, and
    forgets a key that it has not seen for `kept`, a time as nft(8) writes it; or (`counting`) from `OverCount`, and
    forgets a key with its last connection."""

    name: str
    key: Key
    meter: bool = False
    kept: str = "1m"
    counting: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """So many packets a second of all rules together that name it."""

    name: str
    rate: int
    burst: int


class Leads(Enum):
    """What a map has for its keys: chains, or numbers of connection tracking. How a typed map of it is written."""

    CHAIN = "verdict"
    ZONE = "ct zone"
    MARK = "ct mark"


@dataclass(frozen=True, slots=True)
class Map:
    """A map whose elements come and go by `Change`."""

    name: str
    key: Key
    leads: Leads = Leads.CHAIN


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything of one table but elements. Applying it again resets rules, keeps sets with their elements, and
    counters."""

    table: str
    counters: tuple[str, ...]
    sets: tuple[Set | Map, ...]
    chains: tuple[Chain, ...]
    limits: tuple[Limit, ...] = ()


Part = str | IpAddress | int
"""One part of an element's key: a link's name or a MAC (which has colons, as no link's name can), an address, a VLAN
ID, a protocol's or port's number."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a set, or with a `value` of a map: the chain to go to, or a number."""

    set: str
    key: tuple[Part, ...]
    value: str | int | None = None

    @property
    def link(self) -> str:
        """The link that it is about, in sets whose key names one; else the key's first part."""
        return next((part for part in self.key if isinstance(part, str)), str(self.key[0]))

    def order(self) -> tuple[str, tuple[str, ...]]:
        """For a listing that is the same each time; addresses are in no particular order."""
        return self.set, tuple(map(str, self.key))


def element(name: str, *key: Part) -> Element:
    return Element(name, key)


@dataclass(frozen=True, slots=True)
class Change:
    """Elements to delete and to add, in one transaction. Repeating it changes nothing: an element that is there may be
    added and one that is not may be deleted. One that is to lead elsewhere is in both."""

    table: str
    add: tuple[Element, ...] = ()
    delete: tuple[Element, ...] = ()

    def __add__(self, other: "Change") -> "Change":
        """Both in one transaction; the second must not undo the first."""
        if other.table != self.table:
            raise ValueError(f"changes of two tables, {self.table} and {other.table}, are two transactions")
        return Change(self.table, self.add + other.add, self.delete + other.delete)
