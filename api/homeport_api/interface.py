"""Interface: a VM's place on a Network. It outlives every container, process and node that ever held it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

from homeport_api.addresses import IpAddress, IpInterface, IpNetwork, MacAddress, VlanId
from homeport_api.meta import Condition, ObjectMeta
from homeport_api.network import DnsConfig


@dataclass(frozen=True, slots=True, order=True)
class InterfaceKey:
    """Namespace and name: the identity of an Interface, together with its uid."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Phase(StrEnum):
    """Reserved whenever there is no active holder."""

    RESERVED = "Reserved"
    ACTIVE = "Active"
    MIGRATING = "Migrating"


class Role(StrEnum):
    """What a holder does. At most one is active."""

    ACTIVE = "active"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Holder:
    """One attachment of the Interface on one node. `ifname` is the CNI_IFNAME of the call; `since` is seconds since
    the epoch. `plugin` and `cni_name` complete the attachment's key, so that a DEL finds exactly its own holder."""

    node: str
    boot_id: str
    container_id: str
    ifname: str
    role: Role = Role.ACTIVE
    since: float = 0.0
    plugin: str = "homeport"
    cni_name: str = ""

    def __str__(self) -> str:
        return f"container {self.container_id} ({self.ifname}) on node {self.node}"


@dataclass(frozen=True, slots=True)
class AllowedAddress:
    """A further address the guest may use; `vlan` only on trunks."""

    address: IpAddress
    vlan: VlanId | None = None


@dataclass(frozen=True, slots=True)
class LearnedAddress:
    """An address that the guest took by itself, where Homeport gives out none; bound to the Interface since then, in
    seconds since the epoch."""

    address: IpAddress
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """As the user wrote it; empty means chosen. An address without a prefix is kept as a /32 or /128 with
    `bare_addresses` naming it, so that the Network's prefix can be put in its place."""

    network: str
    addresses: tuple[IpInterface, ...] = ()
    bare_addresses: tuple[IpAddress, ...] = ()
    mac: MacAddress | None = None
    vm: str | None = None
    interface: str | None = None
    allowed: tuple[AllowedAddress, ...] = ()
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """What is so. `ephemeral` marks an identity that ends with its DEL (a pod that is no VM, a bare container).
    `orphaned` is the time its VM object went away, from which `reclaimAfter` counts. `learned` is in the order in
    which they were bound."""

    addresses: tuple[IpInterface, ...] = ()
    mac: MacAddress | None = None
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    routes: tuple[IpNetwork, ...] = ()
    dns: DnsConfig = field(default_factory=DnsConfig)
    phase: Phase = Phase.RESERVED
    epoch: int = 0
    holders: tuple[Holder, ...] = ()
    conditions: tuple[Condition, ...] = ()
    pod: str = ""
    ephemeral: bool = False
    orphaned: float | None = None
    learned: tuple[LearnedAddress, ...] = ()

    @property
    def owned(self) -> tuple[IpAddress, ...]:
        """Every address that is its own alone: given, and learned."""
        return (*(address.ip for address in self.addresses), *(learned.address for learned in self.learned))


@dataclass(frozen=True, slots=True)
class Interface:
    """Namespaced. Owns its addresses and MAC until it is deleted or reclaimed."""

    meta: ObjectMeta
    spec: InterfaceSpec
    status: InterfaceStatus = field(default_factory=InterfaceStatus)

    @property
    def key(self) -> InterfaceKey:
        return InterfaceKey(self.meta.namespace, self.meta.name)

    @property
    def active_holder(self) -> Holder | None:
        return next((holder for holder in self.status.holders if holder.role is Role.ACTIVE), None)


LONGEST_NAME = 63
_OTHER = re.compile(r"[^a-z0-9-]")


def interface_names(vm: str, interface: str) -> Iterator[str]:
    """The names the Interface of an identity may have, in order of preference: `<vm>-<interface>` in lower case with
    other characters as `-`; then, when that is longer than 63 or taken by another identity, cut and with 8 hexadecimal
    digits of sha256 of `<vm>/<interface>` at its end. It must come out the same in every version of Homeport and after
    a lost store, so it never changes. Identities that collide in both are refused by whoever tries."""
    plain = _OTHER.sub("-", f"{vm}-{interface}".lower()).strip("-")
    if plain and len(plain) <= LONGEST_NAME:
        yield plain
    digest = sha256(f"{vm}/{interface}".encode()).hexdigest()[:8]
    yield f"{plain[: LONGEST_NAME - 9].strip('-') or 'interface'}-{digest}"
