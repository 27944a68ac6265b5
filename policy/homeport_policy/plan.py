"""Which flows are allowed before a change and denied after it, or the other way round. Pure.

    ends       each address of each endpoint that is there before and after, and outside addresses: one for each
               combination of ipBlocks that an address can be in
    services   each span of ports that policies tell apart, one port that none of them and no workload names, and ICMP

Two ends that no policy can tell apart are of one kind, before and after; what holds for one holds for all of its kind.
So the oracle is asked about kinds, which are few, and not about ends. The first packets of connections are compared:
what a policy stops is ended, and replies follow.

The node's own end (`attach --host`) is judged as if the guests were on other nodes, where it is nothing special.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from homeport_api.addresses import IpAddress, IpNetwork, L2Domain
from homeport_api.networkpolicy import Direction, IpBlock, NetworkPolicy, Peer, PolicyKey
from homeport_api.selector import Selector
from homeport_api.workload import Protocol
from homeport_policy.evaluate import Packet, evaluate, is_peer, selecting
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot

LAST_PORT = 65535
STRANGERS: Mapping[int, tuple[IpAddress, ...]] = {
    4: (ip_address("198.51.100.1"), ip_address("203.0.113.1"), ip_address("192.0.2.1")),
    6: (ip_address("2001:db8:ffff::1"), ip_address("2001:db8:fffe::1")),
}
"""Documentation addresses (RFC 5737, RFC 3849), which stand for hosts that no ipBlock speaks of."""


@dataclass(frozen=True, slots=True)
class End:
    """An endpoint with one of its addresses, or (`endpoint` None) an address outside that stands for all that are of
    its kind."""

    domain: L2Domain
    address: IpAddress
    endpoint: EndpointKey | None = None

    def order(self) -> tuple[str, bool, str, int]:
        return self.domain, self.endpoint is None, str(self.endpoint), int(self.address)


@dataclass(frozen=True, slots=True)
class Service:
    """Ports of a protocol that policies do not tell apart, `first` to `last`; without them ICMP, and all that has no
    ports. `rest`: all ports that nobody names, of which `first` is one."""

    protocol: Protocol | None = None
    first: int | None = None
    last: int | None = None
    rest: bool = False

    def __str__(self) -> str:
        if self.protocol is None:
            return "ICMP"
        word = self.protocol.lower()
        if self.rest:
            return f"other {word} ports"
        return f"{self.first}/{word}" if self.first == self.last else f"{self.first}-{self.last}/{word}"


@dataclass(frozen=True, slots=True)
class Shift:
    """Flows from each of `senders` to each of `receivers` by each of `services` that are `allowed` afterwards and were
    not before, or the other way round. From an Interface to itself there is none."""

    allowed: bool
    senders: tuple[End, ...]
    receivers: tuple[End, ...]
    services: tuple[Service, ...]

    def pairs(self) -> Iterator[tuple[End, End]]:
        return (
            (sender, receiver) for sender in self.senders for receiver in self.receivers if _is_pair(sender, receiver)
        )

    @property
    def count(self) -> int:
        return sum(1 for _ in self.pairs()) * len(self.services)


@dataclass(frozen=True, slots=True)
class Plan:
    """`isolated` are those that a policy isolates afterwards, in a direction in which none did before; `released`
    those that none isolates any more."""

    shifts: tuple[Shift, ...] = ()
    isolated: tuple[EndpointKey, ...] = ()
    released: tuple[EndpointKey, ...] = ()


def plan_change(before: Snapshot, after: Snapshot) -> Plan:
    """Everything that differs; in an order that is the same each time."""
    blocks = frozenset(_blocks_of(before)) | frozenset(_blocks_of(after))
    views = _View(before), _View(after)
    services = _services(before, after)
    shifts: list[Shift] = []
    for domain in sorted({key.domain for key in before.endpoints.keys() & after.endpoints.keys()}):
        shifts += _Comparison(domain, views, services, blocks).shifts()
    isolated, was = views[1].isolated(), views[0].isolated()
    return Plan(
        tuple(shifts),
        tuple(sorted(key for key, directions in isolated.items() if directions - was.get(key, frozenset()))),
        tuple(sorted(key for key in was if key in after.endpoints and key not in isolated)),
    )


_Selected = tuple[PolicyKey, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """All that policies can tell of an end, in one snapshot: which isolate it, which peers it is, and which numbers its
    port names stand for."""

    out: _Selected
    into: _Selected
    peers: frozenset[int]
    named: frozenset[tuple[str, Protocol, int]]


class _View:
    """One of the two snapshots, with what is looked up often. Endpoints that no selector can tell apart are asked about
    once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._keys = frozenset(_mentioned(snapshot.policies.values()))
        self._in_namespace: dict[str, dict[PolicyKey, NetworkPolicy]] = defaultdict(dict)
        self._peers: dict[Hashable, tuple[int, NetworkPolicy, Peer]] = {}
        for key, policy in sorted(snapshot.policies.items()):
            self._in_namespace[key.namespace][key] = policy
            for direction in policy.spec.types:
                for rule in policy.rules(direction):
                    for peer in rule.peers:
                        self._peers.setdefault(_peer_key(policy, peer), (len(self._peers), policy, peer))
        self._owners: dict[tuple[L2Domain, IpAddress], list[Endpoint]] = defaultdict(list)
        for endpoint in snapshot.endpoints.values():
            for address in endpoint.addresses:
                self._owners[endpoint.domain, address].append(endpoint)
        self._selected: dict[Hashable, dict[Direction, _Selected]] = {}
        self._peer_of: dict[Hashable, frozenset[int]] = {}
        self._rulings: dict[Hashable, bool] = {}

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

    def kind(self, end: End) -> _Kind:
        endpoint = self._snapshot.endpoints[end.endpoint] if end.endpoint else None
        owners = self._owners.get((end.domain, end.address), ())
        selected = self._select(endpoint) if endpoint else {Direction.EGRESS: (), Direction.INGRESS: ()}
        peers = frozenset(
            number
            for number, _, peer in self._peers.values()
            if isinstance(peer, IpBlock)
            and end.address in peer.cidr
            and not any(end.address in each for each in peer.excepts)
        )
        for owner in owners:
            peers |= self._peers_of(owner)
        named = frozenset(
            (port.name, port.protocol, port.number)
            for owner in owners
            for port in self._snapshot.workload(owner.workload).ports
        )
        out, into = selected[Direction.EGRESS], selected[Direction.INGRESS]
        return _Kind(out, into, peers, named)

    def allows(self, sender: tuple[End, _Kind], receiver: tuple[End, _Kind], service: Service) -> bool:
        """What the oracle says of one of each kind."""
        (source, own), (target, other) = sender, receiver
        family = source.address.version
        return self._ruling(
            (family, Direction.EGRESS, own.out, other.peers, other.named, service),
            not own.out,
            source,
            target,
            service,
            Direction.EGRESS,
        ) and self._ruling(
            (family, Direction.INGRESS, other.into, own.peers, other.named, service),
            not other.into,
            source,
            target,
            service,
            Direction.INGRESS,
        )

    def _ruling(
        self, key: Hashable, free: bool, source: End, target: End, service: Service, direction: Direction
    ) -> bool:
        if free:
            return True
        known = self._rulings.get(key)
        if known is None:
            known = self._rulings[key] = self._evaluate(source, target, service, direction)
        return known

    def _evaluate(self, source: End, target: End, service: Service, direction: Direction) -> bool:
        """One end's ruling, among those only who have the two addresses."""
        own = source.endpoint if direction is Direction.EGRESS else target.endpoint
        assert own is not None  # nothing isolates what is outside
        there = {each.key: each for end in (source, target) for each in self._owners.get((end.domain, end.address), ())}
        endpoint = self._snapshot.endpoints[own]
        small = self._among({**there, own: endpoint}, endpoint.workload.namespace)
        sender, receiver = (own, None) if direction is Direction.EGRESS else (None, own)
        packet = Packet(
            source.domain, source.address, target.address, service.protocol, service.first, sender, receiver
        )
        return evaluate(small, packet).allowed

    def _among(self, endpoints: Mapping[EndpointKey, Endpoint], namespace: str) -> Snapshot:
        return replace(self._snapshot, endpoints=endpoints, policies=self._in_namespace.get(namespace, {}))

    def _select(self, endpoint: Endpoint) -> dict[Direction, _Selected]:
        profile = self._profile(endpoint)
        known = self._selected.get(profile)
        if known is None:
            small = self._among({}, endpoint.workload.namespace)
            known = self._selected[profile] = {
                direction: tuple(policy.key for policy in selecting(small, endpoint, direction))
                for direction in Direction
            }
        return known

    def _peers_of(self, owner: Endpoint) -> frozenset[int]:
        """The peers that the workload is, whatever its address."""
        profile = self._profile(owner)
        known = self._peer_of.get(profile)
        if known is None:
            address: IpAddress = IPv4Address(0)
            small = self._among({owner.key: replace(owner, addresses=frozenset({address}))}, "")
            known = self._peer_of[profile] = frozenset(
                number
                for number, policy, peer in self._peers.values()
                if not isinstance(peer, IpBlock) and is_peer(small, policy, peer, owner.domain, address)
            )
        return known

    def _profile(self, endpoint: Endpoint) -> Hashable:
        labels = self._snapshot.workload(endpoint.workload).labels
        return (
            endpoint.workload.namespace,
            endpoint.network,
            endpoint.attached_as,
            frozenset((key, value) for key, value in labels.items() if key in self._keys),
        )


