"""One line in the log for each denied packet that the kernel copies to us: who, where to, and which policies.

    rule `log group 4100`, limited in the kernel ──► PacketLog ──► port ──► Interface ──► VM
                                                               └─► prefix: the chain that denied ──► policies

A rule copies ten packets a second at most, and all together a hundred, so floods cost no more than that; the counters
count all of them. A side is listened to from its first program on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from homeport_agent import metrics
from homeport_agent.listener import Listener
from homeport_agent.placement import Place
from homeport_agent.policies import Policies
from homeport_agent.switch import Switch
from homeport_api.interface import InterfaceKey
from homeport_api.networkpolicy import Direction
from homeport_dataplane import links
from homeport_dataplane.frames import Seen
from homeport_dataplane.netns import Namespace
from homeport_dataplane.nflog import Logged
from homeport_policy.chains import LOG_GROUP
from homeport_policy.program import Counted, Program
from homeport_policy.ruleset import L4
from homeport_policy.snapshot import WorkloadKey

log = logging.getLogger(__name__)

_WORDS: dict[int, str] = {
    L4.TCP: "tcp",
    L4.UDP: "udp",
    L4.SCTP: "sctp",
    L4.ICMP: "icmp",
    L4.ICMP6: "icmpv6",
    L4.IGMP: "igmp",
}


@dataclass(frozen=True, slots=True)
class Denied:
    """A packet that one end's policies did not let pass. `interface` and `workload` are that end's, None when its port
    is gone by now; `seen` None: not IP, or cut off."""

    direction: Direction
    counted: Counted
    interface: InterfaceKey | None
    workload: WorkloadKey | None
    seen: Seen | None

    def __str__(self) -> str:
        policies = ",".join(f"{each.namespace}/{each.name}" for each in self.counted.denied_by)
        seen = self.seen
        packet = "from=- to=- proto=- port=-"
        if seen is not None:
            protocol = _WORDS.get(seen.protocol, str(seen.protocol))
            port = "-" if seen.target_port is None else seen.target_port
            packet = f"from={seen.source} to={seen.target} proto={protocol} port={port}"
        direction = self.direction.lower()
        who = f"vm={self.workload or '-'} interface={self.interface or '-'} direction={direction}"
        return f"denied {who} {packet} by={policies or '-'}"


def denial_of(
    program: Program,
    logged: Logged,
    interface_at: Callable[[int], InterfaceKey | None],
    workload_of: Callable[[InterfaceKey], WorkloadKey | None],
) -> Denied | None:
    """What a copied packet tells. None where the chain that denied it is not in the program any more."""
    counted = program.counters.get(f"{logged.prefix}_denied")
    if counted is None:
        return None
    index = logged.out_index if counted.direction is Direction.INGRESS else logged.in_index
    interface = None if index is None else interface_at(index)
    workload = None if interface is None else workload_of(interface)
    return Denied(counted.direction, counted, interface, workload, logged.seen())


class DropLog(Listener):
    """From `start` to `close`."""

    def __init__(self, switch: Switch, policies: Policies) -> None:
        super().__init__("drops", "denied packets are not logged", switch)
        self._policies = policies

    def start(self) -> None:
        """On a kernel that tracks no bridged connections there is nothing to be told, and nothing starts."""
        if self._switch.features.bridge_conntrack:
            super().start()

    def group(self, place: Place) -> int | None:
        return LOG_GROUP if self._policies.program(place).counters else None

    def hear(self, place: Place, logged: Logged) -> None:
        program, namespace = self._policies.program(place), self._switch.side(place).namespace
        denied = denial_of(program, logged, lambda index: _interface_at(namespace, index), self._policies.workload_of)
        if denied is not None:
            metrics.drops_logged.labels(denied.direction.lower()).inc()
            log.info("%s", denied)


def _interface_at(namespace: Namespace, index: int) -> InterfaceKey | None:
    """Whose port a link is."""
    link = links.find_index(namespace, index)
    return None if link is None or link.mark is None else link.mark.interface
