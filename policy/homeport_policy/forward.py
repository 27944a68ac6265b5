"""The part of the base that policies hang from: what every packet between ports and uplinks is asked.

    forward   new, and one too many             ──► dropped
              new, from a port                  ──► the connection is that port's
              a reply, to who began it          ──► accept
              established, from who began it, and not being judged anew ──► accept
              from or to an isolated guest      ──► stateful: must be of a connection, and open it properly
              egress of the port it comes from  ──► out_…  ──► deliver
              nobody isolates its sender        ──► deliver
    deliver   from the node's own end           ──► accept
              ingress of the port it goes to    ──► in_…   ──► accept, or denied
              nobody isolates its receiver      ──► accept

Base chains and maps stay as they are; policies only add chains and change elements. The hook is at -200, where
br_netfilter does not skip it. Reference: nft(8); the kernel's nf_conntrack_bridge.
"""

from homeport_policy.chains import DELIVER, STATEFUL
from homeport_policy.program import EGRESS, INGRESS
from homeport_policy.ruleset import (
    L4,
    Carries,
    Chain,
    CtState,
    Dispatch,
    EtherType,
    First,
    Goto,
    Icmp6Type,
    InSet,
    Jump,
    Key,
    Leads,
    Map,
    Match,
    NoInit,
    NoSyn,
    OverCount,
    OverRate,
    Protocol,
    Reply,
    Rule,
    Set,
    SetMark,
    State,
    UdpPorts,
    Unmarked,
    Verdict,
)

PORTS = "ports"
JUDGED, ISOLATED, NODES = "judged", "isolated", "nodes"
MARKS, BEGUN_BY, SENT_BY = "marks", "begun_by", "sent_by"
DHCP_SERVERS, ROUTERS = "dhcp_servers", "routers"
NEW_FLOWS, FLOWS_FROM, FLOWS_TO = "new_flows", "flows_from", "flows_to"
FLOWS_A_SECOND, FLOWS_AT_ONCE = 1000, 4000
"""New connections of one port: it bounds how fast one guest can fill the table of connections, and how much the kernel
has to count for it."""
ROOM = 262_144
"""Connections that a kernel tracks at most (nf_conntrack_max), where nobody changed it, from 4 GiB of memory."""
SHARE_BEGUN, SHARE_RECEIVED = 8, 4
"""One port may have begun that part of them, and others outside that part with one port."""
PER_PART, FEWEST_PARTS = 32, 16
"""The kernel goes through as many for each one that is begun, which takes it some 20 µs, instead of through all."""

_IPV4, _IPV6 = Protocol(frozenset({EtherType.IPV4})), Protocol(frozenset({EtherType.IPV6}))
_NOT_IP = Protocol(frozenset({EtherType.IPV4, EtherType.IPV6}), one_of=False)
_FROM_PORT, _FROM_OUTSIDE = InSet(Key.IN_LINK, PORTS), InSet(Key.IN_LINK, PORTS, False)

_ROUTER_ADVERTISEMENT, _REDIRECT = 134, 137
CONTROL = frozenset({130, 131, 132, 133, 134, 135, 136, 137, 143})
"""Group membership (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861): not tracked, and never judged by policies,
as ARP is not."""

SETS = (Set(DHCP_SERVERS, Key.IN_LINK), Set(ROUTERS, Key.IN_LINK))
POLICY_SETS: tuple[Set | Map, ...] = (
    Set(JUDGED, Key.IN_LINK),
    Set(ISOLATED, Key.IN_LINK),
    Set(NODES, Key.IN_LINK),
    Set(NEW_FLOWS, Key.IN_LINK, meter=True),
    Map(MARKS, Key.IN_LINK, Leads.MARK),
    Set(BEGUN_BY, Key.MARK_AND_OUT_LINK),
    Set(SENT_BY, Key.MARK_AND_IN_LINK),
    Map(EGRESS, Key.IN_LINK),
    Map(INGRESS, Key.OUT_LINK),
)
COUNT_SETS = (
    Set(FLOWS_FROM, Key.IN_LINK_AND_CONNECTION, meter=True, counting=True),
    Set(FLOWS_TO, Key.OUT_LINK_AND_CONNECTION, meter=True, counting=True),
)


def guard_rules() -> tuple[Rule, ...]:
    """Guests that are no servers answer no DHCP, and those that are no routers advertise none (RFC 6105). Here rather
    than before, since by now fragments have been put together."""
    no_server = (_FROM_PORT, InSet(Key.IN_LINK, DHCP_SERVERS, member=False))
    no_router = (_FROM_PORT, InSet(Key.IN_LINK, ROUTERS, member=False))
    # A client takes an answer by the port that it goes to, wherever it comes from.
    answers = (
        *((_IPV4, each) for each in (UdpPorts(source=67), UdpPorts(target=68))),
        *((_IPV6, each) for each in (UdpPorts(source=547), UdpPorts(target=546))),
    )
    return (
        *(Rule((*answer, *no_server), Verdict.DROP, "dhcp_guard") for answer in answers),
        Rule(
            (_IPV6, Icmp6Type(frozenset({_ROUTER_ADVERTISEMENT, _REDIRECT})), *no_router),
            Verdict.DROP,
            "ra_guard",
        ),
    )


