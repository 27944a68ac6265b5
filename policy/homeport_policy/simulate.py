"""A packet judged by a ruleset in memory, as the kernel would by the same rules. Pure, and as plain as nft(8) says it.

This is how compiler and oracle are held together without a kernel, and how a trace judges by what is really loaded:
it is given the elements that the kernel has.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

from homeport_api.addresses import IpAddress
from homeport_policy.forward import ISOLATED
from homeport_policy.program import EGRESS, INGRESS, Program
from homeport_policy.ruleset import (
    L4,
    ArpProbe,
    Carries,
    Chain,
    CtState,
    Dispatch,
    Element,
    EtherType,
    First,
    FragmentOf,
    Goto,
    Icmp6Type,
    InSet,
    InZone,
    Jump,
    Key,
    LinkLocalDestination,
    Map,
    Match,
    NdTargetLinkLocal,
    NoInit,
    NoSyn,
    OuterTag,
    OverCount,
    OverRate,
    Part,
    PriorityTag,
    Protocol,
    Reply,
    Ruleset,
    Set,
    SetMark,
    SetZone,
    Side,
    State,
    ToPort,
    Touch,
    UdpPorts,
    Unmarked,
    Verdict,
    Within,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What rules look at. `carries` is the ether type behind the outer tag, `tag` the outer tag's own type.
    `fragment_of` is what stands behind the header of an IPv6 fragment, `nd_target` the target of a neighbour
    solicitation or advertisement, `opens` a TCP segment with SYN alone, or an SCTP packet with INIT. `first`: no packet
    of its connection has passed yet."""

    into: str
    out: str
    carries: int
    source: IpAddress | None = None
    target: IpAddress | None = None
    protocol: int | None = None
    source_port: int | None = None
    target_port: int | None = None
    icmp6_type: int | None = None
    fragment_of: int | None = None
    nd_target: IpAddress | None = None
    source_mac: str = ""
    target_mac: str = ""
    arp_mac: str = ""
    arp_ip: IpAddress | None = None
    tag: int | None = None
    vlan: int | None = None
    state: CtState = CtState.NEW
    reply: bool = False
    zone: int | None = None
    mark: int = 0
    opens: bool = True
    first: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """Chains by name, the keys that are in each set, and what each map has for its keys. `full` are the meters where
    every key is at its limit; one packet alone is over none."""

    chains: Mapping[str, Chain]
    sets: Mapping[str, frozenset[tuple[Part, ...]]]
    maps: Mapping[str, Mapping[tuple[Part, ...], str | int]]
    full: frozenset[str] = frozenset()


@dataclass(slots=True)
class Judged:
    """The verdict of one base chain, the counters that counted and the chains that were walked on the way, the zone and
    the connection's mark if they were given, the prefixes under which it was logged, and the keys that were noted."""

    verdict: Verdict = Verdict.ACCEPT
    counted: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)
    zone: int | None = None
    mark: int | None = None
    logged: list[str] = field(default_factory=list)
    touched: list[tuple[str, tuple[Part, ...]]] = field(default_factory=list)


class _End(Exception):
    """A verdict that ends the base chain."""


def judge(loaded: Loaded, chain: str, frame: Frame) -> Judged:
    """What the base chain decides about a frame; its policy is accept."""
    judged = Judged()
    with suppress(_End):
        _walk(loaded, chain, frame, judged)
    return judged


def _walk(loaded: Loaded, name: str, frame: Frame, judged: Judged) -> None:
    """Returns where no rule decided: to the rule after the jump, or the end."""
    judged.chains.append(name)
    for rule in loaded.chains[name].rules:
        if not all(_holds(match, loaded, frame) for match in rule.matches):
            continue
        if rule.counter is not None:
            judged.counted.append(rule.counter)
        if rule.log is not None:
            judged.logged.append(rule.log.prefix)
        match rule.action:
            case Verdict.CONTINUE:
                pass
            case Verdict.ACCEPT | Verdict.DROP as verdict:
                judged.verdict = verdict
                raise _End
            case Jump(chain):
                _walk(loaded, chain, frame, judged)
            case Goto(chain):
                return _walk(loaded, chain, frame, judged)
            case Dispatch(key, map_name):
                lead = _look_up(loaded, key, map_name, frame)
                if lead is not None:
                    return _walk(loaded, str(lead), frame, judged)
            case SetMark(key, map_name):
                mark = _look_up(loaded, key, map_name, frame)
                judged.mark = judged.mark if mark is None else int(mark)
            case Touch(key, name_of_set):
                parts = _read(key, frame)
                judged.touched += [] if parts is None else [(name_of_set, parts)]
            case SetZone(key, map_name):
                zone = _look_up(loaded, key, map_name, frame)
                if zone is not None and judged.zone is None:
                    judged.zone = int(zone)
            case _ as never:
                assert_never(never)
    return None


def _look_up(loaded: Loaded, key: Key, name: str, frame: Frame) -> str | int | None:
    parts = _read(key, frame)
    return None if parts is None else loaded.maps[name].get(parts)


