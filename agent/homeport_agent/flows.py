"""Ending the connections that policies no longer allow: exactly those.

    conntrack, the zones of the ports concerned ──► each flow as its first packet ──► the program, in memory
                                                                                          │ denied
                                                    deleted ◄─────────────────────────────┘

Meanwhile the kernel asks the policies for every packet of the ports concerned (the set `judged`), so what is denied
stops at once in the direction in which it was opened, and in the other when its entry is gone. An entry that is gone
cannot come back the other way round: a TCP segment without SYN opens nothing for an isolated guest.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice

from homeport_agent.placement import Place
from homeport_api.addresses import IpAddress, L2Domain, link_local_of
from homeport_api.network import Security
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
            reviews = reviews_of(place, program, ports, facts)
        ended = 0
        for review in reviews:
            flows = iter(table.flows(review.zone) if review.zone is not None else ())
            while batch := list(islice(flows, AT_ONCE)):
                with lock:
                    denied = [flow for flow in batch if review.ends(flow)]
                ended += sum(table.delete(flow) for flow in denied)
        return ended


def reviews_of(place: Place, program: Program, ports: Collection[str], facts: Facts) -> list["Review"]:
    """One for each L2 domain in which some of these ports are."""
    here = {key: port for key, port in facts.ports().items() if port.side == place.value}
    concerned = [key for key, port in here.items() if port.name in ports]
    domains = {endpoint.domain: None for key in concerned for endpoint in facts.endpoints_of(key)}
    loaded = load(_BASE, program, _elements(facts, place))
    began = {guards.mark_of(port.uid): port.name for port in here.values()}
    return [Review(facts, place, loaded, began, domain, ports) for domain in domains]


class Review:
    """Which flows of one domain end: those that one of the concerned ports has, and whose first packet would not pass
    now. Looks at the facts, as they are then; touches nothing.

    Who began a flow is known by its mark. Where it goes to is known by its address: that of an Interface, or a
    link-local one that a guest's MAC makes or that it took. A guest that is not held to its addresses, as where
    antiSpoof is off, may have any address that nobody is known to have."""

    def __init__(
        self,
        facts: Facts,
        place: Place,
        loaded: Loaded,
        began: Mapping[int, str],
        domain: L2Domain,
        concerned: Collection[str],
    ) -> None:
        self.zone = facts.zone(domain)
        self._facts, self._place, self._loaded, self._began, self._domain = facts, place, loaded, began, domain
        self._ports = frozenset(concerned)
        self._free: list[str] = []
        self._link_local: dict[IpAddress, list[str]] = {}
        for endpoint in (each for key in facts.ports() for each in facts.endpoints_of(key)):
            if endpoint.domain != domain or endpoint.port is None or not _is_on(facts, endpoint, place):
                continue
            held = _link_local_of(endpoint, facts)
            if held is None and endpoint.port in self._ports:
                self._free.append(endpoint.port)
            for address in held or ():
                self._link_local.setdefault(address, []).append(endpoint.port)

    def ends(self, flow: Flow) -> bool:
        """Whether it is denied between any two ports that it may have been between, and one of them is concerned."""
        return any(
            not self._allowed(flow, into, out)
            for into in self._beginners(flow)
            for out in self._others(flow.target, into)
            if into in self._ports or out in self._ports
        )

    def _allowed(self, flow: Flow, into: str, out: str) -> bool:
        frame = Frame(
            into,
            out,
            ETHER_TYPES[flow.source.version],
            flow.source,
            flow.target,
            flow.protocol,
            flow.source_port,
            flow.target_port,
            icmp6_type=ECHO_REQUEST6 if flow.protocol == L4.ICMP6 else None,
            zone=self.zone,
        )
        return judge(self._loaded, "forward", frame).verdict is Verdict.ACCEPT

    def _beginners(self, flow: Flow) -> Iterable[str]:
        """The port that began it, or outside. By its address where that port is gone."""
        if flow.mark == 0:
            return (OUTSIDE,)
        known = self._began.get(flow.mark)
        return self._may_have(flow.source) if known is None else (known,)

    def _others(self, address: IpAddress, into: str) -> Iterable[str]:
        """Where what comes from a port may go to: not back there."""
        return [each for each in self._may_have(address) if each != into] or (OUTSIDE,)

    def _may_have(self, address: IpAddress) -> Iterable[str]:
        """Where an address may be: on the ports of its owners here, else outside, or nobody knows."""
        owners = self._facts.owners(self._domain, address)
        here = [each.port for each in owners if each.port is not None and _is_on(self._facts, each, self._place)]
        here += self._link_local.get(address, ())
        if here:
            return here
        return (OUTSIDE,) if owners else (OUTSIDE, *self._free)


def _link_local_of(endpoint: Endpoint, facts: Facts) -> frozenset[IpAddress] | None:
    """What the guards let a guest use besides the addresses of its endpoint; None where they do not ask: without
    antiSpoof, and in the VLANs that a trunk's guest tags."""
    interface, network = facts.interface(endpoint.key.interface), facts.network(endpoint.network)
    if interface is None or network is None or interface.status.mac is None or network.l2_domain != endpoint.domain:
        return None
    if not (network.spec.security or Security()).anti_spoof:
        return None
    taken = (each.address for each in interface.status.learned if each.address.is_link_local)
    return frozenset({link_local_of(interface.status.mac), *taken})


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
