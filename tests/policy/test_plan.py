"""Which flows a change would allow or deny: against oracle and compiled rules, one by one."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from homeport_api.addresses import IpAddress
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import IpBlock
from homeport_api.workload import NamedPort, Protocol
from homeport_policy.evaluate import Packet
from homeport_policy.plan import Plan, Shift, plan_change
from homeport_policy.probes import End, Service
from homeport_policy.snapshot import EndpointKey, Snapshot
from tests.policy.records import interface, known
from tests.policy.worlds import FOUR, NUMBERS, SIX, ZONES, Dice, World

WORLDS = 25


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


@pytest.mark.parametrize("part", range(4))
def test_every_flow_of_a_plan_changes_for_the_oracle_and_in_the_rules(part: int) -> None:
    told = {True: 0, False: 0}
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        before, after = change(seed)
        for shift in plan_change(before.snapshot, after.snapshot).shifts:
            assert shift.count == len(list(shift.pairs())) * len(shift.services) > 0
            for sender, receiver in shift.pairs():
                for service in shift.services:
                    packet = packet_of(sender, receiver, service)
                    was, is_now = before.should_allow(packet), after.should_allow(packet)
                    assert (was, is_now) == (not shift.allowed, shift.allowed), f"seed {seed}: {packet}"
                    assert (before.allows(packet), after.allows(packet)) == (was, is_now), f"seed {seed}: {packet}"
                    told[is_now] += 1
    assert min(told.values()) > WORLDS


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


@pytest.mark.parametrize("part", range(4))
def test_every_flow_that_changes_is_in_the_plan(part: int) -> None:
    found = 0
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        before, after = change(seed)
        plan = plan_change(before.snapshot, after.snapshot)
        told = {(each.protocol, each.first, each.last) for shift in plan.shifts for each in shift.services}
        for packet in packets(before.snapshot):
            was, is_now = before.should_allow(packet), after.should_allow(packet)
            shifts = [shift for shift in plan.shifts if covers(shift, packet, (before.snapshot, after.snapshot))]
            if was != is_now:
                assert shifts, f"seed {seed}: {packet} is missing among {told}"
                assert all(shift.allowed == is_now for shift in shifts)
                found += 1
    assert found > WORLDS


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


def test_nothing_changes_where_nothing_does() -> None:
    for seed in range(40):
        snapshot = Dice(seed).snapshot()
        assert plan_change(snapshot, snapshot) == Plan()


NETWORK = """\
{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: blue}, spec: {type: L2}}
"""
POLICY = """\
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db, namespace: shop}, spec: {
  podSelector: {matchLabels: {app: db}}, ingress: [
    {from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: pg}, {port: 8000, endPort: 8010}]},
    {from: [{ipBlock: {cidr: 10.9.0.0/16, except: [10.9.1.0/24]}}]}]}}
"""


def world(policies: str = "", guests: int = 4) -> Snapshot:
    names = ["db", *(f"web{number}" for number in range(guests - 1))]
    manifests = NETWORK + "".join(interface(f"shop/{name}-eth0", "blue", name) for name in names) + policies
    return known(
        manifests,
        {f"shop/{name}-eth0": (f"10.{at // 250}.{at % 250}.1/8",) for at, name in enumerate(names)},
        {f"shop/{name}": {"app": name.rstrip("0123456789")} for name in names},
        {"shop/db": (NamedPort("pg", 5432),)},
    ).snapshot()


def test_guests_that_no_policy_tells_apart_are_told_together() -> None:
    plan = plan_change(world(), world(POLICY))
    told = [
        (
            sorted(each.endpoint.interface.name if each.endpoint else str(each.address) for each in shift.senders),
            sorted(map(str, shift.services)),
        )
        for shift in plan.shifts
    ]
    others = ["ICMP", "other sctp ports", "other tcp ports", "other udp ports"]
    assert told == [
        (["web0-eth0", "web1-eth0", "web2-eth0"], others),
        (["198.51.100.1"], sorted([*others, "5432/tcp", "8000-8010/tcp"])),
    ]
    assert not any(shift.allowed for shift in plan.shifts)
    assert [key.interface for key in plan.isolated] == [InterfaceKey("shop", "db-eth0")]
    back = plan_change(world(POLICY), world())
    assert [replace(shift, allowed=False) for shift in back.shifts] == list(plan.shifts)
    assert (back.isolated, back.released) == ((), plan.isolated)


def test_an_exception_stands_for_itself_where_it_is_one_only_afterwards() -> None:
    wide = POLICY.replace(", except: [10.9.1.0/24]", "")
    (shift,) = plan_change(world(wide), world(POLICY)).shifts
    assert ([str(each.address) for each in shift.senders], shift.allowed) == (["10.9.1.1"], False)


def test_many_guests_are_judged_by_kind() -> None:
    """A thousand, of which a pair each would take minutes."""
    plan = plan_change(world(guests=1000), world(POLICY, guests=1000))
    assert len(plan.shifts) == 2
    assert plan.shifts[0].count == 999 * len(plan.shifts[0].services)


def test_what_stands_for_the_rest_of_a_block_is_no_guests() -> None:
    guests = {ip_address(f"10.9.0.{number}") for number in range(5)}
    before = world()
    (key, endpoint) = next(iter(before.endpoints.items()))
    before = replace(before, endpoints={**before.endpoints, key: replace(endpoint, addresses=frozenset(guests))})
    after = replace(before, policies=world(POLICY.replace("app: db", "app: web")).policies)
    outside = {end.address for shift in plan_change(before, after).shifts for end in shift.senders if not end.endpoint}
    assert outside and not outside & guests
