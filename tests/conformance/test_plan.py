"""What was seen, compared with what had to be: the switch itself is left out here."""

from dataclasses import replace
from pathlib import Path

import pytest

from homeport_policy.render import fingerprints
from tests.conformance.__main__ import judge_folder
from tests.conformance.literal import ONLY_WEB, case, expect, write
from tests.conformance.memory import BASE, Judgement
from tests.conformance.plan import FIRST, compare, new_numbers, plan_run
from tests.conformance.scene import UPLINK, Layout
from tests.conformance.tally import Tally
from tests.conformance.volley import WIRE, Record, Run, Sighting


@pytest.fixture
def judgement(tmp_path: Path) -> Judgement:
    """web may speak to db, other may not; db may speak to a host outside."""
    write(
        tmp_path,
        case(
            "own",
            [ONLY_WEB],
            expect("shop/web", "shop/db", True),
            expect("shop/other", "shop/db", False),
            expect("shop/db", "ip:203.0.113.7", True),
        ),
    )
    (judged,) = judge_folder(tmp_path, "", Tally())
    return judged


def planned(judgement: Judgement) -> tuple[Run, Record]:
    """And a record of everything being as it must."""
    ports = sorted(judgement.scene.vlans())
    run = plan_run("access", [judgement], Layout.ACCESS, br_netfilter=False, ports=ports, numbers=new_numbers())
    (volley,) = run.volleys
    compiled = judgement.compiled[Layout.ACCESS]
    arrivals = []
    for question, number in zip(judgement.scene.questions, volley.numbers, strict=True):
        port = judgement.scene.port_of(question.packet.receiver)
        if question.allowed:
            arrivals.append((WIRE if port == UPLINK else port, number))
    counters = dict.fromkeys((*BASE.counters, *compiled.program.counters), 0)
    for judged in compiled.judged:
        for name in judged.counted:
            counters[name] += 1
    rules = fingerprints((*BASE.chains, *compiled.program.chains.values()))
    return run, Record((Sighting((*arrivals, *volley.awaited), counters),), (), rules, 1.0)


def wrong(judgement: Judgement, run: Run, record: Record) -> list[str]:
    return [str(each) for each in compare(run, record, [judgement], Layout.ACCESS)]


def test_everything_as_it_must_be(judgement: Judgement) -> None:
    run, record = planned(judgement)
    assert run.volleys[0].numbers == (FIRST, FIRST + 1, FIRST + 2)
    assert not wrong(judgement, run, record)


def test_a_denied_packet_that_arrives_is_told_with_its_reasons(judgement: Judgement) -> None:
    run, record = planned(judgement)
    (seen,) = record.sightings
    (told,) = wrong(
        judgement, run, replace(record, sightings=(replace(seen, arrivals=(*seen.arrivals, ("hp1", 1025))),))
    )
    assert told.startswith("MISMATCH own [access]: shop/other -> shop/db 5432/TCP must be denied")
    assert "arrived at hp1" in told and "denied by NetworkPolicy shop/only-web" in told


def test_a_packet_that_is_lost_duplicated_or_elsewhere_is_told(judgement: Judgement) -> None:
    run, record = planned(judgement)
    (seen,) = record.sightings
    at = ("hp1", FIRST)
    others = tuple(each for each in seen.arrivals if each != at)
    for arrivals in (others, (*others, at, at), (*others, ("hp2", FIRST)), (*others, at, ("hp2", FIRST))):
        (told,) = wrong(judgement, run, replace(record, sightings=(replace(seen, arrivals=arrivals),)))
        assert "shop/web -> shop/db" in told
    (told,) = wrong(
        judgement, run, replace(record, sightings=(replace(seen, arrivals=(*seen.arrivals, ("hp0", 9999))),))
    )
    assert "frames of other scenes" in told


def test_a_denial_that_was_not_counted_is_told(judgement: Judgement) -> None:
    run, record = planned(judgement)
    (seen,) = record.sightings
    assert seen.counters is not None
    (name,) = (name for name in seen.counters if name.endswith("_denied"))
    told = wrong(judgement, run, replace(record, sightings=(replace(seen, counters={**seen.counters, name: 0}),)))
    assert "1 packets must be denied, and 0 were counted" in told[0]
    told = wrong(judgement, run, replace(record, sightings=(replace(seen, counters={**seen.counters, "tagged": 1}),)))
    assert "counter tagged grew by 1" in told[0]


def test_complaints_and_changed_rules_are_told(judgement: Judgement) -> None:
    run, record = planned(judgement)
    (told,) = wrong(judgement, run, replace(record, sightings=(Sighting(complaint="rules are refused"),)))
    assert "rules are refused" in told
    (told,) = wrong(judgement, run, replace(record, rules={}))
    assert "rules at the end" in told
