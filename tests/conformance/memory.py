"""Scenes judged in memory: by the oracle, and by the compiled rules on the base table, on access ports and trunks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from homeport_policy import guards
from homeport_policy.compile import Compiler, compile_snapshot
from homeport_policy.evaluate import Decision, Packet, evaluate
from homeport_policy.program import Program
from homeport_policy.ruleset import L4, CtState, Verdict
from homeport_policy.simulate import ETHER_TYPES, Frame, Judged, judge, load
from homeport_policy.snapshot import Snapshot
from tests.conformance.scene import ZONES, Layout, Scene
from tests.policy.worlds import L4_OF, changes

BASE = guards.base(tracking=True)
SOURCE_PORT = 40000


@dataclass(frozen=True, slots=True)
class Compiled:
    """A scene's program in one layout, and what its rules say about each question. `fresh`: a change from the scene
    before led to what a fresh start makes."""

    program: Program
    judged: tuple[Judged, ...]
    fresh: bool

    def allows(self, question: int) -> bool:
        return self.judged[question].verdict is Verdict.ACCEPT


@dataclass(frozen=True, slots=True)
class Judgement:
    """A scene and everything that memory knows about it."""

    scene: Scene
    oracle: tuple[Decision, ...]
    compiled: Mapping[Layout, Compiled]


def judge_scenes(scenes: Iterable[Scene]) -> Iterator[Judgement]:
    """In order: the scenes of a chain are changes to one compiler in each layout."""
    chain, compilers, before = "", {layout: Compiler() for layout in Layout}, dict.fromkeys(Layout, Snapshot())
    for scene in scenes:
        if scene.chain != chain:
            chain, compilers = scene.chain, {layout: Compiler() for layout in Layout}
            before = dict.fromkeys(Layout, Snapshot())
        compiled = {}
        for layout, compiler in compilers.items():
            after = scene.arranged(layout)
            for step in changes(compiler, before[layout], after):
                step()
            before[layout] = after
            program = compiler.program()
            loaded = load(BASE, program, scene.elements(layout))
            judged = tuple(judge(loaded, "forward", _frame(scene, each.packet)) for each in scene.questions)
            compiled[layout] = Compiled(program, judged, program == compile_snapshot(after))
        oracle = tuple(evaluate(scene.snapshot, each.packet) for each in scene.questions)
        yield Judgement(scene, oracle, compiled)


def _frame(scene: Scene, packet: Packet) -> Frame:
    protocol = L4_OF[packet.protocol]
    if protocol is L4.ICMP and packet.source.version == 6:
        protocol = L4.ICMP6
    return Frame(
        scene.port_of(packet.sender),
        scene.port_of(packet.receiver),
        ETHER_TYPES[packet.source.version],
        packet.source,
        packet.target,
        protocol,
        source_port=None if packet.port is None else SOURCE_PORT,
        target_port=packet.port,
        icmp6_type=128 if protocol is L4.ICMP6 else None,
        zone=ZONES[packet.domain],
        state=CtState.NEW,
    )
