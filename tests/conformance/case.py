"""One conformance case as a value: who is where, which policies there are, and which connections must pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from homeport_api.addresses import IpAddress
from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.workload import NamedPort, Protocol

OUTSIDE = "ip:"
"""What the end of an expectation begins with that is a host outside."""


@dataclass(frozen=True, slots=True)
class Nic:
    """`network` is the NetworkAttachmentDefinition it is attached through; None in cases that know only one network."""

    addresses: tuple[IpAddress, ...]
    network: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    labels: Mapping[str, str]
    ports: tuple[NamedPort, ...]
    nics: tuple[Nic, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """`source` and `target` are `namespace/pod`, or `ip:ADDRESS` for a host outside. The networks and addresses choose
    among several of an end."""

    source: str
    target: str
    port: int
    protocol: Protocol
    allowed: bool
    source_network: tuple[str, str] | None = None
    target_network: tuple[str, str] | None = None
    source_address: IpAddress | None = None
    target_address: IpAddress | None = None

    def __str__(self) -> str:
        network = "/".join(self.target_network) if self.target_network else ""
        where = f" on {network}" if network else ""
        verdict = "allowed" if self.allowed else "denied"
        return f"{self.source} -> {self.target} {self.port}/{self.protocol}{where} must be {verdict}"


@dataclass(frozen=True, slots=True)
class Case:
    """`refused` is why our parser refuses its policies, which a case's never are; None when it takes them."""

    id: str
    file: str
    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[Pod, ...]
    policies: tuple[NetworkPolicy, ...]
    expectations: tuple[Expectation, ...]
    disputed: bool = False
    refused: str | None = None
