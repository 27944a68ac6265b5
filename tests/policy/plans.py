"""Random changes of a world, and which packets a plan of one speaks of."""

from collections.abc import Iterator
from dataclasses import replace

from homeport_api.addresses import IpAddress
from homeport_api.networkpolicy import IpBlock
from homeport_api.workload import Protocol
from homeport_policy.evaluate import Packet
from homeport_policy.plan import Shift
from homeport_policy.probes import End, Service
from homeport_policy.snapshot import EndpointKey, Snapshot
from tests.policy.worlds import FOUR, NUMBERS, SIX, ZONES, Dice, World


def change(seed: int) -> tuple[World, World]:
    """The same guests before and after, all on this node and none of them the node's own; some of what policies know
    of them is changed, and so are some policies."""
    dice = Dice(seed)
    before, other = dice.snapshot(), dice.snapshot()
    endpoints = {
        key: replace(each, port=f"hp{number}", node=False)
        for number, (key, each) in enumerate(before.endpoints.items())
    }
    before = replace(before, endpoints=endpoints)
    kept = {key: each for key, each in before.policies.items() if dice.chance(0.5)}
    workloads = {key: dice.workload() if dice.chance(0.3) else each for key, each in before.workloads.items()}
    after = replace(
        before,
        policies=kept | dict(other.policies),
        workloads=workloads,
        namespaces=other.namespaces if dice.chance(0.2) else before.namespaces,
        scopes=other.scopes if dice.chance(0.2) else before.scopes,
    )
    return World(before), World(after)


def packet_of(sender: End, receiver: End, service: Service) -> Packet:
    return Packet(
        sender.domain,
        sender.address,
        receiver.address,
        service.protocol,
        service.first,
        sender.endpoint,
        receiver.endpoint,
    )


def packets(snapshot: Snapshot) -> Iterator[Packet]:
    """Between all ends there are, on a few ports."""
    for domain in ZONES:
        own = [
            (key, address)
            for key, each in snapshot.endpoints.items()
            if each.domain == domain
            for address in each.addresses
        ]
        taken = {address for _, address in own}
        ends = [*own, *((None, address) for address in (*FOUR, *SIX) if address not in taken)]
        for sender, source in ends:
            for receiver, target in ends:
                apart = source != target and source.version == target.version
                if not apart or sender == receiver:
                    continue
                yield Packet(domain, source, target, None, None, sender, receiver)
                for number in NUMBERS[1::2]:
                    yield Packet(domain, source, target, Protocol.TCP, number, sender, receiver)


def covers(shift: Shift, packet: Packet, snapshots: tuple[Snapshot, ...]) -> bool:
    spans = named(snapshots)
    return (
        any(meant(service, packet, spans) for service in shift.services)
        and shift.senders[0].domain == packet.domain
        and any(stands_for(each, packet.sender, packet.source, snapshots) for each in shift.senders)
        and any(stands_for(each, packet.receiver, packet.target, snapshots) for each in shift.receivers)
    )


def named(snapshots: tuple[Snapshot, ...]) -> set[tuple[Protocol, int]]:
    """The numbers among those asked about that policies or workloads name."""
    found = set()
    for snapshot in snapshots:
        for policy in snapshot.policies.values():
            for rule in (each for direction in policy.spec.types for each in policy.rules(direction)):
                for port in rule.ports:
                    if isinstance(port.port, int):
                        found |= {(port.protocol, number) for number in range(port.port, (port.end or port.port) + 1)}
        for workload in snapshot.workloads.values():
            found |= {(each.protocol, each.number) for each in workload.ports}
    return found


def stands_for(end: End, endpoint: EndpointKey | None, address: IpAddress, snapshots: tuple[Snapshot, ...]) -> bool:
    """An address outside is meant by another that the same peers have."""
    if end.endpoint is not None or endpoint is not None:
        return (end.endpoint, end.address) == (endpoint, address)
    return end.address.version == address.version and all(
        (end.address in block.cidr and not any(end.address in each for each in block.excepts))
        == (address in block.cidr and not any(address in each for each in block.excepts))
        for snapshot in snapshots
        for block in blocks(snapshot)
    )


def blocks(snapshot: Snapshot) -> Iterator[IpBlock]:
    for policy in snapshot.policies.values():
        for direction in policy.spec.types:
            for rule in policy.rules(direction):
                yield from (peer for peer in rule.peers if isinstance(peer, IpBlock))


def meant(service: Service, packet: Packet, all_named: set[tuple[Protocol, int]]) -> bool:
    if service.protocol is not packet.protocol:
        return False
    if packet.port is None or service.first is None or service.last is None:
        return packet.port is service.first
    return service.first <= packet.port <= service.last or (
        service.rest and (packet.protocol, packet.port) not in all_named
    )
