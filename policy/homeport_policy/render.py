"""From a ruleset to nft text. Refuses what would load and then silently miss. Reference: nft(8).

Each rule's comment is its fingerprint, so that drift is found by comparing comments and nobody parses rules.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from homeport_policy.ruleset import (
    Action,
    ArpProbe,
    Carries,
    Chain,
    Change,
    Dispatch,
    Element,
    EtherType,
    First,
    FragmentOf,
    Goto,
    Hook,
    Icmp6Type,
    InSet,
    InZone,
    Jump,
    Leads,
    Limit,
    LinkLocalDestination,
    Log,
    Map,
    Match,
    NdTargetLinkLocal,
    NoInit,
    NoSyn,
    OuterTag,
    OverCount,
    OverRate,
    Part,
    PortRange,
    PriorityTag,
    Protocol,
    Reply,
    Rule,
    Ruleset,
    Set,
    SetMark,
    SetZone,
    State,
    ToPort,
    Touch,
    UdpPorts,
    Unmarked,
    Verdict,
    Within,
)

_FAMILY = "bridge"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_LINK = re.compile(r"[A-Za-z0-9_.=@+~-]{1,15}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_NAMES = {EtherType.IPV4: "ip", EtherType.IPV6: "ip6", EtherType.ARP: "arp"}
_LEADS: Mapping[type, Leads] = {Dispatch: Leads.CHAIN, SetZone: Leads.ZONE, SetMark: Leads.MARK}


class Unrenderable(ValueError):
    """A ruleset that must not be loaded: a mistake of the program, never of a user."""


def render(value: Ruleset | Change) -> bytes:
    """nft text to be applied in one transaction. It may be applied any number of times."""
    lines = _ruleset(value) if isinstance(value, Ruleset) else _change(value)
    return "".join(f"{line}\n" for line in lines).encode()


def fingerprints(chains: Iterable[Chain]) -> dict[str, tuple[str, ...]]:
    """The comments of each chain's rules in order: equal to what the kernel lists if and only if no rule was
    changed."""
    return {chain.name: tuple(fingerprint(rule) for rule in chain.rules) for chain in chains}


def fingerprint(rule: Rule) -> str:
    return hashlib.sha256(_statement(rule).encode()).hexdigest()[:12]


def add_set(table: str, each: Set | Map) -> str:
    """The line that makes a set or map, or leaves it as it is."""
    if isinstance(each, Map):
        chains = each.leads is Leads.CHAIN
        what = f"{each.key.type if chains else f'typeof {each.key.expression}'} : {each.leads.value}"
        return f"add map {_table(table)} {each.name} {{ {what}; }}"
    return f"add set {_table(table)} {each.name} {{ {each.key.type}; {_filled(each)}}}"


def _filled(each: Set) -> str:
    """How the kernel fills a set by itself, if it does."""
    if each.counting:
        return "size 131072; flags dynamic; "  # keys go with their last connection; a timeout is refused beside counts
    return f"size 65536; flags dynamic; timeout {each.kept}; " if each.meter else ""


def add_limit(table: str, limit: Limit) -> str:
    """The line that makes a limit, or leaves it as it is."""
    return f"add limit {_table(table)} {limit.name} {{ rate {limit.rate}/second burst {limit.burst} packets; }}"


def add_chain(table: str, chain: Chain, known: Mapping[str, Set | Map]) -> Iterator[str]:
    """The lines that make a chain, or make it anew, with its rules. What it leads to must be there already."""
    name = _table(table)
    head = ""
    if chain.hook is not None:
        head = f" {{ type filter hook {chain.hook} priority {chain.priority}; policy accept; }}"
    yield f"add chain {name} {chain.name}{head}"
    yield f"flush chain {name} {chain.name}"
    for rule in chain.rules:
        _check(chain, rule, known)
        yield f'add rule {name} {chain.name} {_statement(rule)} comment "{fingerprint(rule)}"'


def add_elements(table: str, name: str, elements: Iterable[Element]) -> Iterator[str]:
    """The line that adds them all to one set or map; none for none."""
    rendered = ", ".join(_element(each) for each in elements)
    if rendered:
        yield f"add element {_table(table)} {name} {{ {rendered} }}"


def delete_elements(table: str, name: str, elements: Iterable[Element]) -> Iterator[str]:
    """The line that deletes them, all of which must be there."""
    rendered = ", ".join(_key(each.key) for each in elements)
    if rendered:
        yield f"delete element {_table(table)} {name} {{ {rendered} }}"


def _ruleset(ruleset: Ruleset) -> Iterator[str]:
    table = _table(ruleset.table)
    known = {each.name: each for each in ruleset.sets}
    yield f"add table {table}"
    yield from (f"add counter {table} {name}" for name in ruleset.counters)
    yield from (add_limit(ruleset.table, each) for each in ruleset.limits)
    yield from (add_set(ruleset.table, each) for each in ruleset.sets)
    yield from (f"add chain {table} {chain.name}" for chain in ruleset.chains if chain.hook is None)
    counters = frozenset(ruleset.counters)
    for chain in ruleset.chains:
        if chain.hook is Hook.FORWARD and chain.priority >= 0:
            raise Unrenderable(f"chain {chain.name}: br_netfilter skips forward chains at priority 0 and after")
        for rule in chain.rules:
            if rule.counter is not None and rule.counter not in counters:
                raise Unrenderable(f"chain {chain.name}: no counter {rule.counter}")
        yield from add_chain(ruleset.table, chain, known)


def _change(change: Change) -> Iterator[str]:
    table = _table(change.table)
    both = {(each.set, each.key) for each in change.add if each.value is None}
    both &= {(each.set, each.key) for each in change.delete}
    if both:
        raise Unrenderable(f"{sorted(both, key=str)[0]} is added and deleted at once")
    for each in change.delete:
        # nft before 1.0.7 has no `destroy`: adding first makes the deletion of an absent element no error. A map's
        # element is deleted as it is known to be, and the addition fails where it is another.
        yield f"add element {table} {each.set} {{ {_element(each)} }}"
        yield f"delete element {table} {each.set} {{ {_key(each.key)} }}"
    yield from (f"add element {table} {each.set} {{ {_element(each)} }}" for each in change.add)


def _element(element: Element) -> str:
    key = _key(element.key)
    match element.value:
        case None:
            return key
        case int():
            return f"{key} : {element.value}"
        case _:
            if not _NAME.match(element.value):
                raise Unrenderable(f"{element.value!r} is not a chain's name")
            return f"{key} : goto {element.value}"


def _key(key: tuple[Part, ...]) -> str:
    return " . ".join(map(_part, key))


def _part(part: Part) -> str:
    match part:
        case IPv4Address() | IPv6Address():
            return str(part)
        case int():
            return str(int(part))
        case _ if ":" in part:
            if not _MAC.match(part):
                raise Unrenderable(f"{part!r} is not a MAC address")
            return part
        case _:
            if not _LINK.match(part):
                raise Unrenderable(f"{part!r} cannot be named in a ruleset")
            return f'"{part}"'


def _check(chain: Chain, rule: Rule, sets: Mapping[str, Set | Map]) -> None:
    where = f"chain {chain.name}"
    carried: EtherType | None = None
    for match in rule.matches:
        if isinstance(match, OverCount) and (match.parts < 2 or match.parts & (match.parts - 1)):
            raise Unrenderable(f"{where}: {match.parts} parts are no power of two")
        if isinstance(match, InSet | OverRate | OverCount):
            known = sets.get(match.set)
            if not isinstance(known, Set) or known.key.type != match.key.type:
                raise Unrenderable(f"{where}: no set {match.set} of type {match.key.type}")
        if isinstance(match, OuterTag | PriorityTag) and chain.hook is not Hook.PREROUTING:
            raise Unrenderable(f"{where}: a VLAN-aware bridge tags frames after prerouting, so every tag matches there")
        if isinstance(match, OuterTag | Protocol) and not match.types:
            raise Unrenderable(f"{where}: a match on no type at all")
        if isinstance(match, Within | ToPort) and not match.ranges:
            raise Unrenderable(f"{where}: a match on nothing at all")
        needs = _needs(match)
        if needs is not None and needs != carried:
            # nft would put an `ether type` before it by itself, which misses behind a VLAN tag.
            raise Unrenderable(f"{where}: {_match(match)} needs `meta protocol {_NAMES[needs]}` before it")
        if isinstance(match, Protocol) and match.one_of and len(match.types) == 1:
            (carried,) = match.types
    if isinstance(rule.action, Dispatch | SetZone | SetMark):
        known = sets.get(rule.action.map)
        if not isinstance(known, Map) or known.key is not rule.action.key:
            raise Unrenderable(f"{where}: no map {rule.action.map} of type {rule.action.key.type}")
        if known.leads is not _LEADS[type(rule.action)]:
            raise Unrenderable(f"{where}: map {rule.action.map} leads elsewhere")
    if isinstance(rule.action, Touch):
        known = sets.get(rule.action.set)
        if not isinstance(known, Set) or not known.meter or known.key.type != rule.action.key.type:
            raise Unrenderable(
                f"{where}: no set {rule.action.set} of type {rule.action.key.type} that the kernel fills"
            )
        if rule.action.key.carried not in (None, carried):
            raise Unrenderable(f"{where}: {rule.action.key.expression} needs what it reads to be matched before it")
    if rule.log is not None and rule.action is not Verdict.CONTINUE:
        raise Unrenderable(f"{where}: a frame over the log's rate would not get to the verdict")


def _needs(match: Match) -> EtherType | None:
    """The ether type that a frame must have been found to carry before this can be read from it."""
    match match:
        case InSet() | OverRate() | OverCount():
            return match.key.carried
        case ArpProbe():
            return EtherType.ARP
        case Within():
            return EtherType.IPV4 if match.ranges and match.ranges[0].first.version == 4 else EtherType.IPV6
        case Icmp6Type() | FragmentOf() | NdTargetLinkLocal():
            return EtherType.IPV6
        case _:
            return None


def _statement(rule: Rule) -> str:
    parts = [_match(match) for match in rule.matches]
    if rule.counter is not None:
        parts.append(f"counter name {rule.counter}")
    if rule.log is not None:
        parts.append(_log(rule.log))
    return " ".join((*parts, *_action(rule.action)))


def _log(log: Log) -> str:
    rate = f"limit rate {log.rate}/second burst {log.burst} packets"
    if log.shared is not None:
        rate += f" limit name {log.shared}"
    return f'{rate} log prefix "{log.prefix}" group {log.group} snaplen 128'


def _action(action: Action) -> Iterator[str]:
    match action:
        case Verdict.CONTINUE:
            return
        case Verdict():
            yield action.value
        case Jump(chain):
            yield f"jump {chain}"
        case Goto(chain):
            yield f"goto {chain}"
        case Dispatch(key, name):
            yield f"{key.expression} vmap @{name}"
        case SetZone(key, name):
            yield f"ct zone set {key.expression} map @{name}"
        case SetMark(key, name):
            yield f"ct mark set {key.expression} map @{name}"
        case Touch(key, name):
            yield f"update @{name} {{ {key.expression} }}"
        case _ as never:
            assert_never(never)


def _match(match: Match) -> str:
    match match:
        case InSet():
            return f"{match.key.expression} {'' if match.member else '!= '}@{match.set}"
        case Protocol():
            # Never `ether type` here: behind a VLAN tag that reads the tag's type, and misses what the frame carries.
            # One type alone is no set, or nft would not know by it what comes next, and put an `ether type` there.
            return f"meta protocol {'' if match.one_of else '!= '}{_types(match.types)}"
        case OuterTag():
            # The one place where the tag itself is meant.
            return f"ether type {'' if match.one_of else '!= '}{_types(match.types)}"
        case PriorityTag():
            return "vlan id 0"
        case LinkLocalDestination():
            return "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00"
        case Within():
            family = "ip" if match.ranges[0].first.version == 4 else "ip6"
            return f"{family} {match.side} {_braced(match.ranges)}"
        case Carries():
            return f"meta l4proto {_one_or_set([int(each) for each in sorted(match.protocols)])}"
        case ToPort():
            return f"meta l4proto . th dport {_braced(f'{each.protocol:d} . {_span(each)}' for each in match.ranges)}"
        case UdpPorts():
            ports = (("sport", match.source), ("dport", match.target))
            return " ".join(["meta l4proto 17", *(f"udp {side} {port}" for side, port in ports if port is not None)])
        case Icmp6Type():
            return f"icmpv6 type {_one_or_set(sorted(match.types))}"
        case FragmentOf():
            return f"frag nexthdr {_one_or_set(sorted(match.headers))}"
        case NdTargetLinkLocal():
            return f"@th,64,10 {'==' if match.member else '!='} 0x3fa"
        case ArpProbe():
            return "arp saddr ip 0.0.0.0"
        case State():
            return f"ct state {','.join(sorted(match.states))}"
        case Reply():
            return f"ct direction {'reply' if match.against else 'original'}"
        case First():
            return "ct status & confirmed == 0"
        case Unmarked():
            return "ct mark 0"
        case InZone():
            return f"ct zone {match.zone}"
        case NoSyn():
            return "tcp flags & (fin | syn | rst | ack) != syn"
        case NoInit():
            return "sctp chunk init missing"
        case OverRate():
            rate = f"limit rate {'over ' if match.over else ''}{match.rate}/second burst {match.burst} packets"
            return f"update @{match.set} {{ {match.key.expression} {rate} }}"
        case OverCount():
            part = f"{match.key.expression} & {match.parts - 1}"
            return f"add @{match.set} {{ {part} ct count over {match.count} }}"
        case _ as never:
            assert_never(never)


def _one_or_set(parts: Sequence[object]) -> str:
    return str(parts[0]) if len(parts) == 1 else _braced(parts)


def _braced(parts: Iterable[object]) -> str:
    return f"{{ {', '.join(map(str, parts))} }}"


def _span(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _types(types: frozenset[EtherType]) -> str:
    return _one_or_set([_NAMES.get(each, f"0x{each:04x}") for each in sorted(types)])


def _table(name: str) -> str:
    if not _NAME.match(name):
        raise Unrenderable(f"{name!r} is not a table name of ours")
    return f"{_FAMILY} {name}"