def _holds(match: Match, loaded: Loaded, frame: Frame) -> bool:
    match match:
        case InSet(key, name, member):
            parts = _read(key, frame)
            # A frame that lacks what is to be read matches neither way: nft leaves the rule.
            return parts is not None and (parts in loaded.sets[name]) == member
        case Protocol(types, one_of):
            return (frame.carries in types) == one_of
        case OuterTag(types, one_of):
            return ((frame.tag or frame.carries) in types) == one_of
        case PriorityTag():
            return frame.vlan == 0
        case LinkLocalDestination():
            return frame.target_mac.startswith("01:80:c2:00:00:0")
        case Within(side, ranges):
            address = frame.source if side is Side.SOURCE else frame.target
            return address is not None and any(address in each for each in ranges)
        case Carries(protocols):
            return frame.protocol in protocols
        case ToPort(ranges):
            return any(
                frame.protocol == each.protocol
                and frame.target_port is not None
                and each.first <= frame.target_port <= each.last
                for each in ranges
            )
        case UdpPorts(source, target):
            return (
                frame.protocol == L4.UDP and source in (None, frame.source_port) and target in (None, frame.target_port)
            )
        case Icmp6Type(types):
            return frame.protocol == L4.ICMP6 and frame.icmp6_type in types
        case FragmentOf(headers):
            return frame.fragment_of in headers
        case NdTargetLinkLocal(member):
            return frame.nd_target is not None and frame.nd_target.is_link_local == member
        case ArpProbe():
            return frame.arp_ip is not None and int(frame.arp_ip) == 0
        case State(states):
            return frame.state in states
        case Reply(against):
            return frame.reply == against
        case First():
            return frame.first
        case Unmarked():
            return frame.mark == 0
        case InZone(zone):
            return frame.zone == zone
        case NoSyn():
            return frame.protocol == L4.TCP and not frame.opens
        case NoInit():
            return frame.protocol == L4.SCTP and not frame.opens
        case OverRate():
            return (match.set in loaded.full) == match.over
        case OverCount():
            return match.set in loaded.full
        case _ as never:
            assert_never(never)


def _read(key: Key, frame: Frame) -> tuple[Part, ...] | None:
    """The key's parts; None where the frame has not what is to be read."""
    if key.carried is not None and frame.carries != key.carried:
        return None
    parts = _PARTS[key](frame)
    found = tuple(part for part in parts if part is not None)
    return found if len(found) == len(parts) else None


_PARTS: Mapping[Key, Callable[[Frame], tuple[Part | None, ...]]] = {
    Key.IN_LINK: lambda f: (f.into,),
    Key.OUT_LINK: lambda f: (f.out,),
    Key.IN_LINK_AND_SOURCE: lambda f: (f.into, f.source_mac),
    Key.IN_LINK_AND_VLAN: lambda f: (f.into, f.vlan),
    Key.MARK_AND_IN_LINK: lambda f: (f.mark, f.into),
    Key.MARK_AND_OUT_LINK: lambda f: (f.mark, f.out),
    Key.IN_LINK_AND_CONNECTION: lambda f: (f.into, None),  # the number is the kernel's
    Key.OUT_LINK_AND_CONNECTION: lambda f: (f.out, None),
    Key.DESTINATION: lambda f: (f.target_mac,),
    Key.IN_LINK_AND_SOURCE4: lambda f: (f.into, f.source),
    Key.IN_LINK_AND_SOURCE6: lambda f: (f.into, f.source),
    Key.IN_LINK_AND_ARP_MAC: lambda f: (f.into, f.arp_mac),
    Key.IN_LINK_AND_ARP4: lambda f: (f.into, f.arp_ip),
    Key.IN_LINK_AND_ND_TARGET: lambda f: (f.into, None if f.nd_target is None else int(f.nd_target)),
    Key.SOURCE4: lambda f: (f.source,),
    Key.TARGET4: lambda f: (f.target,),
    Key.SOURCE6: lambda f: (f.source,),
    Key.TARGET6: lambda f: (f.target,),
    Key.TARGET4_PORT: lambda f: (f.target, f.protocol, f.target_port),
    Key.TARGET6_PORT: lambda f: (f.target, f.protocol, f.target_port),
}
ETHER_TYPES = {4: EtherType.IPV4, 6: EtherType.IPV6}


def load(base: Ruleset, program: Program, elements: Iterable[Element] = ()) -> Loaded:
    """A base with its elements and a program, as if the kernel had them."""
    sets: dict[str, set[tuple[Part, ...]]] = {each.name: set() for each in base.sets if isinstance(each, Set)}
    maps: dict[str, dict[tuple[Part, ...], str | int]] = {each.name: {} for each in base.sets if isinstance(each, Map)}
    for element in elements:
        if element.value is None:
            sets[element.set].add(element.key)
        else:
            maps[element.set][element.key] = element.value
    for name, leads in ((EGRESS, program.egress), (INGRESS, program.ingress)):
        maps[name] = {(port,): chain for port, chain in leads.items()}
    sets[ISOLATED] = {(port,) for port in program.ports}
    contents = {name: content.elements for name, content in program.sets.items()}
    chains = {chain.name: chain for chain in base.chains} | dict(program.chains)
    return Loaded(chains, {name: frozenset(keys) for name, keys in sets.items()} | contents, maps)
