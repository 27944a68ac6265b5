"""Random worlds and packets, and one packet asked of oracle and compiled rules alike.

A seed makes a world: a thousand are made in the time that a generator of shrinking values takes for thirty, and a seed
that fails is told. Names, labels, addresses and ports are few on purpose, so that things meet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_network
from random import Random
from typing import TypeVar

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.network import PolicyScope
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    NetworkPolicy,
    Peer,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    WorkloadPeer,
)
from homeport_api.selector import Operator, Requirement, Selector
from homeport_api.workload import NamedPort, Protocol
from homeport_policy import guards
from homeport_policy.compile import Compiler, compile_snapshot
from homeport_policy.evaluate import Packet, evaluate
from homeport_policy.program import Program
from homeport_policy.ruleset import L4, CtState, Element, Verdict, element
from homeport_policy.simulate import ETHER_TYPES, Frame, Judged, Loaded, judge, load
from homeport_policy.snapshot import UNKNOWN, Endpoint, EndpointKey, Snapshot, Workload

UPLINK = "hpu-bond0"
ZONES = {L2Domain("bond0:100"): 16384, L2Domain("bond0:200"): 16385}
BLUE, GREEN = ZONES
NETWORKS = {"blue": BLUE, "green": GREEN, "also-blue": BLUE}
L4_OF = {Protocol.TCP: L4.TCP, Protocol.UDP: L4.UDP, Protocol.SCTP: L4.SCTP, None: L4.ICMP}
BASE = guards.base(tracking=True)


@dataclass(frozen=True)
class World:
    """A snapshot as one node has it: every endpoint with a port is on this node."""

    snapshot: Snapshot

    @cached_property
    def program(self) -> Program:
        return compile_snapshot(self.snapshot)

    @cached_property
    def loaded(self) -> Loaded:
        return load(BASE, self.program, self.elements)

    @property
    def elements(self) -> frozenset[Element]:
        ports = {each.port for each in self.snapshot.endpoints.values() if each.port is not None}
        nodes = {each.port for each in self.snapshot.endpoints.values() if each.port is not None and each.node}
        speaking = {element(name, link) for link in (*ports, UPLINK) for name in ("speaking",)}
        return frozenset(
            {
                *speaking,
                *(element("ports", port) for port in ports),
                *(element("nodes", port) for port in nodes),
                element("uplinks", UPLINK),
            }
        )

    def frame(self, packet: Packet) -> Frame:
        """The packet on its way between two ports, or a port and the uplink."""
        ends = [self.snapshot.endpoints[each].port if each else None for each in (packet.sender, packet.receiver)]
        protocol = L4_OF[packet.protocol]
        if protocol is L4.ICMP and packet.source.version == 6:
            protocol = L4.ICMP6
        return Frame(
            ends[0] or UPLINK,
            ends[1] or UPLINK,
            ETHER_TYPES[packet.source.version],
            packet.source,
            packet.target,
            protocol,
            source_port=None if packet.port is None else 40000,
            target_port=packet.port,
            icmp6_type=128 if protocol is L4.ICMP6 else None,
            zone=ZONES.get(packet.domain),
            state=CtState.NEW,
        )

    def judge(self, packet: Packet) -> Judged:
        return judge(self.loaded, "forward", self.frame(packet))

    def allows(self, packet: Packet) -> bool:
        """What the compiled rules say."""
        return self.judge(packet).verdict is Verdict.ACCEPT

    def should_allow(self, packet: Packet) -> bool:
        """What the oracle says."""
        return evaluate(self.snapshot, packet).allowed


NAMES = ("a", "b")
KEYS, VALUES = ("app", "tier"), ("", "x", "y")
PORT_NAMES, NUMBERS = ("http", "dns"), (0, 53, 79, 80, 81, 82, 443, 65535)
FOUR = tuple(IPv4Address(f"192.0.2.{number}") for number in range(7))
SIX = tuple(IPv6Address(f"2001:db8::{number}") for number in range(7))
BLOCKS = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/29", "192.0.2.0/30", "192.0.2.4/31", "192.0.2.2/32"),
            *("::/0", "2001:db8::/64", "2001:db8::/126", "2001:db8::4/127", "2001:db8::2/128"),
        ),
    )
)
T = TypeVar("T")


class Dice:
    """Random values, each of a kind."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def one(self, values: Sequence[T]) -> T:
        return self.random.choice(values)

    def some(self, values: Sequence[T], most: int, least: int = 0) -> tuple[T, ...]:
        return tuple(self.random.sample(values, self.random.randint(least, min(most, len(values)))))

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def labels(self) -> Mapping[str, str]:
        return {key: self.one(VALUES) for key in self.some(KEYS, 2)}

    def selector(self) -> Selector:
        chosen = self.labels() if self.chance(0.4) else {}
        return Selector(tuple(sorted(chosen.items())), (self.requirement(),) if self.chance(0.3) else ())

    def requirement(self) -> Requirement:
        operator = self.one(list(Operator))
        needed = operator in (Operator.IN, Operator.NOT_IN)
        return Requirement(self.one(KEYS), operator, self.some(VALUES, 2, 1) if needed else ())

    def peer(self) -> Peer:
        if self.chance(0.4):
            return self.block()
        namespaces, workloads = (self.selector() if self.chance(0.5) else None for _ in range(2))
        if namespaces is None and workloads is None:
            workloads = self.selector()
        return WorkloadPeer(namespaces, workloads)

    def block(self) -> IpBlock:
        cidr = self.one(BLOCKS)
        inside = [
            hole
            for hole in BLOCKS
            if hole.version == cidr.version and hole.prefixlen > cidr.prefixlen and hole.network_address in cidr
        ]
        return IpBlock(cidr, self.some(inside, 2))

    def port(self) -> PolicyPort:
        port: int | str | None = self.one((None, 53, 80, 80, 82, *PORT_NAMES))
        end = self.random.randint(port, port + 2) if isinstance(port, int) and self.chance(0.4) else None
        return PolicyPort(self.one(list(Protocol)), port, end)

    def rules(self) -> tuple[PolicyRule, ...]:
        return tuple(
            PolicyRule(
                tuple(self.peer() for _ in range(self.random.randint(0, 2))),
                tuple(self.port() for _ in range(self.random.randint(0, 2))),
            )
            for _ in range(self.random.randint(0, 2))
        )

    def policy(self) -> NetworkPolicy:
        kind = self.one([PolicyKind.NETWORK_POLICY] * 3 + [PolicyKind.MULTI_NETWORK_POLICY])
        networks: tuple[tuple[str, str], ...] = ()
        if kind is PolicyKind.MULTI_NETWORK_POLICY:
            networks = tuple((self.one(NAMES), name) for name in self.some([*NETWORKS, "nad"], 2))
        elif self.chance(0.25):
            networks = (("", self.one(list(NETWORKS))),)
        types = frozenset(self.some(list(Direction), 2, 1))
        spec = PolicySpec(self.selector(), types, self.rules(), self.rules())
        return NetworkPolicy(kind, ObjectMeta(self.one("pqr"), self.one(NAMES)), spec, networks)

    def workload(self) -> Workload:
        ports = [NamedPort(name, self.one((53, 80, 81)), self.one(list(Protocol))) for name in self.some(PORT_NAMES, 2)]
        return Workload(self.labels(), tuple(ports))

    def snapshot(self) -> Snapshot:
        endpoints: dict[EndpointKey, Endpoint] = {}
        for number in range(self.random.randint(2, 6)):
            namespace, network = self.one(NAMES), self.one(("blue", "blue", "also-blue", "green"))
            key = EndpointKey(InterfaceKey(namespace, f"vm{number}-eth0"), NETWORKS[network])
            endpoints[key] = Endpoint(
                key,
                InterfaceKey(namespace, f"vm{self.random.randint(0, number)}"),
                network,
                frozenset((*self.some(FOUR, 2), *self.some(SIX, 2))),
                f"hp{number}" if self.chance(0.7) else None,
                (self.one(NAMES), "nad") if self.chance(0.2) else None,
                self.chance(0.05),
            )
        policies = [self.policy() for _ in range(self.random.randint(1, 4))]
        return Snapshot(
            endpoints,
            {each.workload: self.workload() for each in endpoints.values() if self.chance(0.9)},
            {name: self.labels() for name in self.some(NAMES, 2)},
            {network: self.one(list(PolicyScope)) for network in self.some(list(NETWORKS), 1)},
            {policy.key: policy for policy in policies},
            ZONES,
        )

    def packet(self, snapshot: Snapshot) -> Packet:
        """Between two ends of one domain. An end may use addresses of others: what anti-spoofing lets through is not
        the policies' matter."""
        domain = self.one((BLUE, BLUE, BLUE, GREEN))
        here = [key for key, each in snapshot.endpoints.items() if each.domain == domain and each.port is not None]
        sender, receiver = (self.one([None, *here, *here]) for _ in range(2))
        family = self.one((FOUR, SIX))

        def address(end: EndpointKey | None) -> IpAddress:
            own = [each for each in snapshot.endpoints[end].addresses if each in family] if end else []
            return self.one(sorted(own, key=int)) if own and self.chance(0.8) else self.one(family)

        protocol = self.one([None, *Protocol])
        port = None if protocol is None else self.one(NUMBERS)
        return Packet(domain, address(sender), address(receiver), protocol, port, sender, receiver)


