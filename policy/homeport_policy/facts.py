"""What policies are judged on, out of the store's records and a node's ports. Mutable, but pure: no I/O, no clock.

    Interface, Network, Workload, Namespace, policy, zone ──┐
                                                            ├─► endpoints, workloads, … ──► compilers
    which Interface has which port here ────────────────────┘

An Interface is an endpoint in the L2 domain of its Network; a trunk's, besides, in every VLAN of its allowed addresses.
A trunk without a native VLAN has no addresses of its own and is an endpoint nowhere else, but can be isolated all the
same: it stands in a domain that nobody is in.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network, PolicyScope
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKey
from homeport_api.workload import Workload as Labelled
from homeport_policy.compile import Compiler, compiler_of
from homeport_policy.snapshot import Endpoint, EndpointKey, Snapshot, Workload, WorkloadKey

VM_LABEL = "kubevirt/vm"
"""Always among a VM's labels, with its name."""


@dataclass(frozen=True, slots=True)
class PortFact:
    """The port of an Interface on this node: on which side, under which name, and whether it is the node's own end.
    `uid` and `epoch` are the attachment's: the port of a later one takes the place of an earlier one's."""

    side: str
    name: str
    node: bool = False
    uid: str = ""
    epoch: int = 0


class Facts:
    """Every `put_*` may be repeated; with None it forgets. Each is told on to the compilers, one for each side."""

    def __init__(self) -> None:
        self._interfaces: dict[InterfaceKey, Interface] = {}
        self._on_network: dict[str, set[InterfaceKey]] = defaultdict(set)
        self._networks: dict[str, Network] = {}
        self._labelled: dict[WorkloadKey, Labelled] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._doubted_workloads: set[WorkloadKey] = set()
        self._doubted_namespaces: set[str] = set()
        self._policies: dict[PolicyKey, NetworkPolicy] = {}
        self._zones: dict[L2Domain, int] = {}
        self._ports: dict[InterfaceKey, PortFact] = {}
        self._gone: set[InterfaceKey] = set()
        self._endpoints: dict[InterfaceKey, tuple[Endpoint, ...]] = {}
        self._owners: dict[tuple[L2Domain, IpAddress], set[EndpointKey]] = defaultdict(set)
        self._of_workload: dict[WorkloadKey, set[InterfaceKey]] = defaultdict(set)
        self.compilers: dict[str, Compiler] = {}

    def add_side(self, side: str) -> Compiler:
        """A compiler for the ports of a side that has its first one."""
        seen = {each.key: self._seen_from(side, each) for each in self.endpoints()}
        compiler = self.compilers[side] = compiler_of(replace(self.snapshot(), endpoints=seen))
        return compiler

    def put_interface(self, key: InterfaceKey, interface: Interface | None) -> None:
        """One that is gone stays known while it has a port here: its guest runs, and is judged as it was."""
        if interface is None and key in self._ports:
            self._gone.add(key)
            return
        self._gone.discard(key)
        old = self._interfaces.pop(key, None)
        if old is not None:
            self._on_network[old.spec.network].discard(key)
        if interface is not None:
            self._interfaces[key] = interface
            self._on_network[interface.spec.network].add(key)
        self._settle(key)

    def put_network(self, name: str, network: Network | None) -> None:
        """One that is gone stays known while there is a port on it."""
        if network is None and not self._ports.keys().isdisjoint(self._on_network[name]):
            return
        if network is None:
            self._networks.pop(name, None)
        else:
            self._networks[name] = network
        for compiler in self.compilers.values():
            compiler.put_scope(name, PolicyScope.ALL if network is None else _scope(network))
        for key in tuple(self._on_network[name]):
            self._settle(key)

    def put_workload(self, key: WorkloadKey, labelled: Labelled | None) -> None:
        if labelled is None:
            self._labelled.pop(key, None)
        else:
            self._labelled[key] = labelled
        for compiler in self.compilers.values():
            compiler.put_workload(key, self.workload(key))
        if key in self._doubted_workloads:
            self._doubted_workloads.discard(key)
            for each in tuple(self._of_workload.get(key, ())):
                self._settle(each)

    def doubt_workload(self, key: WorkloadKey) -> None:
        """Its record cannot be read. Where it never could be, its labels may be any that a policy isolates, and none
        that one lets through."""
        if key not in self._labelled and key not in self._doubted_workloads:
            self._doubted_workloads.add(key)
            for each in tuple(self._of_workload.get(key, ())):
                self._settle(each)

    def put_namespace(self, name: str, namespace: Namespace | None) -> None:
        if namespace is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = namespace.meta.labels
        self._doubted_namespaces.discard(name)
        for compiler in self.compilers.values():
            if namespace is None:
                compiler.drop_namespace(name)
            else:
                compiler.put_namespace(name, namespace.meta.labels)

    def doubt_namespace(self, name: str) -> None:
        """Its record cannot be read. Where it never could be, no namespaceSelector means it."""
        if name not in self._namespaces:
            self._doubted_namespaces.add(name)
            for compiler in self.compilers.values():
                compiler.doubt_namespace(name)

    def put_policy(self, key: PolicyKey, policy: NetworkPolicy | None) -> None:
        if policy is None:
            self._policies.pop(key, None)
        else:
            self._policies[key] = policy
        for compiler in self.compilers.values():
            if policy is None:
                compiler.drop_policy(key)
            else:
                compiler.put_policy(policy)

    def put_zones(self, zones: Mapping[L2Domain, int]) -> None:
        """All of them."""
        self._zones = dict(zones)
        for domain, zone in zones.items():
            for compiler in self.compilers.values():
                compiler.put_zone(domain, zone)

    def put_port(self, key: InterfaceKey, port: PortFact | None) -> None:
        old = self._ports.pop(key, None)
        if old is not None and (port is None or port.name != old.name):
            self.compilers[old.side].put_unknown(old.name, None)
        if port is not None:
            self._ports[key] = port
            if port.side not in self.compilers:
                self.add_side(port.side)
        if port is None and key in self._gone:
            self.put_interface(key, None)
        else:
            self._settle(key)

    def is_newer(self, key: InterfaceKey, port: PortFact) -> bool:
        """Whether a port takes the place of the one that is known: it is of a later attachment, or of the Interface as
        it is now."""
        known = self._ports.get(key)
        if known is None or known.uid == port.uid:
            return known is None or port.epoch >= known.epoch
        interface = self._interfaces.get(key)
        return interface is None or interface.meta.uid != known.uid

    def interface(self, key: InterfaceKey) -> Interface | None:
        return self._interfaces.get(key)

    def network(self, name: str) -> Network | None:
        return self._networks.get(name)

    def networks(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted(self._networks))

    def port(self, key: InterfaceKey) -> PortFact | None:
        return self._ports.get(key)

    def ports(self) -> Mapping[InterfaceKey, PortFact]:
        return self._ports

    def zones(self) -> Mapping[L2Domain, int]:
        return self._zones

    def zone(self, domain: L2Domain) -> int | None:
        return self._zones.get(domain)

    def domains(self) -> Mapping[int, L2Domain]:
        """By zone."""
        return {zone: domain for domain, zone in self._zones.items()}

    def owners(self, domain: L2Domain, address: IpAddress) -> tuple[Endpoint, ...]:
        """Whoever has an address in a domain."""
        keys = self._owners.get((domain, address), ())
        return tuple(each for key in keys for each in self._endpoints[key.interface] if each.key == key)

    def endpoints_of(self, key: InterfaceKey) -> tuple[Endpoint, ...]:
        return self._endpoints.get(key, ())

    def endpoints(self) -> Iterator[Endpoint]:
        """Of all Interfaces, in no particular order."""
        return (each for endpoints in self._endpoints.values() for each in endpoints)

    def workloads(self) -> tuple[WorkloadKey, ...]:
        """VMs and pods that are an endpoint somewhere, in order."""
        return tuple(sorted(self._of_workload))

    def interfaces_of(self, key: WorkloadKey) -> tuple[InterfaceKey, ...]:
        """Those of a VM or pod that are an endpoint somewhere, in order."""
        return tuple(sorted(self._of_workload.get(key, ())))

    def snapshot(self) -> Snapshot:
        """All of it as one value, for the oracle."""
        return Snapshot(
            {each.key: each for each in self.endpoints()},
            {key: self.workload(key) for key in self._of_workload},
            dict(self._namespaces),
            {name: _scope(network) for name, network in self._networks.items()},
            dict(self._policies),
            dict(self._zones),
            frozenset(self._doubted_workloads),
            frozenset(self._doubted_namespaces),
        )

    def _settle(self, key: InterfaceKey) -> None:
        """Brings the endpoints of one Interface up to date."""
        old = self._endpoints.pop(key, ())
        for endpoint in old:
            self._of_workload[endpoint.workload].discard(key)
            if not self._of_workload[endpoint.workload]:
                del self._of_workload[endpoint.workload]
            for address in endpoint.addresses:
                self._owners[endpoint.domain, address].discard(endpoint.key)
                if not self._owners[endpoint.domain, address]:
                    del self._owners[endpoint.domain, address]
        interface = self._interfaces.get(key)
        network = self._networks.get(interface.spec.network) if interface else None
        new = tuple(endpoints_of(interface, network, self._ports.get(key))) if interface and network else ()
        if new:
            self._endpoints[key] = new
        for endpoint in new:
            self._of_workload[endpoint.workload].add(key)
            for address in endpoint.addresses:
                self._owners[endpoint.domain, address].add(endpoint.key)
        judged = tuple(each for each in new if each.workload not in self._doubted_workloads)
        for side, compiler in self.compilers.items():
            for endpoint in judged:
                compiler.put_workload(endpoint.workload, self.workload(endpoint.workload))
                compiler.put_endpoint(self._seen_from(side, endpoint))
            for gone in {each.key for each in (*old, *new)} - {each.key for each in judged}:
                compiler.drop_endpoint(gone)
        port = self._ports.get(key)
        if port is not None:
            self.compilers[port.side].put_unknown(port.name, None if judged else key.namespace)

    def _seen_from(self, side: str, endpoint: Endpoint) -> Endpoint:
        """Without its port, where that is on another side."""
        port = self._ports.get(endpoint.key.interface)
        if port is None or port.side == side:
            return endpoint
        return Endpoint(endpoint.key, endpoint.workload, endpoint.network, endpoint.addresses)

    def workload(self, key: WorkloadKey) -> Workload:
        """Labels and ports of a VM or pod. That an Interface is a VM's is known from its record."""
        labelled = self._labelled.get(key)
        labels = dict(labelled.labels) if labelled else {}
        if any(self._is_vm(each) for each in self._of_workload.get(key, ())):
            labels[VM_LABEL] = key.name
        return Workload(labels, labelled.ports if labelled else ())

    def _is_vm(self, key: InterfaceKey) -> bool:
        interface = self._interfaces.get(key)
        return interface is not None and interface.spec.vm is not None and not interface.status.ephemeral


