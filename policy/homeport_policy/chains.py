"""One policy in one direction and L2 domain as a chain, and the chains that ports lead to. Pure functions.

    egress    a rule that allows goes on to the receiver's side (`deliver`), which decides
    ingress   a rule that allows accepts

A chain that allows nothing returns to the one that asked, which asks the next policy and at last denies.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from homeport_api.addresses import L2Domain
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    NetworkPolicy,
    PolicyKey,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    WorkloadPeer,
)
from homeport_api.workload import Protocol as PortProtocol
from homeport_policy.blocks import ranges_of
from homeport_policy.program import Counted
from homeport_policy.ruleset import (
    L4,
    Action,
    Chain,
    EtherType,
    Goto,
    InSet,
    InZone,
    Jump,
    Key,
    Limit,
    Log,
    Match,
    PortRange,
    Protocol,
    Rule,
    Side,
    ToPort,
    Verdict,
    Within,
)

DELIVER, STATEFUL = "deliver", "stateful"
"""Chains of the base: to the receiver's ingress, and what an isolated guest's packets must be in any case."""
LOG_GROUP = 4100
"""Where copies of denied packets go. nfnetlink_log's groups are 16 bits wide and belong to a network namespace."""
DENIALS = Limit("denials", 100, 200)
"""Of all denied packets together, so that many floods at once cost the agent no more than one does."""
LAST_PORT = 65535

L4_OF = {PortProtocol.TCP: L4.TCP, PortProtocol.UDP: L4.UDP, PortProtocol.SCTP: L4.SCTP}
_IPV4, _IPV6 = Protocol(frozenset({EtherType.IPV4})), Protocol(frozenset({EtherType.IPV6}))
_FAMILIES = (
    (4, _IPV4, {Side.SOURCE: Key.SOURCE4, Side.TARGET: Key.TARGET4}, Key.TARGET4_PORT),
    (6, _IPV6, {Side.SOURCE: Key.SOURCE6, Side.TARGET: Key.TARGET6}, Key.TARGET6_PORT),
)
_OTHER_END = {Direction.INGRESS: Side.SOURCE, Direction.EGRESS: Side.TARGET}
_SHORT = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


@dataclass(frozen=True, slots=True)
class Group:
    """The workloads that are a rule's peers: their addresses in one L2 domain are a set. `namespace` is the policy's,
    for peers without a namespaceSelector. `networks` and `multi` narrow it to endpoints that the policy speaks of."""

    domain: L2Domain
    namespace: str
    peers: tuple[WorkloadPeer, ...]
    networks: tuple[tuple[str, str], ...] = ()
    multi: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """Everything in one L2 domain that has a port of this name and protocol."""

    domain: L2Domain
    name: str
    protocol: PortProtocol


Needed = Group | Named


@dataclass(frozen=True, slots=True)
class PolicyChain:
    """`needed` by name of the set, without its family's `4_` or `6_`."""

    chain: Chain
    needed: Mapping[str, Needed]
    counters: Mapping[str, Counted]


def policy_chain(policy: NetworkPolicy, direction: Direction, domain: L2Domain) -> PolicyChain:
    """What the policy allows what it selects in a direction. What can match nothing is left out, and what one before it
    has allowed already: of equal ones the later, and all behind one that allows everything."""
    rules = policy.rules(direction)
    name = f"p_{digest(policy.key, direction.value, domain, policy.networks, rules)}"
    action: Action = Verdict.ACCEPT if direction is Direction.INGRESS else Goto(DELIVER)
    needed: dict[str, Needed] = {}
    counters: dict[str, Counted] = {}
    made: dict[tuple[Match, ...], Rule] = {}
    for number, rule in enumerate(rules):
        if () in made:
            break
        counter = f"{name}_{number}"
        for matches in _alternatives(policy, rule, direction, domain, needed):
            if matches not in made:
                made[matches] = Rule(matches, action, counter)
                counters[counter] = Counted(direction, policy.key, number, domain)
    return PolicyChain(Chain(name, None, 0, tuple(made.values())), needed, counters)


def port_chain(direction: Direction, policies: Sequence[tuple[PolicyKey, str]]) -> tuple[Chain, dict[str, Counted]]:
    """What a port leads to whose guest these policies isolate, each with its chain: one of them must allow. None: all
    is denied."""
    name = f"{_SHORT[direction]}_{digest(direction.value, tuple(policies))}"
    denied = f"{name}_denied"
    rules = (*(Rule((), Jump(chain)) for _, chain in policies), *_deny(name))
    counted = Counted(direction, denied_by=tuple(key for key, _ in policies))
    return Chain(name, None, 0, rules), {denied: counted}


