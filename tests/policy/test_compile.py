"""Compiled rules against the oracle, and changes against a fresh start."""

from collections.abc import Callable

import pytest

from homeport_api.network import PolicyScope
from homeport_policy.compile import Compiler, compile_snapshot
from homeport_policy.snapshot import Snapshot
from tests.policy.worlds import Dice, World

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


def changes(compiler: Compiler, before: Snapshot, after: Snapshot) -> list[Callable[[], None]]:
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
        steps.append(lambda key=workload: compiler.drop_workload(key))
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
