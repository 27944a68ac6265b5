"""What policies are judged on: who is where, with which labels and addresses. A value; whoever makes it says when.

An Interface is an Endpoint in each L2 domain where it has addresses: an access port in one, a trunk in its native VLAN
and in every VLAN of its allowed addresses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.meta import EMPTY
from homeport_api.network import PolicyScope
from homeport_api.networkpolicy import NetworkPolicy, PolicyKey
from homeport_api.workload import NamedPort

NAMESPACE_NAME = "kubernetes.io/metadata.name"

WorkloadKey = InterfaceKey
"""Namespace and name of a VM or pod."""


@dataclass(frozen=True, slots=True, order=True)
class EndpointKey:
    """An Interface in one L2 domain."""

    interface: InterfaceKey
    domain: L2Domain

    def __str__(self) -> str:
        return f"{self.interface} in {self.domain}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`port` is its link on this node's switch; None when it is elsewhere or detached. `attached_as` is the
    NetworkAttachmentDefinition it was attached through, as (namespace, name), where there is one. `node`: it is the
    node's own end, and what it sends passes to the guests of its node."""

    key: EndpointKey
    workload: WorkloadKey
    network: str
    addresses: frozenset[IpAddress]
    port: str | None = None
    attached_as: tuple[str, str] | None = None
    node: bool = False
    trunk: bool = False

    @property
    def domain(self) -> L2Domain:
        return self.key.domain


@dataclass(frozen=True, slots=True)
class Workload:
    """Labels, and the ports that policies may call by name."""

    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ports: tuple[NamedPort, ...] = ()


UNKNOWN = Workload()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`scopes` are the Networks' `networkPolicies`, `All` where one is missing. A namespace that is missing has its
    name as its only label; a workload that is missing has no labels. `zones` are the connection tracking zones of L2
    domains, without which a trunk's guest is judged in none of them: what a policy isolates is then shut.

    Of the workloads and namespaces that are `doubted`, the labels cannot be read. Such a workload is shut as soon as
    there is a policy in its namespace, and nobody's peer; such a namespace is none that a namespaceSelector means."""

    endpoints: Mapping[EndpointKey, Endpoint] = field(default_factory=dict)
    workloads: Mapping[WorkloadKey, Workload] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scopes: Mapping[str, PolicyScope] = field(default_factory=dict)
    policies: Mapping[PolicyKey, NetworkPolicy] = field(default_factory=dict)
    zones: Mapping[L2Domain, int] = field(default_factory=dict)
    doubted_workloads: frozenset[WorkloadKey] = frozenset()
    doubted_namespaces: frozenset[str] = frozenset()

    def workload(self, key: WorkloadKey) -> Workload:
        return self.workloads.get(key, UNKNOWN)

    def namespace(self, name: str) -> Mapping[str, str]:
        return self.namespaces.get(name, {NAMESPACE_NAME: name})

    def takes_all(self, network: str) -> bool:
        """Whether policies without an annotation apply on the Network."""
        return self.scopes.get(network, PolicyScope.ALL) is PolicyScope.ALL
