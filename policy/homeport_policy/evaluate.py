"""The oracle: may this packet pass? Naive on purpose, so that it can be checked against the text by reading.

The text is the NetworkPolicy v1 API and the multi-network-policy specification. The compiler shares nothing with this
module but the objects; tests hold the two together. A verdict is for the first packet of a connection: replies to it
pass, as do ICMP errors about it, ARP, neighbour discovery and group membership (IGMP, MLD).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    NetworkPolicy,
    Peer,
    PolicyKey,
    PolicyKind,
    PolicyPort,
    PolicyRule,
)
from homeport_api.selector import Selector
from homeport_api.workload import Protocol
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection in one L2 domain. `sender` is the guest whose port it comes from, `receiver` the
    guest whose port it goes to; None where that end is outside. `protocol` and `port` None: one without ports, such as
    an ICMP echo request."""

    domain: L2Domain
    source: IpAddress
    target: IpAddress
    protocol: Protocol | None = None
    port: int | None = None
    sender: EndpointKey | None = None
    receiver: EndpointKey | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """Why one end allows a packet or not. `rule` counts from 0. Without a `policy` it is allowed when nothing isolates
    this end, and else denied by all in `isolated_by` together."""

    allowed: bool
    policy: PolicyKey | None = None
    rule: int | None = None
    isolated_by: tuple[PolicyKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Both ends must allow it. None: that end is not a guest's, or is not asked."""

    egress: Ruling | None
    ingress: Ruling | None

    @property
    def allowed(self) -> bool:
        return all(ruling.allowed for ruling in (self.egress, self.ingress) if ruling is not None)


def evaluate(snapshot: Snapshot, packet: Packet) -> Decision:
    """The sender's egress and the receiver's ingress. What a node sends to guests on itself is not asked there, so that
    it can always reach them."""
    sender = snapshot.endpoints[packet.sender] if packet.sender else None
    receiver = snapshot.endpoints[packet.receiver] if packet.receiver else None
    egress = _rule(snapshot, packet, sender, Direction.EGRESS) if sender else None
    if receiver is None or (sender is not None and sender.node):
        return Decision(egress, None)
    return Decision(egress, _rule(snapshot, packet, receiver, Direction.INGRESS))


def selecting(snapshot: Snapshot, own: Endpoint, direction: Direction) -> tuple[NetworkPolicy, ...]:
    """The policies that isolate an endpoint in a direction, in the order of their keys."""
    policies = [snapshot.policies[key] for key in sorted(snapshot.policies)]
    if own.workload in snapshot.doubted_workloads:
        return tuple(policy for policy in policies if policy.meta.namespace == own.workload.namespace)
    return tuple(policy for policy in policies if direction in policy.spec.types and _applies(snapshot, policy, own))


def _rule(snapshot: Snapshot, packet: Packet, own: Endpoint, direction: Direction) -> Ruling:
    policies = selecting(snapshot, own, direction)
    if not policies:
        return Ruling(True)
    for policy in policies if own.workload not in snapshot.doubted_workloads else ():
        for number, rule in enumerate(policy.rules(direction)):
            if _allows(snapshot, policy, rule, packet, direction):
                return Ruling(True, policy.key, number)
    return Ruling(False, isolated_by=tuple(policy.key for policy in policies))


def _applies(snapshot: Snapshot, policy: NetworkPolicy, own: Endpoint) -> bool:
    """Same namespace, selected by its labels, and on a Network that the policy speaks of."""
    if policy.meta.namespace != own.workload.namespace:
        return False
    if not policy.spec.selector.selects(snapshot.workload(own.workload).labels):
        return False
    if policy.everywhere:
        return True
    if policy.kind is PolicyKind.NETWORK_POLICY and not policy.networks:
        return snapshot.takes_all(own.network)
    return _speaks_of(policy, own)


def _speaks_of(policy: NetworkPolicy, endpoint: Endpoint) -> bool:
    """Whether one of the networks it names is the endpoint's: the definition it was attached through, else its
    Network."""
    if policy.kind is PolicyKind.MULTI_NETWORK_POLICY and endpoint.attached_as is not None:
        return endpoint.attached_as in policy.networks
    return any(name == endpoint.network for _, name in policy.networks)


def _allows(snapshot: Snapshot, policy: NetworkPolicy, rule: PolicyRule, packet: Packet, direction: Direction) -> bool:
    other = packet.source if direction is Direction.INGRESS else packet.target
    peers = not rule.peers or any(is_peer(snapshot, policy, peer, packet.domain, other) for peer in rule.peers)
    return peers and (not rule.ports or any(_is_port(snapshot, port, packet) for port in rule.ports))


def is_peer(snapshot: Snapshot, policy: NetworkPolicy, peer: Peer, domain: L2Domain, address: IpAddress) -> bool:
    if isinstance(peer, IpBlock):
        return address in peer.cidr and not any(address in block for block in peer.excepts)
    for endpoint in _owners(snapshot, domain, address):
        labels = snapshot.workload(endpoint.workload).labels
        if policy.networks and not _speaks_of(policy, endpoint):
            continue
        if peer.namespaces is None and endpoint.workload.namespace != policy.meta.namespace:
            continue
        if peer.namespaces is not None and not _selects(snapshot, peer.namespaces, endpoint.workload.namespace):
            continue
        if peer.workloads is None or peer.workloads.selects(labels):
            return True
    return False


def _selects(snapshot: Snapshot, selector: Selector, namespace: str) -> bool:
    return namespace not in snapshot.doubted_namespaces and selector.selects(snapshot.namespace(namespace))


def _is_port(snapshot: Snapshot, port: PolicyPort, packet: Packet) -> bool:
    if packet.protocol is not port.protocol or packet.port is None:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, int):
        return port.port <= packet.port <= (port.end or port.port)
    return any(
        (named.name, named.protocol, named.number) == (port.port, packet.protocol, packet.port)
        for endpoint in _owners(snapshot, packet.domain, packet.target)
        for named in snapshot.workload(endpoint.workload).ports
    )


def _owners(snapshot: Snapshot, domain: L2Domain, address: IpAddress) -> Iterator[Endpoint]:
    """Whoever has the address in the domain: several, where it is an address that they share. Nobody whose labels are
    in doubt."""
    return (
        endpoint
        for endpoint in snapshot.endpoints.values()
        if endpoint.domain == domain
        and address in endpoint.addresses
        and endpoint.workload not in snapshot.doubted_workloads
    )
