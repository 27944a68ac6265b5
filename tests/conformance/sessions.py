"""From judged scenes to a run of sessions, and from what was heard back to what is wrong. Pure."""

from collections.abc import Iterator, Sequence

from homeport_policy.evaluate import Packet
from homeport_policy.render import render
from tests.conformance.memory import BASE, Judgement
from tests.conformance.plan import Rules
from tests.conformance.scene import BYSTANDER, HERE, UPLINK, VLANS, Layout, Question, Scene
from tests.conformance.tally import Mismatch, explain
from tests.conformance.volley import WIRE, Heard, Record, Run, Session, Talk

ALLOWED, DENIED = 18, 9
"""At most so many talks of a session."""


def plan_sessions(
    name: str, judgements: Sequence[Judgement], layout: Layout, *, br_netfilter: bool, ports: Sequence[str]
) -> Run:
    rules = Rules(layout)
    sessions = []
    for judgement in judgements:
        scene = judgement.scene
        talks = tuple(_talk(scene, scene.questions[number]) for number in chosen(scene))
        addresses = {
            endpoint.port: tuple(sorted(f"{each}/{each.max_prefixlen}" for each in endpoint.addresses))
            for endpoint in scene.snapshot.endpoints.values()
            if endpoint.port is not None
        }
        outside = {talk.source for talk in talks if talk.client == WIRE}
        outside |= {talk.target for talk in talks if talk.server == WIRE}
        addresses[WIRE] = tuple(sorted(f"{each}/{128 if ':' in each else 32}" for each in outside))
        vlans = {**scene.vlans(), BYSTANDER: VLANS[HERE]}
        sessions.append(Session(scene.id, rules.towards(judgement), vlans, addresses, talks))
    return Run(name, (*ports, BYSTANDER), layout is Layout.TRUNK, br_netfilter, render(BASE), sessions=tuple(sessions))


def compare_sessions(run: Run, record: Record, judgements: Sequence[Judgement]) -> Iterator[Mismatch]:
    before = dict[str, int]()
    for session, heard, judgement in zip(run.sessions, record.heard, judgements, strict=True):
        yield from _compare(run.name, session, heard, judgement, before)
        before = dict(heard.counters or {})


def verdicts(session: Session, heard: Heard) -> int:
    return sum(talk.protocol not in heard.mute for talk in session.talks)


def chosen(scene: Scene) -> list[int]:
    """Of each protocol some that must pass, first those whose other direction is denied, and some that must not."""
    denied_ways = {(each.packet.sender, each.packet.receiver) for each in scene.questions if not each.allowed}

    def one_way(question: Question) -> bool:
        return (question.packet.receiver, question.packet.sender) in denied_ways

    found: list[int] = []
    for allowed, most in ((True, ALLOWED), (False, DENIED)):
        numbers = [number for number, each in enumerate(scene.questions) if each.allowed == allowed]
        numbers.sort(key=lambda number: (not one_way(scene.questions[number]), number))
        by_protocol: dict[object, list[int]] = {}
        for number in numbers:
            by_protocol.setdefault(scene.questions[number].packet.protocol, []).append(number)
        for same in by_protocol.values():
            found += same[:: max(1, len(same) * len(by_protocol) // most)][: most // len(by_protocol) or 1]
    return sorted(found)


def _talk(scene: Scene, question: Question) -> Talk:
    packet: Packet = question.packet
    assert packet.protocol is not None and packet.port is not None
    client, server = (
        WIRE if port == UPLINK else port for port in (scene.port_of(packet.sender), scene.port_of(packet.receiver))
    )
    return Talk(
        client, server, str(packet.source), str(packet.target), packet.protocol.value, packet.port, question.allowed
    )


def _compare(
    column: str, session: Session, heard: Heard, judgement: Judgement, before: dict[str, int]
) -> Iterator[Mismatch]:
    scene = judgement.scene
    if heard.counters is None:
        yield Mismatch(scene.id, scene.file, column, heard.complaint)
        return
    denied = 0
    for place, (talk, number) in enumerate(zip(session.talks, chosen(scene), strict=True)):
        if talk.protocol in heard.mute:
            continue
        denied += not talk.allowed
        if (place in heard.done) != talk.allowed:
            there = "sockets talked both ways" if place in heard.done else "sockets never got an answer"
            text = scene.questions[number].text
            yield Mismatch(scene.id, scene.file, column, text, (there, *explain(judgement, number)))
    # Stacks repeat what is not answered, so this is a lower limit.
    grown = sum(
        count - min(before.get(name, 0), count) for name, count in heard.counters.items() if name.endswith("_denied")
    )
    if grown < denied or (grown and not denied):
        text = f"{denied} connections must be denied, and {grown} packets were counted as denied"
        yield Mismatch(scene.id, scene.file, column, text)