class _Comparison:
    """One L2 domain, before and after."""

    def __init__(
        self,
        domain: L2Domain,
        views: tuple[_View, _View],
        services: tuple[Service, ...],
        blocks: frozenset[IpNetwork],
    ) -> None:
        self._domain = domain
        self._views = views
        self._services = services
        self._kinds: dict[tuple[int, bool, _Kind, _Kind], list[End]] = defaultdict(list)
        for end in self._guests():
            self._kinds[self._kind(end)].append(end)
        for end in self._strangers(blocks):
            # One stands for all of its kind.
            self._kinds.setdefault(self._kind(end), [end])

    def shifts(self) -> Iterator[Shift]:
        """Merged, so that each kind of flow is told once."""
        found: dict[tuple[bool, tuple[Service, ...], tuple[End, ...]], list[End]] = defaultdict(list)
        for (family, guest, *sending), senders in self._kinds.items():
            for (other_family, other_guest, *receiving), receivers in self._kinds.items():
                if family != other_family or not (guest or other_guest):
                    continue
                pair = next(((a, b) for a in senders for b in receivers if _is_pair(a, b)), None)
                if pair is None:
                    continue
                for allowed, services in self._changed(pair, sending, receiving).items():
                    found[allowed, services, tuple(receivers)] += senders
        merged: dict[tuple[bool, tuple[Service, ...], tuple[End, ...]], list[End]] = defaultdict(list)
        for (allowed, services, to), gathered in found.items():
            merged[allowed, services, _sorted(gathered)] += to
        shifts = [
            Shift(allowed, origins, _sorted(gathered), services)
            for (allowed, services, origins), gathered in merged.items()
        ]
        return iter(sorted(shifts, key=_order))

    def _changed(
        self, pair: tuple[End, End], sending: list[_Kind], receiving: list[_Kind]
    ) -> dict[bool, tuple[Service, ...]]:
        """By what is so afterwards."""
        changed: dict[bool, list[Service]] = defaultdict(list)
        for service in self._services:
            was, is_now = (
                view.allows((pair[0], own), (pair[1], other), service)
                for view, own, other in zip(self._views, sending, receiving, strict=True)
            )
            if was != is_now:
                changed[is_now].append(service)
        return {allowed: tuple(services) for allowed, services in changed.items()}

    def _kind(self, end: End) -> tuple[int, bool, _Kind, _Kind]:
        before, after = self._views
        return end.address.version, end.endpoint is not None, before.kind(end), after.kind(end)

    def _guests(self) -> Iterator[End]:
        before, after = self._views
        for endpoint in before.endpoints_in(self._domain):
            also = after.endpoint(endpoint.key)
            for address in sorted(endpoint.addresses & (also.addresses if also else frozenset()), key=int):
                yield End(self._domain, address, endpoint.key)

    def _strangers(self, blocks: Iterable[IpNetwork]) -> Iterator[End]:
        for address in (*STRANGERS[4], *STRANGERS[6], *_samples(blocks)):
            if not any(view.owned(self._domain, address) for view in self._views):
                yield End(self._domain, address)


