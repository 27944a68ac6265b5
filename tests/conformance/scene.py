"""A case as one node has it: every pod on a port of this node's switch, all in one L2 domain, and every expectation as
a packet between two ports, or a port and the uplink.

The tests of this folder make scenes of random worlds too; from here on nobody knows where a scene came from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address

from homeport_api.addresses import IpAddress, L2Domain, MacAddress, link_local_of
from homeport_api.interface import InterfaceKey
from homeport_policy import guards
from homeport_policy.evaluate import Packet
from homeport_policy.guards import GuardedPort
from homeport_policy.ruleset import Element, element
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot, Workload
from tests.conformance.case import OUTSIDE, Case, Expectation, Nic, Pod
from tests.conformance.reader import Malformed, chain_of

UPLINK, BYSTANDER = "hpu-eth1", "hpby"
"""The uplink, and a port whose guest nobody isolates: what is sent from and to it must always pass."""
VLANS = {L2Domain("bond0:100"): 100, L2Domain("bond0:200"): 200}
ZONES = {domain: 16384 + number for number, domain in enumerate(VLANS)}
HERE, _ = VLANS
NETWORK = "cluster"
BYSTANDERS_ADDRESS, STRANGERS_ADDRESS = ip_address("198.18.255.1"), ip_address("198.18.255.2")
STRANGERS_MAC = MacAddress("02:00:5e:10:ff:02")


class Layout(Enum):
    """How guests are on the switch: each on an access port, or each on a trunk with its network as the native VLAN."""

    ACCESS = "access"
    TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class Question:
    """One packet, and whether it must pass. `text` says it for a reader."""

    text: str
    packet: Packet
    allowed: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """`also` are addresses that every guest may send from besides its own. Scenes of one `chain` are states of one
    world, one after the other."""

    id: str
    file: str
    chain: str
    snapshot: Snapshot
    questions: tuple[Question, ...]
    also: frozenset[IpAddress] = field(default=frozenset())

    def arranged(self, layout: Layout) -> Snapshot:
        endpoints = {key: replace(each, trunk=layout is Layout.TRUNK) for key, each in self.snapshot.endpoints.items()}
        return replace(self.snapshot, endpoints=endpoints)

    def vlans(self) -> dict[str, int]:
        """The VLAN of each port in use."""
        return {port.name: VLANS[domain] for port, domain in self._ports(Layout.ACCESS)}

    def elements(self, layout: Layout) -> frozenset[Element]:
        """Everything in the base table's sets and maps: guards of the open ports, the bystander's and the uplink's."""
        ports = [port for port, _ in self._ports(layout)]
        ports.append(
            GuardedPort(
                BYSTANDER,
                mac_of(BYSTANDER),
                addresses=frozenset({BYSTANDERS_ADDRESS, link_local_of(mac_of(BYSTANDER))}),
                zone=ZONES[HERE],
            )
        )
        found = {each for port in ports for each in guards.guards_of(port, tracking=True)}
        found |= {element(guards.SPEAKING, port.name) for port in ports}
        zones = [(VLANS[domain], zone) for domain, zone in ZONES.items()]
        return frozenset({*found, *guards.admit_uplink(UPLINK, zones).add})

    def port_of(self, end: EndpointKey | None) -> str:
        port = None if end is None else self.snapshot.endpoints[end].port
        return port or UPLINK

    def _ports(self, layout: Layout) -> Iterator[tuple[GuardedPort, L2Domain]]:
        for endpoint in self.snapshot.endpoints.values():
            if endpoint.port is not None:
                yield (
                    GuardedPort(
                        endpoint.port,
                        mac_of(endpoint.port),
                        trunk=layout is Layout.TRUNK,
                        addresses=endpoint.addresses | self.also | {link_local_of(mac_of(endpoint.port))},
                        learning=frozenset(),
                        node=endpoint.node,
                        zone=ZONES[endpoint.domain],
                        native=VLANS[endpoint.domain] if layout is Layout.TRUNK else None,
                    ),
                    endpoint.domain,
                )


