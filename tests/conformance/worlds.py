"""Random worlds as scenes, for packets on the real table."""

from collections.abc import Sequence
from dataclasses import dataclass

from homeport_policy.evaluate import Packet, evaluate
from homeport_policy.plan import Plan, plan_change
from homeport_policy.snapshot import Snapshot
from tests.conformance.scene import Question, Scene, port_name
from tests.policy.plans import change, packet_of
from tests.policy.plans import packets as all_packets
from tests.policy.worlds import FOUR, SIX, Dice

PORTS = tuple(map(port_name, range(6)))
PACKETS = 30
_FLOWS = 5


def scene_of(seed: int) -> Scene:
    """One world, and packets between its ports, or a port and the uplink; a guest may send from every address."""
    dice = Dice(seed)
    snapshot = dice.snapshot()
    packets = [dice.packet(snapshot) for _ in range(PACKETS)]
    return _scene(f"world {seed}", "worlds", snapshot, packets)


@dataclass(frozen=True, slots=True)
class Change:
    """A world before and after, with the same questions in both scenes, and the plan of it."""

    before: Scene
    after: Scene
    plan: Plan

    @property
    def snapshots(self) -> tuple[Snapshot, Snapshot]:
        return self.before.snapshot, self.after.snapshot


def change_of(seed: int) -> Change:
    """Packets from and to addresses that are their ends' own, which a plan speaks of, and besides some that it says
    will change."""
    worlds = change(seed)
    before, after = (world.snapshot for world in worlds)
    plan, dice = plan_change(before, after), Dice(seed)
    packets = list(dice.some(list(all_packets(before)), PACKETS))
    for shift in dice.some(plan.shifts, _FLOWS):
        packets += [packet_of(*dice.one(list(shift.pairs())), service) for service in dice.some(shift.services, 2)]
    scenes = (_scene(f"change {seed}", f"change {seed}", each, packets) for each in (before, after))
    return Change(*scenes, plan)


def _scene(name: str, chain: str, snapshot: Snapshot, packets: Sequence[Packet]) -> Scene:
    questions = tuple(
        Question(str(packet), packet, evaluate(snapshot, packet).allowed)
        for packet in packets
        if packet.sender != packet.receiver
    )
    return Scene(name, "worlds", chain, snapshot, questions, frozenset((*FOUR, *SIX)))
