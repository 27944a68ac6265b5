"""From judged scenes to a run of volleys, and from what was seen back to what is wrong. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from homeport_api.workload import Protocol
from homeport_policy import guards
from homeport_policy.program import NOTHING, Program
from homeport_policy.render import fingerprints, render
from homeport_policy.ruleset import Element
from homeport_policy.update import plan_update, present_of
from tests.conformance import frames
from tests.conformance.memory import BASE, Compiled, Judgement
from tests.conformance.scene import (
    BYSTANDER,
    BYSTANDERS_ADDRESS,
    HERE,
    STRANGERS_ADDRESS,
    STRANGERS_MAC,
    UPLINK,
    VLANS,
    Layout,
    Scene,
    mac_of,
)
from tests.conformance.tally import Mismatch, explain
from tests.conformance.volley import WIRE, Record, Run, Sighting, Volley

MARKED, FIRST, LAST = 0, 1024, 65535
_OUT, _IN = 1, 2
_UNHEEDED = frozenset({"muted"})
"""Broadcasts to ports that no guest of the scene has."""


@dataclass(slots=True)
class Rules:
    """One running table of a layout, as scene follows scene."""

    layout: Layout
    elements: frozenset[Element] = frozenset()
    program: Program = NOTHING

    def towards(self, judgement: Judgement) -> bytes:
        """The transaction that takes the table to a scene from the one before."""
        elements, program = judgement.scene.elements(self.layout), judgement.compiled[self.layout].program
        text = render(guards.difference(elements, self.elements))
        text += plan_update(present_of(self.program), program, guards.TABLE)
        self.elements, self.program = elements, program
        return text


def plan_run(
    name: str,
    judgements: Sequence[Judgement],
    layout: Layout,
    *,
    br_netfilter: bool,
    ports: Sequence[str],
    numbers: Iterator[int],
) -> Run:
    """Each scene's rules as a change from the scene before, on one running table. `numbers` goes on from run to run,
    so that a probe is not of a connection that the kernel knows from the run before."""
    rules = Rules(layout)
    volleys = []
    for judgement in judgements:
        scene = judgement.scene
        probes = tuple(_probes(scene, numbers))
        vlans = {**scene.vlans(), BYSTANDER: VLANS[HERE]}
        sent = (*_greetings(vlans), *((end, data) for end, data, _ in probes), *_last(vlans))
        awaited = frozenset({(WIRE, _OUT), (BYSTANDER, _IN), *((port, MARKED) for port in vlans)})
        volleys.append(
            Volley(scene.id, rules.towards(judgement), vlans, sent, awaited, tuple(number for *_, number in probes))
        )
    return Run(name, (*ports, BYSTANDER), layout is Layout.TRUNK, br_netfilter, render(BASE), tuple(volleys))


def new_numbers() -> Iterator[int]:
    """For the probes of one switch."""
    return cycle(range(FIRST, LAST + 1))


def compare(run: Run, record: Record, judgements: Sequence[Judgement], layout: Layout) -> Iterator[Mismatch]:
    """Everything seen that is not what scenes and compiled rules say."""
    counters: dict[str, int] = {}
    for volley, sighting, judgement in zip(run.volleys, record.sightings, judgements, strict=True):
        yield from _compare(run.name, volley, sighting, judgement, layout, counters)
        counters = dict(sighting.counters or {})
    if judgements:
        scene, last = judgements[-1].scene, judgements[-1].compiled[layout].program
        if record.rules != fingerprints((*BASE.chains, *last.chains.values())):
            yield Mismatch(scene.id, scene.file, run.name, "the table's rules at the end are not those applied")


def _compare(
    column: str,
    volley: Volley,
    sighting: Sighting,
    judgement: Judgement,
    layout: Layout,
    before: dict[str, int],
) -> Iterator[Mismatch]:
    scene = judgement.scene
    if sighting.complaint:
        yield Mismatch(scene.id, scene.file, column, sighting.complaint)
        if sighting.counters is None:
            return
    seen: dict[int, list[str]] = defaultdict(list)
    for end, number in sighting.arrivals:
        seen[number].append(end)
    for position, (question, number) in enumerate(zip(scene.questions, volley.numbers, strict=True)):
        port = scene.port_of(question.packet.receiver)
        wanted = [WIRE if port == UPLINK else port] if question.allowed else []
        if (found := seen.pop(number, [])) != wanted:
            there = f"arrived at {', '.join(found) or 'no end'}, but was to at {', '.join(wanted) or 'none'}"
            yield Mismatch(scene.id, scene.file, column, question.text, (there, *explain(judgement, position)))
    stray = {number: ends for number, ends in seen.items() if number >= FIRST}
    if stray:
        yield Mismatch(scene.id, scene.file, column, f"frames of other scenes arrived: {stray}")
    yield from _counted(column, sighting, scene, judgement.compiled[layout], before)


def _counted(
    column: str, sighting: Sighting, scene: Scene, compiled: Compiled, before: dict[str, int]
) -> Iterator[Mismatch]:
    """A denial is shown by its counter: silence alone proves nothing."""
    now = sighting.counters or {}
    # A counter that left with its chain begins anew.
    grown = {name: count - min(before.get(name, 0), count) for name, count in now.items()}
    denied = sum(count for name, count in grown.items() if name.endswith("_denied"))
    wanted = sum(not question.allowed for question in scene.questions)
    if denied != wanted:
        yield Mismatch(scene.id, scene.file, column, f"{wanted} packets must be denied, and {denied} were counted")
    expected = Counter(name for judged in compiled.judged for name in judged.counted)
    for name in sorted(expected.keys() | grown.keys()):
        if grown.get(name, 0) != expected[name] and name not in _UNHEEDED:
            text = f"counter {name} grew by {grown.get(name, 0)}, and by the rules must by {expected[name]}"
            yield Mismatch(scene.id, scene.file, column, text)


def _probes(scene: Scene, numbers: Iterator[int]) -> Iterator[tuple[str, bytes, int]]:
    for question in scene.questions:
        packet, number = question.packet, next(numbers)
        ends = scene.port_of(packet.sender), scene.port_of(packet.receiver)
        outside = ends[0] == UPLINK
        sender, receiver = (STRANGERS_MAC if end == UPLINK else mac_of(end) for end in ends)
        data = frames.probe(
            (sender, receiver),
            packet.source,
            packet.target,
            packet.protocol,
            packet.port,
            number,
            VLANS[packet.domain] if outside else None,
        )
        yield WIRE if outside else ends[0], data, number


def _greetings(vlans: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """The bridge learns where everybody is, so that no probe is sent to all ports."""
    for port in vlans:
        yield port, frames.rarp(mac_of(port), frames.GREETING)
    for vlan in sorted(set(vlans.values())):
        yield WIRE, frames.rarp(STRANGERS_MAC, frames.GREETING, vlan)


def _last(vlans: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """What must arrive in any case: datagrams of and to a guest whom no policy isolates, and a marker everywhere."""
    here = VLANS[HERE]
    there = BYSTANDERS_ADDRESS, STRANGERS_ADDRESS
    ends = mac_of(BYSTANDER), STRANGERS_MAC
    yield BYSTANDER, frames.probe(ends, *there, Protocol.UDP, 7, _OUT)
    yield WIRE, frames.probe(ends[::-1], *there[::-1], Protocol.UDP, 7, _IN, here)
    for vlan in sorted(set(vlans.values())):
        yield WIRE, frames.rarp(STRANGERS_MAC, frames.MARKER, vlan)
