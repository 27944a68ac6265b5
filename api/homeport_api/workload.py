"""Workload: what policies know a VM or pod by: its labels, and its named ports. Stored under workloads/…."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from homeport_api.interface import InterfaceKey
from homeport_api.meta import EMPTY


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A port that policies may call by name."""

    name: str
    number: int
    protocol: Protocol = Protocol.TCP


@dataclass(frozen=True, slots=True)
class Workload:
    """`namespace` and `name` are those of the VM or pod."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ports: tuple[NamedPort, ...] = ()
    revision: int = 0

    @property
    def key(self) -> InterfaceKey:
        return InterfaceKey(self.namespace, self.name)
