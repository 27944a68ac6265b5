"""Compiled rules against the oracle, and changes against a fresh start."""

import pytest

from homeport_policy.compile import Compiler, compile_snapshot
from homeport_policy.snapshot import Snapshot
from tests.policy.worlds import Dice, World, changes

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