def changes(compiler: Compiler, before: Snapshot, after: Snapshot) -> list[Callable[[], None]]:
    """What tells a compiler that knows `before` of `after`: steps that may be taken in any order."""
    steps: list[Callable[[], None]] = []
    for namespace in before.namespaces.keys() - after.namespaces.keys():
        steps.append(lambda name=namespace: compiler.drop_namespace(name))
    for name, labels in after.namespaces.items():
        steps.append(lambda name=name, labels=labels: compiler.put_namespace(name, labels))
    for network in before.scopes.keys() | after.scopes.keys():
        scope = after.scopes.get(network, PolicyScope.ALL)
        steps.append(lambda network=network, scope=scope: compiler.put_scope(network, scope))
    for domain, zone in after.zones.items():
        steps.append(lambda domain=domain, zone=zone: compiler.put_zone(domain, zone))
    for workload in before.workloads.keys() - after.workloads.keys():
        steps.append(lambda key=workload: compiler.put_workload(key, UNKNOWN))
    for key, labelled in after.workloads.items():
        steps.append(lambda key=key, labelled=labelled: compiler.put_workload(key, labelled))
    for gone in before.endpoints.keys() - after.endpoints.keys():
        steps.append(lambda key=gone: compiler.drop_endpoint(key))
    for endpoint in after.endpoints.values():
        steps.append(lambda endpoint=endpoint: compiler.put_endpoint(endpoint))
    for old in before.policies.keys() - after.policies.keys():
        steps.append(lambda key=old: compiler.drop_policy(key))
    for policy in after.policies.values():
        steps.append(lambda policy=policy: compiler.put_policy(policy))
    return steps
