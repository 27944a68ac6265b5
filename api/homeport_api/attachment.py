"""Attachment: the record that one CNI call or one `homeport attach` holds one or more Interfaces on a node."""

from dataclasses import dataclass
from enum import StrEnum

from homeport_api.addresses import IpAddress, IpInterface, MacAddress
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.network import Network


class Source(StrEnum):
    """Who asked. GC of a runtime judges only its own."""

    CNI = "cni"
    CLI = "cli"


@dataclass(frozen=True, slots=True, order=True)
class AttachmentKey:
    """What a runtime knows of an attachment (CNI SPEC, "Attachment"), plus the node it is on. `plugin` is the
    configuration's `type`, `cni_name` its `name`, `ifname` the CNI_IFNAME of the call."""

    node: str
    plugin: str
    cni_name: str
    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.plugin}/{self.cni_name}/{self.container_id}/{self.ifname} on {self.node}"


class PortKind(StrEnum):
    """What carries the guest's frames. NONE is an attachment of `homeport-ipam`, whose link is not ours."""

    VETH = "veth"
    TAP = "tap"
    HOST = "host"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Nic:
    """One Interface in an attachment. `link` is the name inside the guest's namespace, or the tap's own; `port` is the
    link's name in the switch. With `vm`, `vm_interface` and `ephemeral` the Interface can be put back whole where the
    store lost it."""

    interface: InterfaceKey
    uid: str
    epoch: int
    network: str
    link: str
    port: str = ""
    kind: PortKind = PortKind.VETH
    mac: MacAddress | None = None
    addresses: tuple[IpInterface, ...] = ()
    vm: str | None = None
    vm_interface: str | None = None
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """Stored under attachments/…; `boot_id` tells whether its links can still exist. `netns` is the path the caller
    gave, for CHECK and for the eye; it is never needed to take the attachment away."""

    key: AttachmentKey
    source: Source
    boot_id: str
    nics: tuple[Nic, ...]
    netns: str = ""
    since: float = 0.0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an Interface belongs to. `ephemeral`: the identity ends with its DEL (a pod that is no VM, a container)."""

    namespace: str
    vm: str
    interface: str
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class NicRequest:
    """One NIC of a call, after the caller was identified and before anything is decided.

    Either `network` is set, or `interface_object` names an existing Interface of the caller's namespace, or both (then
    they must agree). `bare_ips` were asked for without a prefix: it is then the pool's, else the Network's, else /32 or
    /128. `wants_mac` is False for `homeport-ipam`, which gives addresses only. `admin` lifts what a Network forbids to
    namespace users (allowedNamespaces); an address outside the pool stays refused unless the Network says `Any`."""

    identity: Identity
    link: str
    network: str | None = None
    interface_object: str | None = None
    ips: tuple[IpInterface, ...] = ()
    bare_ips: tuple[IpAddress, ...] = ()
    mac: MacAddress | None = None
    wants_mac: bool = True
    admin: bool = False
    kind: PortKind = PortKind.VETH


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """All NICs of one call: allocated in one transaction, or not at all. `take_over` is an operator's word;
    `gone_ports` are Interfaces with the epoch at which the agent has seen their holder on this node without its port.
    Who holds one since, under a later epoch, was not looked at."""

    key: AttachmentKey
    source: Source
    boot_id: str
    nics: tuple[NicRequest, ...]
    netns: str = ""
    pod: str = ""
    take_over: bool = False
    gone_ports: frozenset[tuple[InterfaceKey, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class AttachedNic:
    """What was decided and written for one NIC: its record, its Interface, and the Network as it stood."""

    nic: Nic
    interface: Interface
    network: Network
