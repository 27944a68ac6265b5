"""Whether a newly given address, or one that a guest took by itself, is in use by somebody who is not ours: asked on
the wire once the port is open.

No ADD waits for it, and a conflict never changes an address: it becomes a condition of the Interface with the foreign
MAC, a log line and a metric. The next clean probe takes the condition away. Isolated Networks have no wire, and on an
existing bridge the host's own neighbour table is the judge; neither is probed.
"""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from homeport_agent import metrics
from homeport_agent.placement import Place
from homeport_agent.ports import Port
from homeport_agent.worker import Worker
from homeport_api.addresses import IpAddress, VlanId
from homeport_api.errors import Conflict, HomeportError
from homeport_api.interface import Interface
from homeport_api.meta import Condition
from homeport_dataplane.marks import uplink_name
from homeport_dataplane.netns import Namespace
from homeport_dataplane.probe import Claim, Wire, build_probe
from homeport_store.objects import Objects

log = logging.getLogger(__name__)

PROBES = 3
INTERVAL = 1.0
TRIES = 5
CONFLICT = "Conflict"


@dataclass(frozen=True, slots=True)
class Probe:
    """One address of one port, and the tag it has on the wire. `taken`: one among others, by the guest itself."""

    port: Port
    address: IpAddress
    vlan: VlanId | None
    taken: bool = False


def probes_of(port: Port, taken: IpAddress | None = None) -> tuple[Probe, ...]:
    """What there is to ask about a port, or about one address that its guest took: pure. Nothing where there is no wire
    of ours."""
    placement = port.placement
    if placement.place is not Place.SWITCH or placement.uplink is None:
        return ()
    tagged = placement.filtering and placement.uplink_untagged is None
    vlan = placement.port.untagged if tagged else None
    if taken is not None:
        return (Probe(port, taken, vlan, taken=True),)
    return tuple(Probe(port, address.ip, vlan) for address in port.nic.addresses)


def judge(probes: Sequence[Probe], claims: Sequence[Claim]) -> dict[Probe, Claim]:
    """The first foreign claim of each probed address: pure. The Interface's own MAC is its own guest, here or on the
    node it moves to."""
    found: dict[Probe, Claim] = {}
    for claim in claims:
        for probe in probes:
            if (claim.address, claim.vlan) == (probe.address, probe.vlan) and claim.mac != probe.port.mac:
                found.setdefault(probe, claim)
    return found


class Conflicts(Worker):
    """`ask` from any thread; one thread asks the wire, all that came together at once."""

    def __init__(self, switch: Namespace, objects: Objects, clock: Callable[[], float] = time.time) -> None:
        super().__init__("conflicts")
        self._switch = switch
        self._objects = objects
        self._clock = clock
        self._queue: queue.SimpleQueue[tuple[Probe, ...]] = queue.SimpleQueue()

    def ask(self, ports: Sequence[Port], taken: IpAddress | None = None) -> None:
        probes = tuple(probe for port in ports for probe in probes_of(port, taken))
        if probes:
            self._queue.put(probes)
            self.wake()

    def work(self) -> None:
        by_uplink: dict[str, list[Probe]] = {}
        while not self._queue.empty():
            for probe in self._queue.get():
                by_uplink.setdefault(probe.port.placement.uplink or "", []).append(probe)
        for name, probes in by_uplink.items():
            try:
                self._ask(name, probes)
            except (OSError, HomeportError) as error:
                log.info("addresses not probed uplink=%s count=%d error=%s", name, len(probes), error)

    def _ask(self, uplink: str, probes: Sequence[Probe]) -> None:
        wire = Wire(self._switch, uplink_name(uplink), {probe.address for probe in probes})
        claims: list[Claim] = []
        try:
            for _ in range(PROBES):
                for probe in probes:
                    wire.send(build_probe(probe.address, probe.port.mac, probe.vlan))
                claims += wire.listen(INTERVAL)
                if self.closing:
                    return
        finally:
            wire.close()
        found = judge(probes, claims)
        for port in {probe.port.name: probe.port for probe in probes}.values():
            mine = [(probe, claim) for probe, claim in found.items() if probe.port.name == port.name]
            # That nobody has one more address says nothing of the others.
            if mine or any(probe.port.name == port.name and not probe.taken for probe in probes):
                self._tell(port, mine)

    def _tell(self, port: Port, found: Sequence[tuple[Probe, Claim]]) -> None:
        """Into the Interface's conditions, if it is still this port's."""
        text = "; ".join(f"{probe.address} is in use by {claim.mac}" for probe, claim in found)
        for _ in range(TRIES):
            interface = self._objects.interfaces.find(port.nic.interface)
            if interface is None or interface.meta.uid != port.nic.uid:
                return
            after = with_conflict(interface, text, self._clock())
            if after == interface:
                return
            try:
                self._objects.interfaces.save(after)
            except Conflict:
                continue
            if text:
                metrics.conflicts.inc()
                log.error("address conflict interface=%s %s", port.nic.interface, text)
            return


def with_conflict(interface: Interface, text: str, now: float) -> Interface:
    """The Interface with this conflict (empty: without one). Repeated news keep the time of the first."""
    others = tuple(each for each in interface.status.conditions if each.type != CONFLICT)
    present = next((each for each in interface.status.conditions if each.type == CONFLICT), None)
    if not text:
        conditions = others
    elif present is not None and present.message == text:
        conditions = interface.status.conditions
    else:
        conditions = (*others, Condition(CONFLICT, "True", "ForeignMac", text, now))
    return replace(interface, status=replace(interface.status, conditions=conditions))
