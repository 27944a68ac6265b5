"""Ending the connections that policies no longer allow: exactly those.

    conntrack, the zones of the ports concerned ──► each flow as its first packet ──► the program, in memory
                                                                                          │ denied
                                                    deleted ◄─────────────────────────────┘

Meanwhile the kernel asks the policies for every packet of the ports concerned (the set `judged`), so what is denied
stops at once in the direction in which it was opened, and in the other when its entry is gone. An entry that is gone
cannot come back the other way round: a TCP segment without SYN opens nothing for an isolated guest.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from homeport_agent.placement import Place
from homeport_api.addresses import IpAddress, L2Domain
from homeport_dataplane.conntrack import Conntrack, Flow
from homeport_dataplane.netns import Namespace
from homeport_policy import forward, guards
from homeport_policy.facts import Facts
from homeport_policy.live import ECHO_REQUEST6, OUTSIDE
from homeport_policy.program import Program
from homeport_policy.ruleset import L4, Element, Verdict, element
from homeport_policy.simulate import ETHER_TYPES, Frame, Loaded, judge, load
from homeport_policy.snapshot import Endpoint

AT_ONCE = 256
"""Flows that are judged while an ADD has to wait."""
_BASE = guards.base(tracking=True)


class FlowEnder:
    """Asks for the connections of each side when there is a first policy there."""

    def __init__(self, namespace_of: Callable[[Place], Namespace]) -> None:
        self._namespace_of = namespace_of
        self._tables: dict[Place, Conntrack] = {}

    def __call__(
        self, place: Place, program: Program, ports: Collection[str], facts: Facts, lock: threading.Lock
    ) -> int:
        """Deletes the flows of these ports that the program denies; how many. Raises what the kernel refuses."""
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = Conntrack(self._namespace_of(place))
        with lock:
            keys = [key for key, port in facts.ports().items() if port.name in ports]
            endpoints = [endpoint for key in keys for endpoint in facts.endpoints_of(key)]
            loaded = load(_BASE, program, _elements(facts, place))
            zones = {endpoint.domain: facts.zone(endpoint.domain) for endpoint in endpoints}
        ended = 0
        for domain, zone in zones.items():
            concerned = _Concerned(domain, tuple(each for each in endpoints if each.domain == domain))
            flows = iter(table.flows(zone) if zone is not None else ())
            while batch := list(islice(flows, AT_ONCE)):
                with lock:
                    mine = filter(concerned.by, batch)
                    denied = [flow for flow in mine if not _allowed(loaded, flow, facts, place, concerned)]
                ended += sum(table.delete(flow) for flow in denied)
        return ended


@dataclass(frozen=True)
class _Concerned:
    """The endpoints of one domain whose flows are looked through."""

    domain: L2Domain
    endpoints: tuple[Endpoint, ...]

    @cached_property
    def addresses(self) -> frozenset[IpAddress]:
        return frozenset(address for each in self.endpoints for address in each.addresses)

    @cached_property
    def nameless(self) -> tuple[str, ...]:
        """Ports whose guests' addresses are not known: any address that nobody is known to have may be theirs."""
        return tuple(each.port for each in self.endpoints if not each.addresses and each.port is not None)

    def by(self, flow: Flow) -> bool:
        return bool(self.nameless) or flow.source in self.addresses or flow.target in self.addresses


def _allowed(loaded: Loaded, flow: Flow, facts: Facts, place: Place, concerned: _Concerned) -> bool:
    """Whether the flow's first packet would pass now, between any two ports that it may have been between."""
    frames = (
        Frame(
            into,
            out,
            ETHER_TYPES[flow.source.version],
            flow.source,
            flow.target,
            flow.protocol,
            flow.source_port,
            flow.target_port,
            icmp6_type=ECHO_REQUEST6 if flow.protocol == L4.ICMP6 else None,
            zone=facts.zone(concerned.domain),
        )
        for into in _ports(flow.source, facts, place, concerned)
        for out in _ports(flow.target, facts, place, concerned)
    )
    return all(judge(loaded, "forward", frame).verdict is Verdict.ACCEPT for frame in frames)


def _ports(address: IpAddress, facts: Facts, place: Place, concerned: _Concerned) -> Iterator[str]:
    """Where an address may be: on the ports of its owners here, else outside."""
    owners = facts.owners(concerned.domain, address)
    here = [each.port for each in owners if each.port is not None and _is_on(facts, each, place)]
    yield from here or [OUTSIDE]
    if not owners:
        yield from concerned.nameless


def _is_on(facts: Facts, endpoint: Endpoint, place: Place) -> bool:
    port = facts.port(endpoint.key.interface)
    return port is not None and port.side == place.value


def _elements(facts: Facts, place: Place) -> Iterator[Element]:
    yield element(guards.SPEAKING, OUTSIDE)
    yield element(guards.UPLINKS, OUTSIDE)
    for port in facts.ports().values():
        if port.side == place.value:
            yield element(guards.SPEAKING, port.name)
            yield element(guards.PORTS, port.name)
            if port.node:
                yield element(forward.NODES, port.name)
