"""Updates on a table in memory: what stays is not touched, and any table becomes any other in one transaction."""

import re

import pytest

from homeport_policy import guards
from homeport_policy.compile import compile_snapshot
from homeport_policy.program import NOTHING
from homeport_policy.render import fingerprints, render
from homeport_policy.snapshot import Snapshot
from homeport_policy.update import Present, is_of_program, plan_update, present_of
from tests.policy.worlds import Dice


@pytest.mark.parametrize("seed", range(40))
def test_an_update_is_what_differs(seed: int) -> None:
    dice = Dice(seed)
    before, after = (compile_snapshot(dice.snapshot()) for _ in range(2))
    lines = plan_update(present_of(before), after, "homeport").decode().splitlines()
    made = {found.group(2) for line in lines if (found := re.match(r"add (chain|set) bridge homeport (\S+)", line))}
    gone = {found.group(2) for line in lines if (found := re.match(r"delete (chain|set) bridge homeport (\S+)", line))}
    assert made == (after.chains.keys() | after.sets.keys()) - (before.chains.keys() | before.sets.keys())
    assert gone == (before.chains.keys() | before.sets.keys()) - (after.chains.keys() | after.sets.keys())
    assert all(is_of_program(name) for name in made | gone)
    assert plan_update(present_of(after), after, "homeport") == b""
    assert plan_update(present_of(NOTHING), NOTHING, "homeport") == plan_update(Present(), NOTHING, "homeport") == b""


def test_a_chain_that_somebody_changed_is_made_anew() -> None:
    program = next(made for seed in range(99) if (made := compile_snapshot(Dice(seed).snapshot())).chains)
    name = next(iter(program.chains))
    present = present_of(program)
    chains = {**fingerprints(program.chains.values()), name: ()}
    changed = Present(chains, present.sets, present.maps, present.isolated, present.counters)
    limit, first, second, *rules = plan_update(changed, program, "homeport").decode().splitlines()
    assert limit.startswith("add limit bridge homeport denials ")
    assert (first, second) == (f"add chain bridge homeport {name}", f"flush chain bridge homeport {name}")
    assert all(line.startswith(f"add rule bridge homeport {name} ") for line in rules)


def test_nothing_remains_of_a_program() -> None:
    for seed in range(40):
        program = compile_snapshot(Dice(seed).snapshot())
        lines = plan_update(present_of(program), compile_snapshot(Snapshot()), "homeport").decode().splitlines()
        for kind, names in (("chain", program.chains), ("set", program.sets), ("counter", program.counters)):
            assert {line for line in lines if line.startswith(f"delete {kind} ")} == {
                f"delete {kind} bridge homeport {name}" for name in names
            }


def test_all_denials_share_one_limit_beside_their_own() -> None:
    """A flood leaves room for the others', and many floods are no more than the limit."""
    program = next(made for seed in range(99) if len((made := compile_snapshot(Dice(seed).snapshot())).ports) > 2)
    lines = plan_update(present_of(NOTHING), program, "homeport").decode().splitlines()
    limit = "add limit bridge homeport denials { rate 100/second burst 200 packets; }"
    logging = [line for line in lines if " log prefix " in line]
    assert len(logging) > 2
    assert all(" limit rate 10/second burst 20 packets limit name denials log prefix " in line for line in logging)
    assert lines.index(limit) < lines.index(logging[0])
    for tracking in (True, False):
        assert (limit in render(guards.base(tracking=tracking)).decode().splitlines()) == tracking
