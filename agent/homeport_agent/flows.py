"""Ending the connections that policies no longer allow: exactly those.

    conntrack, the zones of the ports concerned ──► each flow as its first packet ──► the program, in memory
                                                                                          │ denied
                                                    deleted ◄─────────────────────────────┘

Meanwhile the kernel asks the policies for every packet of the ports concerned (the set `judged`), so what is denied
stops at once in the direction in which it was opened, and in the other when its entry is gone. An entry that is gone
cannot come back the other way round: a TCP segment without SYN opens nothing for an isolated guest.
"""

import logging
from collections.abc import Callable, Collection, Iterator

from homeport_agent.facts import Facts
from homeport_agent.placement import Place
from homeport_api.addresses import L2Domain
from homeport_dataplane.conntrack import Conntrack, Flow
from homeport_dataplane.netns import Namespace
from homeport_policy import guards
from homeport_policy.program import Program
from homeport_policy.ruleset import L4, Verdict, element
from homeport_policy.simulate import ETHER_TYPES, Frame, Loaded, judge, load
from homeport_policy.snapshot import Endpoint

log = logging.getLogger(__name__)

OUTSIDE = "outside"
"""Stands for whatever a flow comes from or goes to that is no guest of this node."""
_BASE = guards.base(tracking=True)


class FlowEnder:
    """One conntrack socket for each side, made when it is first needed."""

    def __init__(self, namespace_of: Callable[[Place], Namespace]) -> None:
        self._namespace_of = namespace_of
        self._tables: dict[Place, Conntrack] = {}

    def __call__(self, place: Place, program: Program, ports: Collection[str], facts: Facts) -> int:
        """Deletes the flows of these ports that the program denies; how many. Raises what the kernel refuses."""
        table = self._tables.get(place)
        if table is None:
            table = self._tables[place] = Conntrack(self._namespace_of(place))
        keys = [key for key, port in facts.ports().items() if port.name in ports]
        endpoints = [endpoint for key in keys for endpoint in facts.endpoints_of(key)]
        loaded = load(_BASE, program, _elements(facts, place))
        ended = 0
        for domain in {endpoint.domain for endpoint in endpoints}:
            zone = facts.zone(domain)
            if zone is None:
                continue
            concerned = [each for each in endpoints if each.domain == domain]
            known = {address for each in concerned for address in each.addresses}
            unknown = any(not each.addresses for each in concerned)
            for flow in table.flows(zone):
                if not (unknown or flow.source in known or flow.target in known):
                    continue
                if not _allowed(loaded, flow, domain, facts, place, concerned) and table.delete(flow):
                    ended += 1
        return ended

    def close(self) -> None:
        for table in self._tables.values():
            table.close()


def _allowed(
    loaded: Loaded, flow: Flow, domain: L2Domain, facts: Facts, place: Place, concerned: Collection[Endpoint]
) -> bool:
    """Whether the flow's first packet would pass now, between any two ports that it may have been between. An address
    that nobody is known to have may be that of any guest whose addresses are not known."""
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
            icmp6_type=128 if flow.protocol == L4.ICMP6 else None,
            zone=facts.zone(domain),
        )
        for into in _ports(flow.source, domain, facts, place, concerned)
        for out in _ports(flow.target, domain, facts, place, concerned)
    )
    return all(judge(loaded, "forward", frame).verdict is Verdict.ACCEPT for frame in frames)


def _ports(
    address: object, domain: L2Domain, facts: Facts, place: Place, concerned: Collection[Endpoint]
) -> Iterator[str]:
    owners = facts.owners(domain, address)  # type: ignore[arg-type]
    here = [each.port for each in owners if each.port is not None and _is_on(facts, each, place)]
    if owners:
        yield from here or [OUTSIDE]
        return
    yield OUTSIDE
    yield from (each.port for each in concerned if not each.addresses and each.port is not None)


def _is_on(facts: Facts, endpoint: Endpoint, place: Place) -> bool:
    port = facts.port(endpoint.key.interface)
    return port is not None and port.side == place.value


def _elements(facts: Facts, place: Place) -> Iterator[object]:
    yield element(guards.SPEAKING, OUTSIDE)
    yield element(guards.UPLINKS, OUTSIDE)
    for port in facts.ports().values():
        if port.side == place.value:
            yield element(guards.SPEAKING, port.name)
            yield element(guards.PORTS, port.name)
            if port.node:
                yield element("nodes", port.name)