def trunk_chain(direction: Direction, domains: Sequence[tuple[int, str]]) -> tuple[Chain, dict[str, Counted]]:
    """What a trunk leads to whose guest is isolated: the chain of the domain that the packet's zone says it is in. In
    another VLAN nothing passes."""
    name = f"{_SHORT[direction]}_{digest('trunk', direction.value, tuple(domains))}"
    rules = (*(Rule((InZone(zone),), Goto(chain)) for zone, chain in domains), *_deny(name))
    return Chain(name, None, 0, rules), {f"{name}_denied": Counted(direction)}


def set_names(stem: str) -> tuple[tuple[int, str], ...]:
    """The set of each family."""
    return (4, f"{stem[0]}4_{stem[2:]}"), (6, f"{stem[0]}6_{stem[2:]}")


def digest(*what: object) -> str:
    """The same for the same values, in every process."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _deny(name: str) -> tuple[Rule, Rule]:
    return (
        Rule((), Verdict.CONTINUE, log=Log(name, LOG_GROUP, shared=DENIALS.name)),
        Rule((), Verdict.DROP, f"{name}_denied"),
    )


def _alternatives(
    policy: NetworkPolicy, rule: PolicyRule, direction: Direction, domain: L2Domain, needed: dict[str, Needed]
) -> Iterator[tuple[Match, ...]]:
    """Peers times ports: each alternative allows. A family is named once, before what needs it."""
    peers = tuple(_peers(policy, rule, direction, domain, needed))
    ports = tuple(_ports(rule.ports, domain, needed))
    for (family, whom), (port_family, what) in product(peers, ports):
        if family is None or port_family is None or family == port_family:
            first = family or port_family
            yield (*((first,) if first else ()), *whom, *what)


_Alternative = tuple[Protocol | None, tuple[Match, ...]]


def _peers(
    policy: NetworkPolicy, rule: PolicyRule, direction: Direction, domain: L2Domain, needed: dict[str, Needed]
) -> Iterator[_Alternative]:
    if not rule.peers:
        yield None, ()
        return
    side = _OTHER_END[direction]
    workloads = tuple(peer for peer in rule.peers if isinstance(peer, WorkloadPeer))
    blocks = tuple(peer for peer in rule.peers if isinstance(peer, IpBlock))
    stem = ""
    if workloads:
        own = policy.meta.namespace if any(peer.namespaces is None for peer in workloads) else ""
        group = Group(domain, own, workloads, policy.networks, _is_multi(policy))
        stem = f"a_{digest(group)}"
        needed[stem] = group
    for version, family, keys, _ in _FAMILIES:
        if stem:
            yield family, (InSet(keys[side], dict(set_names(stem))[version]),)
        if ranges := ranges_of(blocks, version):
            yield family, (Within(side, ranges),)


def _ports(ports: Iterable[PolicyPort], domain: L2Domain, needed: dict[str, Needed]) -> Iterator[_Alternative]:
    ranges: set[PortRange] = set()
    names: dict[str, Named] = {}
    none = True
    for port in ports:
        none = False
        protocol = L4_OF[port.protocol]
        if port.port is None:
            ranges.add(PortRange(protocol, 0, LAST_PORT))
        elif isinstance(port.port, int):
            ranges.add(PortRange(protocol, port.port, port.end or port.port))
        else:
            named = Named(domain, port.port, port.protocol)
            names[f"n_{digest(named)}"] = named
    if none:
        yield None, ()
    if ranges:
        yield None, (ToPort(_merged(ranges)),)
    for stem, named in names.items():
        needed[stem] = named
        for version, family, _, key in _FAMILIES:
            yield family, (InSet(key, dict(set_names(stem))[version]),)


def _merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """In order and apart, for nft refuses ranges that overlap."""
    merged: list[PortRange] = []
    for each in sorted(ranges):
        last = merged[-1] if merged else None
        if last is not None and last.protocol == each.protocol and each.first <= last.last + 1:
            merged[-1] = PortRange(each.protocol, last.first, max(last.last, each.last))
        else:
            merged.append(each)
    return tuple(merged)


def _is_multi(policy: NetworkPolicy) -> bool:
    return policy.kind is PolicyKind.MULTI_NETWORK_POLICY
