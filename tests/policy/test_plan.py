"""Which flows a change would allow or deny: against oracle and compiled rules, one by one."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from homeport_api.interface import InterfaceKey
from homeport_api.workload import NamedPort
from homeport_policy.plan import Plan, plan_change
from homeport_policy.snapshot import Snapshot
from tests.policy.plans import change, covers, packet_of, packets
from tests.policy.records import interface, known
from tests.policy.worlds import Dice

WORLDS = 25


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
