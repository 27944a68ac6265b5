"""What policies can tell of an end: two of one kind are treated alike. Mutable, but pure: no I/O, no clock.

The oracle is asked about one of each kind, and about no more than decides: the policies that isolate an end, and which
of their peers the far end is.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.networkpolicy import Direction, IpBlock, NetworkPolicy, Peer, PolicyKey
from homeport_api.selector import Selector
from homeport_api.workload import Protocol
from homeport_policy.evaluate import Packet, evaluate, is_peer, selecting
from homeport_policy.probes import End, Service
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot


@dataclass(frozen=True, slots=True)
class Kind:
    """All that policies can tell of an end, in one snapshot: which isolate it, which peers it is, and which numbers its
    port names stand for. By number, the same for the same policy or peer in both snapshots."""

    out: tuple[int, ...]
    into: tuple[int, ...]
    peers: frozenset[int]
    named: frozenset[tuple[str, Protocol, int]]


class Numbers:
    """The same number for whatever means the same."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def of(self, what: Hashable) -> int:
        return self._known.setdefault(what, len(self._known))


class View:
    """One of the two snapshots, with what is looked up often. Endpoints that no selector can tell apart are asked about
    once."""

    def __init__(self, snapshot: Snapshot, numbers: Numbers) -> None:
        self._snapshot = snapshot
        self._mentioned = _mentioned(snapshot.policies.values())
        self._in_namespace: dict[str, dict[PolicyKey, NetworkPolicy]] = defaultdict(dict)
        self._by_number: dict[int, NetworkPolicy] = {}
        self._numbers: dict[PolicyKey, int] = {}
        self._peers: dict[int, tuple[NetworkPolicy, Peer]] = {}
        self._asked: dict[tuple[int, Direction], frozenset[int]] = {}
        for key, policy in sorted(snapshot.policies.items()):
            self._in_namespace[key.namespace][key] = policy
            number = self._numbers[key] = numbers.of((key, policy.spec, policy.networks))
            self._by_number[number] = policy
            for direction in policy.spec.types:
                asked = {
                    numbers.of(_peer_key(policy, peer)): peer for rule in policy.rules(direction) for peer in rule.peers
                }
                self._asked[number, direction] = frozenset(asked)
                for each, peer in asked.items():
                    self._peers.setdefault(each, (policy, peer))
        self._owners: dict[tuple[L2Domain, IpAddress], list[Endpoint]] = defaultdict(list)
        for endpoint in snapshot.endpoints.values():
            for address in endpoint.addresses:
                self._owners[endpoint.domain, address].append(endpoint)
        self._selected: dict[Hashable, dict[Direction, tuple[int, ...]]] = {}
        self._peer_of: dict[Hashable, frozenset[int]] = {}
        self._rulings: dict[Hashable, bool] = {}

    @property
    def peers(self) -> frozenset[int]:
        """All that any policy speaks of."""
        return frozenset(self._peers)

    def endpoint(self, key: EndpointKey) -> Endpoint | None:
        return self._snapshot.endpoints.get(key)

    def endpoints_in(self, domain: L2Domain) -> Iterator[Endpoint]:
        return (each for key, each in sorted(self._snapshot.endpoints.items()) if key.domain == domain)

    def owned(self, domain: L2Domain, address: IpAddress) -> bool:
        return (domain, address) in self._owners

    def isolated(self) -> dict[EndpointKey, frozenset[Direction]]:
        """Who is, and in which directions."""
        found = {}
        for key, endpoint in self._snapshot.endpoints.items():
            directions = frozenset(each for each, policies in self._select(endpoint).items() if policies)
            if directions:
                found[key] = directions
        return found

    def kind(self, end: End) -> Kind:
        endpoint = self._snapshot.endpoints[end.endpoint] if end.endpoint else None
        owners = self._owners.get((end.domain, end.address), ())
        selected = self._select(endpoint) if endpoint else {Direction.EGRESS: (), Direction.INGRESS: ()}
        peers = frozenset(
            number
            for number, (_, peer) in self._peers.items()
            if isinstance(peer, IpBlock) and _is_in(peer, end.address)
        )
        for owner in owners:
            peers |= self._peers_of(owner)
        named = frozenset(
            (port.name, port.protocol, port.number)
            for owner in owners
            for port in self._snapshot.workload(owner.workload).ports
        )
        return Kind(selected[Direction.EGRESS], selected[Direction.INGRESS], peers, named)

    def allows(self, sender: tuple[End, Kind], receiver: tuple[End, Kind], service: Service) -> bool:
        """What the oracle says of one of each kind."""
        (source, own), (target, other) = sender, receiver
        return self._rules(Direction.EGRESS, own.out, other.peers, source, receiver, service) and self._rules(
            Direction.INGRESS, other.into, own.peers, source, (target, other), service
        )

    def _rules(
        self,
        direction: Direction,
        isolating: tuple[int, ...],
        peers: frozenset[int],
        source: End,
        receiver: tuple[End, Kind],
        service: Service,
    ) -> bool:
        """One end's ruling: nothing decides it but the policies that isolate it, which of their peers the far end is,
        and the receiver's ports."""
        if not isolating:
            return True
        target, kind = receiver
        asked = frozenset[int]().union(*(self._asked[number, direction] for number in isolating))
        key = (source.address.version, direction, isolating, peers & asked, kind.named, service)
        known = self._rulings.get(key)
        if known is None:
            known = self._rulings[key] = self._evaluate(isolating, source, target, service, direction)
        return known

    def _evaluate(
        self, isolating: tuple[int, ...], source: End, target: End, service: Service, direction: Direction
    ) -> bool:
        """By the oracle, among those only who have the two addresses and the policies that isolate the end."""
        own = source.endpoint if direction is Direction.EGRESS else target.endpoint
        assert own is not None  # nothing isolates what is outside
        there = {each.key: each for end in (source, target) for each in self._owners.get((end.domain, end.address), ())}
        policies = {(policy := self._by_number[number]).key: policy for number in isolating}
        small = replace(self._snapshot, endpoints={**there, own: self._snapshot.endpoints[own]}, policies=policies)
        sender, receiver = (own, None) if direction is Direction.EGRESS else (None, own)
        packet = Packet(
            source.domain, source.address, target.address, service.protocol, service.first, sender, receiver
        )
        return evaluate(small, packet).allowed

    def _select(self, endpoint: Endpoint) -> dict[Direction, tuple[int, ...]]:
        profile = self._profile(endpoint)
        known = self._selected.get(profile)
        if known is None:
            small = replace(
                self._snapshot, endpoints={}, policies=self._in_namespace.get(endpoint.workload.namespace, {})
            )
            known = self._selected[profile] = {
                direction: tuple(self._numbers[policy.key] for policy in selecting(small, endpoint, direction))
                for direction in Direction
            }
        return known

    def _peers_of(self, owner: Endpoint) -> frozenset[int]:
        """The peers that the workload is, whatever its address."""
        profile = self._profile(owner)
        known = self._peer_of.get(profile)
        if known is None:
            address: IpAddress = IPv4Address(0)
            stand_in = {owner.key: replace(owner, addresses=frozenset({address}))}
            small = replace(self._snapshot, endpoints=stand_in, policies={})
            known = self._peer_of[profile] = frozenset(
                number
                for number, (policy, peer) in self._peers.items()
                if not isinstance(peer, IpBlock) and is_peer(small, policy, peer, owner.domain, address)
            )
        return known

    def _profile(self, endpoint: Endpoint) -> Hashable:
        """The same for endpoints that no selector can tell apart: of a label that none looks at nothing counts, of a
        value that none names only that the key is there."""
        labels = self._snapshot.workload(endpoint.workload).labels
        return (
            endpoint.workload.namespace,
            endpoint.network,
            endpoint.attached_as,
            frozenset(
                (key, value if value in self._mentioned[key] else None)
                for key, value in labels.items()
                if key in self._mentioned
            ),
        )


def _is_in(block: IpBlock, address: IpAddress) -> bool:
    return address in block.cidr and not any(address in each for each in block.excepts)


def _peer_key(policy: NetworkPolicy, peer: Peer) -> Hashable:
    """The same for peers that mean the same."""
    if isinstance(peer, IpBlock):
        return peer
    return peer, policy.meta.namespace if peer.namespaces is None else "", policy.networks, policy.kind


def _mentioned(policies: Iterable[NetworkPolicy]) -> dict[str, set[str]]:
    """The keys of workloads' labels that any selector looks at, and the values that it names."""
    found: dict[str, set[str]] = defaultdict(set)
    for policy in policies:
        selectors: list[Selector] = [policy.spec.selector]
        for direction in policy.spec.types:
            for rule in policy.rules(direction):
                selectors += [
                    peer.workloads
                    for peer in rule.peers
                    if not isinstance(peer, IpBlock) and peer.workloads is not None
                ]
        for selector in selectors:
            for key, value in selector.labels:
                found[key].add(value)
            for each in selector.requirements:
                found[each.key].update(each.values)
    return dict(found)