def _is_pair(sender: End, receiver: End) -> bool:
    """Whether there can be a flow between them over a wire."""
    if sender.address == receiver.address or sender.address.version != receiver.address.version:
        return False
    return sender.endpoint is None or sender.endpoint != receiver.endpoint


def _samples(blocks: Iterable[IpNetwork]) -> Iterator[IpAddress]:
    """Blocks lie within one another or apart, so each combination of them begins at one's first address, or behind
    one's last. A few more of each, for those that guests have."""
    for block in sorted(blocks, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        build = IPv4Address if block.version == 4 else IPv6Address
        first, last, highest = int(block.network_address), int(block.broadcast_address), 2**block.max_prefixlen - 1
        starts = (first + 1, first, *range(first + 2, first + 17), last, last - 1, *range(last + 1, last + 17))
        yield from (build(each) for each in starts if 0 <= each <= highest)


def _blocks_of(snapshot: Snapshot) -> Iterator[IpNetwork]:
    for policy in snapshot.policies.values():
        for direction in policy.spec.types:
            for rule in policy.rules(direction):
                for peer in rule.peers:
                    if isinstance(peer, IpBlock):
                        yield from (peer.cidr, *peer.excepts)


def _services(*snapshots: Snapshot) -> tuple[Service, ...]:
    """ICMP, and for each protocol the spans between the numbers at which something begins or ends."""
    spans: dict[Protocol, set[tuple[int, int]]] = {protocol: set() for protocol in Protocol}
    for snapshot in snapshots:
        for policy in snapshot.policies.values():
            for direction in policy.spec.types:
                for port in (port for rule in policy.rules(direction) for port in rule.ports):
                    if isinstance(port.port, int):
                        spans[port.protocol].add((port.port, port.end or port.port))
        for workload in snapshot.workloads.values():
            for named in workload.ports:
                spans[named.protocol].add((named.number, named.number))
    return (Service(), *(each for protocol, known in spans.items() for each in _atoms(protocol, known)))


def _atoms(protocol: Protocol, spans: set[tuple[int, int]]) -> Iterator[Service]:
    """The last of them stands for all that no span has."""
    starts = sorted({0, *(first for first, _ in spans), *(last + 1 for _, last in spans)})
    rest: int | None = None
    for first, following in zip(starts, [*starts[1:], LAST_PORT + 1], strict=True):
        if first > LAST_PORT:
            continue
        if any(start <= first <= end for start, end in spans):
            yield Service(protocol, first, following - 1)
        else:
            rest = following - 1
    if rest is not None:
        yield Service(protocol, rest, rest, rest=True)


def _peer_key(policy: NetworkPolicy, peer: Peer) -> Hashable:
    """The same for peers that mean the same."""
    if isinstance(peer, IpBlock):
        return peer
    return peer, policy.meta.namespace if peer.namespaces is None else "", policy.networks, policy.kind


def _mentioned(policies: Iterable[NetworkPolicy]) -> Iterator[str]:
    """The keys of workloads' labels that any selector looks at."""
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
            yield from (key for key, _ in selector.labels)
            yield from (each.key for each in selector.requirements)


def _sorted(ends: Iterable[End]) -> tuple[End, ...]:
    return tuple(sorted(ends, key=End.order))


def _order(shift: Shift) -> tuple[object, ...]:
    ends = [tuple(each.order() for each in ends) for ends in (shift.receivers, shift.senders)]
    return (shift.allowed, *ends, tuple(map(str, shift.services)))
