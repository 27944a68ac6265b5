"""What should be against what is: pure comparison, and a runner for the differences.

    journal, Networks ──► wanted ─┐
                                  ├─► diff ──► steps ──► switch
    kernel ─────────────► seen  ──┘

Only differences are changed, so running guests lose no packet. A step that the kernel refuses is logged and counted,
and the others go on: one broken port must not keep the rest from being healed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from homeport_agent.ports import Port
from homeport_dataplane.marks import PortMark
from homeport_dataplane.vlan import MUTED, PortVlans


@dataclass(frozen=True, slots=True)
class SeenPort:
    """A port as the kernel has it. `admitted` (it is in our set of ports), `guarded` (in every set that it should be
    in) and `speaking` are its places in the guard rules."""

    name: str
    bridge: str
    mark: PortMark
    up: bool
    vlans: PortVlans
    admitted: bool
    guarded: bool
    speaking: bool


@dataclass(frozen=True, slots=True)
class Replug:
    """The port is gone, or on no or another bridge: make it again, or find that its guest is gone."""

    port: Port
    why: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """The port is there and its VLANs or guard rules are not as they should be."""

    port: Port
    why: str


@dataclass(frozen=True, slots=True)
class Reguard:
    """The port speaks, and its guards are not all there: they come back, and it is not silenced for it."""

    port: Port


@dataclass(frozen=True, slots=True)
class Remove:
    """A port of ours that nothing living wants: what an ADD left that never answered, or a DEL cut short."""

    name: str


@dataclass(frozen=True, slots=True)
class Mute:
    """The Interface is held elsewhere by now: its port here is silent until its DEL comes."""

    port: Port


Step = Replug | Reopen | Reguard | Remove | Mute


def diff(
    wanted: Mapping[str, Port],
    seen: Mapping[str, SeenPort],
    bridges: Mapping[str, str],
    *,
    lost: Collection[str] = (),
) -> list[Step]:
    """The steps from `seen` to `wanted`; what silences comes first, so that a stray port never speaks beside the right
    one. `bridges` has the bridge's name for each wanted port; `lost` are those of them that must be silent."""
    steps: list[Step] = [Remove(name) for name in sorted(seen.keys() - wanted.keys())]
    for name in sorted(lost):
        if name in seen and (seen[name].vlans != MUTED or seen[name].speaking):
            steps.append(Mute(wanted[name]))
    for name, port in sorted(wanted.items()):
        found = seen.get(name)
        if name in lost:
            continue
        if found is None:
            steps.append(Replug(port, "the port is gone"))
        elif found.bridge != bridges[name]:
            steps.append(Replug(port, f"the port is on {found.bridge or 'no bridge'}"))
        elif not found.up:
            steps.append(Replug(port, "the port is down"))
        elif port.placement.filtering and found.vlans != port.placement.port:
            steps.append(Reopen(port, f"its VLANs are {found.vlans}"))
        elif not found.speaking:
            steps.append(Reopen(port, "its guard rules are gone"))
        elif not found.guarded:
            steps.append(Reguard(port))
    return steps