def limit_rules(room: int | None) -> tuple[Rule, ...]:
    """No port fills the table of connections, which holds `room`: neither its guest, nor others outside by way of it.
    None: this kernel cannot count them.

    From outside only what a handshake opens is counted: with the rest the kernel makes room by itself, for it drops
    connections that are not known to be wanted when it has no more."""
    first = (State(frozenset({CtState.NEW})), First())
    received = (_FROM_OUTSIDE, InSet(Key.OUT_LINK, PORTS), Carries(frozenset({L4.TCP, L4.SCTP})))
    rate = OverRate(Key.IN_LINK, NEW_FLOWS, FLOWS_A_SECOND, FLOWS_AT_ONCE)
    limits: list[tuple[str, tuple[Match, ...]]] = [(NEW_FLOWS, (_FROM_PORT, rate))]
    if room is not None:
        begun, taken = (_parts(room // share) for share in (SHARE_BEGUN, SHARE_RECEIVED))
        limits += [
            (FLOWS_FROM, (_FROM_PORT, OverCount(Key.IN_LINK_AND_CONNECTION, FLOWS_FROM, begun, PER_PART))),
            (FLOWS_TO, (*received, OverCount(Key.OUT_LINK_AND_CONNECTION, FLOWS_TO, taken, PER_PART))),
        ]
    return tuple(Rule((*first, *matches), Verdict.DROP, counter) for counter, matches in limits)


def _parts(connections: int) -> int:
    """Into how many parts they are divided: a power of two, and never more than they are."""
    return max(FEWEST_PARTS, 1 << (connections // PER_PART).bit_length() >> 1)


def policy_rules(room: int | None = ROOM) -> tuple[Rule, ...]:
    """The end of the forward chain, for a kernel that tracks bridged connections.

    A connection is known by its addresses, and a guest could send under another's, so that what it sends next would be
    the reply to that. So a connection also has the number of the port that began it, and 0 if none of ours did: a reply
    is one if it goes there, and what comes from there goes on."""
    fresh = State(frozenset({CtState.NEW}))
    known = State(frozenset({CtState.ESTABLISHED}))
    not_judged = (InSet(Key.IN_LINK, JUDGED, False), InSet(Key.OUT_LINK, JUDGED, False))
    return (
        Rule((_NOT_IP,), Verdict.ACCEPT),
        Rule((_IPV6, Icmp6Type(CONTROL)), Verdict.ACCEPT),
        Rule((_IPV4, Carries(frozenset({L4.IGMP}))), Verdict.ACCEPT),
        *limit_rules(room),
        Rule((fresh, _FROM_PORT), SetMark(Key.IN_LINK, MARKS)),
        Rule((known, Reply(), InSet(Key.MARK_AND_OUT_LINK, BEGUN_BY)), Verdict.ACCEPT),
        Rule((known, Reply(), InSet(Key.OUT_LINK, PORTS, False), Unmarked()), Verdict.ACCEPT),
        Rule((State(frozenset({CtState.RELATED})),), Verdict.ACCEPT),
        Rule((known, Reply(False), InSet(Key.MARK_AND_IN_LINK, SENT_BY), *not_judged), Verdict.ACCEPT),
        Rule((known, Reply(False), InSet(Key.IN_LINK, PORTS, False), Unmarked(), *not_judged), Verdict.ACCEPT),
        Rule((InSet(Key.IN_LINK, ISOLATED),), Jump(STATEFUL)),
        Rule((InSet(Key.OUT_LINK, ISOLATED),), Jump(STATEFUL)),
        Rule((), Dispatch(Key.IN_LINK, EGRESS)),
        Rule((), Goto(DELIVER)),
    )


def policy_chains() -> tuple[Chain, ...]:
    """What ports' chains lead on to, and what is asked of every packet from or to a guest that is isolated in either
    direction: it must be of a connection, and open it properly if it is the first. Else the middle of a connection that
    was ended would begin one the other way round, in which the denied direction is the reply. The kernel takes a
    HEARTBEAT of SCTP for a beginning too, which any end of an association sends by itself."""
    fresh = State(frozenset({CtState.NEW}))
    deliver = (
        Rule((InSet(Key.IN_LINK, NODES),), Verdict.ACCEPT),
        Rule((), Dispatch(Key.OUT_LINK, INGRESS)),
        Rule((), Verdict.ACCEPT),
    )
    stateful = (
        Rule((State(frozenset({CtState.INVALID, CtState.UNTRACKED})),), Verdict.DROP, "untracked"),
        Rule((fresh, Carries(frozenset({L4.TCP})), NoSyn()), Verdict.DROP, "no_syn"),
        Rule((fresh, Carries(frozenset({L4.SCTP})), NoInit()), Verdict.DROP, "no_init"),
    )
    return Chain(STATEFUL, None, 0, stateful), Chain(DELIVER, None, 0, deliver)