def endpoints_of(interface: Interface, network: Network, port: PortFact | None) -> Iterator[Endpoint]:
    """Where an Interface is on its Network's L2 domains. One without a VM is its own workload. Link-local addresses
    that its guest took are left out: those that a MAC makes are in no record, and a peer's are all or none."""
    workload = InterfaceKey(interface.meta.namespace, interface.spec.vm or interface.meta.name)
    trunk = network.spec.l2.trunk is not None
    given = {address.ip for address in interface.status.addresses}
    native = frozenset(given | {each.address for each in interface.status.learned if not each.address.is_link_local})
    tagged: dict[L2Domain, set[IpAddress]] = defaultdict(set)
    home = network.l2_domain or L2Domain(f"{network.mac_domain}:trunk")
    for allowed in interface.spec.allowed:
        vlan = allowed.vlan
        tagged[home if vlan is None else L2Domain(f"{network.spec.uplink}:{vlan}")].add(allowed.address)
    places = {home: native | tagged.pop(home, set())} | {domain: frozenset(each) for domain, each in tagged.items()}
    for domain, addresses in places.items():
        yield Endpoint(
            EndpointKey(interface.key, domain),
            workload,
            network.name,
            frozenset(addresses),
            port.name if port else None,
            node=port.node if port else False,
            trunk=trunk,
        )


def _scope(network: Network) -> PolicyScope:
    return network.spec.network_policies or PolicyScope.ALL
