"""Compiled rules against the oracle, and changes against a fresh start."""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from ipaddress import ip_network

import pytest

from homeport_api.meta import ObjectMeta
from homeport_api.networkpolicy import (
    Direction,
    IpBlock,
    NetworkPolicy,
    PolicyKind,
    PolicyPort,
    PolicyRule,
    PolicySpec,
    WorkloadPeer,
)
from homeport_api.selector import EVERYTHING
from homeport_policy.chains import policy_chain
from homeport_policy.compile import Compiler, compile_snapshot
from homeport_policy.snapshot import Snapshot
from tests.policy.worlds import BLUE, Dice, World, changes

WORLDS, PACKETS, CHAINS = 100, 20, 25


@pytest.mark.parametrize("part", range(8))
def test_compiled_rules_and_oracle_agree(part: int) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(part * WORLDS, (part + 1) * WORLDS):
        dice = Dice(seed)
        world = World(dice.snapshot())
        for _ in range(PACKETS):
            packet = dice.packet(world.snapshot)
            wanted = world.should_allow(packet)
            assert world.allows(packet) == wanted, f"seed {seed}: {packet}"
            verdicts[wanted] += 1
    assert min(verdicts.values()) > WORLDS, "both verdicts are common"


@pytest.mark.parametrize("part", range(4))
def test_changes_lead_to_what_a_fresh_start_makes(part: int) -> None:
    """Each snapshot after the other in one compiler, in a random order of the changes and looked at in between."""
    for seed in range(part * CHAINS, (part + 1) * CHAINS):
        dice, compiler, before = Dice(seed), Compiler(), Snapshot()
        for _ in range(3):
            after = dice.snapshot()
            steps = [*changes(compiler, before, after)]
            dice.random.shuffle(steps)
            for step in steps:
                step()
                if dice.chance(0.2):
                    compiler.program()
            assert compiler.program() == compile_snapshot(after), f"seed {seed}"
            before = after


def held(value: object) -> int:
    """How many things there are in a compiler, and in all that it is made of."""
    if isinstance(value, Mapping):
        return sum(1 + held(key) + held(each) for key, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(1 + held(each) for each in value)
    if isinstance(value, Enum):
        return 0
    names = [*vars(value)] if hasattr(value, "__dict__") else getattr(type(value), "__slots__", ())
    return sum(held(getattr(value, name)) for name in names if type(value).__module__.startswith("homeport_"))


def test_nothing_remains_of_what_went() -> None:
    """Namespaces and workloads come and go for as long as an agent lives."""
    compiler = Compiler()
    empty = held(compiler)
    for seed in range(20):
        snapshot = replace(Dice(seed).snapshot(), scopes={}, zones={})
        for step in changes(compiler, Snapshot(), snapshot):
            step()
        compiler.program()
        assert held(compiler) > empty + 50, f"seed {seed}"
        for step in changes(compiler, snapshot, Snapshot()):
            step()
        assert not compiler.program().chains
        assert held(compiler) == empty, f"seed {seed}"


ANYTHING = PolicyRule()
HTTP, DNS = (PolicyRule((), (PolicyPort(port=port),)) for port in (80, 53))
LAN = PolicyRule((IpBlock(ip_network("192.0.2.0/24")),))
FRIENDS = PolicyRule((WorkloadPeer(workloads=EVERYTHING),))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        pytest.param((HTTP, DNS, HTTP), [0, 1], id="the same again"),
        pytest.param((FRIENDS, LAN, FRIENDS, LAN), [0, 0, 1], id="the same peers again"),
        pytest.param((LAN, ANYTHING, HTTP, FRIENDS), [0, 1], id="behind one that allows everything"),
        pytest.param((ANYTHING,) * 1000, [0], id="everything a thousand times"),
        pytest.param((LAN, HTTP, DNS), [0, 1, 2], id="all different"),
    ],
)
def test_what_was_allowed_before_is_left_out(
    direction: Direction, rules: tuple[PolicyRule, ...], kept: list[int]
) -> None:
    spec = PolicySpec(types=frozenset({direction}), ingress=rules, egress=rules)
    made = policy_chain(NetworkPolicy(PolicyKind.NETWORK_POLICY, ObjectMeta("p", "shop"), spec), direction, BLUE)
    name = made.chain.name
    assert [rule.counter for rule in made.chain.rules] == [f"{name}_{number}" for number in kept]
    assert {counter: counted.rule for counter, counted in made.counters.items()} == {
        f"{name}_{number}": number for number in kept
    }