def port_name(slot: int) -> str:
    return f"hp{slot}"


def mac_of(port: str) -> MacAddress:
    """The MAC of the guest on a port."""
    slot = 0xFF01 if port == BYSTANDER else int(port.removeprefix("hp"))
    return MacAddress(f"02:00:5e:10:{slot >> 8:02x}:{slot & 0xFF:02x}")


class Stage:
    """Gives guests their ports, scene after scene. Within a chain a guest keeps its port, and one that comes takes a
    port that is free, so that a scene differs from the one before in what its case changes and no more."""

    def __init__(self) -> None:
        self._chain = ""
        self._slots: dict[tuple[str, str, int], int] = {}

    def scene(self, case: Case) -> Scene:
        if (chain := chain_of(case.id)) != self._chain:
            self._chain, self._slots = chain, {}
        nics = [((pod.namespace, pod.name, number), nic) for pod in case.pods for number, nic in enumerate(pod.nics)]
        self._seat([key for key, _ in nics])
        endpoints = {each.key: each for each in (self._endpoint(key, nic) for key, nic in nics)}
        snapshot = Snapshot(
            endpoints,
            {InterfaceKey(pod.namespace, pod.name): Workload(pod.labels, pod.ports) for pod in case.pods},
            case.namespaces,
            {},
            {policy.key: policy for policy in case.policies},
            ZONES,
        )
        pods = {f"{pod.namespace}/{pod.name}": pod for pod in case.pods}
        questions = tuple(_question(pods, each, case.id) for each in case.expectations)
        return Scene(case.id, case.file, chain, snapshot, questions)

    def _seat(self, keys: list[tuple[str, str, int]]) -> None:
        kept = {key: slot for key, slot in self._slots.items() if key in set(keys)}
        free = iter(sorted(set(range(len(keys) + len(kept))) - set(kept.values())))
        for key in keys:
            if key not in kept:
                kept[key] = next(free)
        self._slots = kept

    def _endpoint(self, key: tuple[str, str, int], nic: Nic) -> Endpoint:
        namespace, name, _ = key
        network = NETWORK if nic.network is None else "-".join(nic.network)
        slot = self._slots[key]
        return Endpoint(
            _key(*key), InterfaceKey(namespace, name), network, frozenset(nic.addresses), port_name(slot), nic.network
        )


def _key(namespace: str, name: str, number: int) -> EndpointKey:
    return EndpointKey(InterfaceKey(namespace, f"{name}-eth{number}"), HERE)


def _question(pods: Mapping[str, Pod], each: Expectation, case: str) -> Question:
    sender, source = _end(pods, each.source, each.source_network, each.source_address)
    receiver, target = _end(pods, each.target, each.target_network, each.target_address)
    if source.version != target.version:
        raise Malformed(f"case {case}: {each}: from {source} to {target}, which are of two families")
    if sender == receiver:
        raise Malformed(f"case {case}: {each}: never crosses the switch")
    packet = Packet(HERE, source, target, each.protocol, each.port, sender, receiver)
    return Question(str(each), packet, each.allowed)


def _end(
    pods: Mapping[str, Pod], end: str, network: tuple[str, str] | None, address: IpAddress | None
) -> tuple[EndpointKey | None, IpAddress]:
    """The endpoint of a pod, and the address that is meant: the one that is told, or the first."""
    if end.startswith(OUTSIDE):
        return None, ip_address(end.removeprefix(OUTSIDE))
    pod = pods[end]
    for number, nic in enumerate(pod.nics):
        if network in (None, nic.network) and (address is None or address in nic.addresses):
            return _key(pod.namespace, pod.name, number), address or nic.addresses[0]
    raise Malformed(f"{end} has no address {address or ''} on network {network}")
