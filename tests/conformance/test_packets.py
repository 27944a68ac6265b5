"""Random worlds on the real table, with real packets: what the oracle says is what the kernel does."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance import fabric as switches
from tests.conformance.__main__ import judge_folder
from tests.conformance.fabric import Fabric, shell_of
from tests.conformance.literal import ONLY_WEB, SHUT, case, expect, policy, write
from tests.conformance.memory import Judgement, judge_scenes
from tests.conformance.plan import compare, new_numbers, plan_run
from tests.conformance.scene import BYSTANDER, Layout
from tests.conformance.sessions import compare_sessions, plan_sessions
from tests.conformance.tally import Tally
from tests.conformance.traces import compare_traces, plan_traces
from tests.conformance.volley import Heard, Record, Run
from tests.conformance.worlds import PORTS, change_of, scene_of
from tests.policy.plans import covers

WORLDS = 50
CHANGES = 25
NUMBERS = new_numbers()
_WITNESS = b"""
add table inet witness
add counter inet witness seen
add chain inet witness forward { type filter hook forward priority 0; }
add rule inet witness forward counter name seen
"""


@pytest.fixture(scope="module")
def fabric(vlan_kernel: None) -> Iterator[Fabric]:
    with switches.build((*PORTS, BYSTANDER)) as made:
        yield made


@pytest.fixture(scope="module")
def worlds() -> list[Judgement]:
    """One after the other in one compiler, and on one running table."""
    return list(judge_scenes(scene_of(seed) for seed in range(WORLDS)))


def played(fabric: Fabric, run: Run) -> Record:
    *_, record = fabric.play(run)
    assert isinstance(record, Record)
    return record


def planned(judgements: Sequence[Judgement], layout: Layout, *, br_netfilter: bool) -> Run:
    return plan_run("packets", judgements, layout, br_netfilter=br_netfilter, ports=PORTS, numbers=NUMBERS)


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["", "br_netfilter"])
@pytest.mark.parametrize("layout", Layout)
def test_oracle_and_kernel_agree(layout: Layout, br_netfilter: bool, fabric: Fabric, worlds: list[Judgement]) -> None:
    run = planned(worlds, layout, br_netfilter=br_netfilter)
    record = played(fabric, run)
    assert not [*map(str, compare(run, record, worlds, layout))]
    allowed = [question.allowed for judgement in worlds for question in judgement.scene.questions]
    print(f"{len(allowed)} verdicts on packets in {record.seconds:.1f} s")
    assert min(allowed.count(True), allowed.count(False)) > 4 * WORLDS, "both verdicts are common"


@pytest.mark.parametrize("layout", Layout)
def test_a_trace_says_what_becomes_of_a_packet(layout: Layout, fabric: Fabric, worlds: list[Judgement]) -> None:
    run = plan_traces(worlds, layout)
    assert sum(len(volley.numbers) for volley in run.volleys) > 500
    assert not [*map(str, compare_traces(run, played(fabric, run), worlds, layout))]


def test_a_trace_of_a_table_that_was_changed_disagrees(fabric: Fabric, worlds: list[Judgement]) -> None:
    """A table that asks no receiver: its packets pass, and no trace says so."""
    run = plan_traces(worlds[:10], Layout.ACCESS)
    fewer = [line for line in run.base.splitlines(keepends=True) if b"vmap @ingress" not in line]
    record = played(fabric, replace(run, base=b"".join(fewer)))
    told = [*map(str, compare_traces(run, record, worlds[:10], Layout.ACCESS))]
    assert any("trace says disagree, and it was allowed" in each for each in told)
    assert not any("trace says allowed" in each for each in told)


def test_a_plan_names_the_packets_that_a_change_lets_pass_or_stops(fabric: Fabric) -> None:
    """Each change is made to the running table, and the same packets are sent before and after."""
    changes = [change_of(seed) for seed in range(CHANGES)]
    judgements = list(judge_scenes(scene for each in changes for scene in (each.before, each.after)))
    run = planned(judgements, Layout.ACCESS, br_netfilter=False)
    record = played(fabric, run)
    assert not [*map(str, compare(run, record, judgements, Layout.ACCESS))]
    passed = [
        [number in {number for _, number in sighting.arrivals} for number in volley.numbers]
        for volley, sighting in zip(run.volleys, record.sightings, strict=True)
    ]
    changed = 0
    for each, before, after in zip(changes, passed[::2], passed[1::2], strict=True):
        for question, was, is_now in zip(each.after.questions, before, after, strict=True):
            told = {shift.allowed for shift in each.plan.shifts if covers(shift, question.packet, each.snapshots)}
            assert told == ({is_now} if was != is_now else set()), f"{each.after.id}: {question.text}"
            changed += was != is_now
    assert changed > CHANGES


def test_a_wrong_verdict_of_the_kernel_is_told(fabric: Fabric, worlds: list[Judgement]) -> None:
    """One table that asks no receiver, and one expectation turned round."""
    run = planned(worlds[:10], Layout.ACCESS, br_netfilter=True)
    lines = run.base.splitlines(keepends=True)
    fewer = [line for line in lines if b"vmap @ingress" not in line]
    assert len(fewer) == len(lines) - 1
    careless = replace(run, base=b"".join(fewer))
    told = [*map(str, compare(careless, played(fabric, careless), worlds[:10], Layout.ACCESS))]
    assert any("must be denied, and " in each for each in told)
    assert any("arrived at hp" in each and "ingress denied by" in each for each in told)
    assert "rules at the end are not those applied" in told[-1]

    scene = worlds[0].scene
    first, *others = scene.questions
    turned = replace(worlds[0], scene=replace(scene, questions=(replace(first, allowed=not first.allowed), *others)))
    run = planned([turned], Layout.ACCESS, br_netfilter=False)
    told = [*map(str, compare(run, played(fabric, run), [turned], Layout.ACCESS))]
    assert len(told) == 2 and first.text in told[0] and "must be denied" in told[1]


def test_br_netfilter_is_what_it_is_said_to_be(fabric: Fabric, worlds: list[Judgement]) -> None:
    """On, bridged packets meet the IP hooks of the switch; off, none does."""
    fabric.nft.apply(_WITNESS)
    for on in (False, True):
        run = planned(worlds[:3], Layout.ACCESS, br_netfilter=on)
        assert not [*map(str, compare(run, played(fabric, run), worlds[:3], Layout.ACCESS))]
        listed = shell_of(fabric.switch).run("nft", "list", "counters", "table", "inet", "witness").stdout
        assert ("packets 0 bytes 0" not in listed) == on
    fabric.nft.apply(b"delete table inet witness\n")


@pytest.mark.parametrize("br_netfilter", [False, True], ids=["", "br_netfilter"])
@pytest.mark.parametrize("layout", Layout)
def test_stacks_talk_where_they_may(layout: Layout, br_netfilter: bool, fabric: Fabric, tmp_path: Path) -> None:
    """Replies pass although the other direction is denied, in TCP, UDP and SCTP, between guests and to the outside."""
    out = policy("out", podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"protocol": "TCP"}]}])
    everyway = [
        expect(source, target, allowed, protocol=protocol)
        for protocol in ("TCP", "UDP", "SCTP")
        for source, target, allowed in (
            ("shop/web", "shop/db", True),
            ("shop/db", "ip:203.0.113.7", True),
            ("shop/other", "shop/db", False),
            ("ip:203.0.113.7", "shop/db", False),
        )
    ]
    write(
        tmp_path,
        case("replies", [ONLY_WEB], *everyway),
        case("shut", [SHUT], expect("shop/web", "shop/db", False)),
        case("out", [out], expect("shop/web", "shop/db", True), expect("shop/web", "shop/db", False, protocol="UDP")),
    )
    tally = Tally()
    judgements = judge_folder(tmp_path, "", tally)
    assert not tally.mismatches
    run = plan_sessions("sockets", judgements, layout, br_netfilter=br_netfilter, ports=PORTS)
    record = played(fabric, run)
    assert not [*map(str, compare_sessions(run, record, judgements))]
    assert all(isinstance(each, Heard) and not each.mute for each in record.heard)
    assert sum(len(each.done) for each in record.heard) == 7
