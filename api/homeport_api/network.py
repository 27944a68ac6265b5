"""Network: one Layer 2 network, where it leaves the node, and what its guests are told."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from homeport_api.addresses import IpNetwork, L2Domain, MacDomain, VlanId, VlanRange
from homeport_api.meta import Condition, ObjectMeta
from homeport_api.pool import Pool, PoolStatus
from homeport_api.selector import Selector

DAY = 86_400.0


class Lifecycle(StrEnum):
    """Who makes bridge and VLANs: the agent, or the user beforehand."""

    MANAGED = "Managed"
    USER_MANAGED = "UserManaged"


class StaticAddresses(StrEnum):
    """Which addresses a namespace user may ask for."""

    POOL = "Pool"
    ANY = "Any"


class PolicyScope(StrEnum):
    """Which NetworkPolicies apply: all, or those annotated with this Network."""

    ALL = "All"
    ANNOTATED = "Annotated"


@dataclass(frozen=True, slots=True)
class Trunk:
    """A NIC that carries several VLANs tagged, and at most one (`native_vlan`) untagged."""

    vlans: tuple[VlanRange, ...]
    native_vlan: VlanId | None = None


@dataclass(frozen=True, slots=True)
class L2Config:
    """`vlan_id` and `trunk` exclude each other; neither means untagged."""

    vlan_id: VlanId | None = None
    trunk: Trunk | None = None
    prefix_length4: int | None = None
    prefix_length6: int | None = None


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Name servers and search domains, in order."""

    nameservers: tuple[IPv4Address | IPv6Address, ...] = ()
    searches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ipam:
    """`reclaim_after` in seconds after the VM object is gone; None means Never."""

    pools: tuple[Pool, ...] = ()
    reclaim_after: float | None = DAY


@dataclass(frozen=True, slots=True)
class Security:
    """What guests of this Network may not do."""

    anti_spoof: bool = True
    dhcp_guard: bool = True
    ra_guard: bool = True


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """`uplink` None means isolated inside each node. `dhcp_relay` and `ra` are validated and kept in their manifest
    form until the part that enforces them exists."""

    uplink: str | None = None
    l2: L2Config = L2Config()
    lifecycle: Lifecycle = Lifecycle.MANAGED
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    routes: tuple[IpNetwork, ...] = ()
    dns: DnsConfig = DnsConfig()
    mtu: int | None = None
    ipam: Ipam = Ipam()
    external_dhcp4: bool = False
    external_dhcp6: bool = False
    dhcp_relay: dict[str, Any] | None = None
    ra: dict[str, Any] | None = None
    security: Security | None = None
    network_policies: PolicyScope | None = None
    allowed_namespaces: Selector | None = None
    static_addresses: StaticAddresses = StaticAddresses.POOL


@dataclass(frozen=True, slots=True)
class NodeReadiness:
    """Whether one node can attach to the Network, and why not."""

    name: str
    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """Merged by readers from what the nodes report; never an input."""

    conditions: tuple[Condition, ...] = ()
    pools: tuple[PoolStatus, ...] = ()
    nodes: tuple[NodeReadiness, ...] = ()
    in_use: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """Cluster-scoped. Uplink, VLAN ID and trunk never change once it exists."""

    meta: ObjectMeta
    spec: NetworkSpec = field(default_factory=NetworkSpec)
    status: NetworkStatus = NetworkStatus()

    @property
    def name(self) -> str:
        return self.meta.name

    @property
    def isolated(self) -> bool:
        return self.spec.uplink is None

    @property
    def l2_domain(self) -> L2Domain | None:
        """Where its addresses are unique. None for a trunk without a native VLAN, which has no addresses of its own."""
        if self.spec.uplink is None:
            return L2Domain(f":{self.name}")
        trunk = self.spec.l2.trunk
        if trunk is not None:
            return None if trunk.native_vlan is None else L2Domain(f"{self.spec.uplink}:{trunk.native_vlan}")
        return L2Domain(f"{self.spec.uplink}:{self.spec.l2.vlan_id or 'untagged'}")

    @property
    def mac_domain(self) -> MacDomain:
        """Where its MAC keys live: the uplink, or the isolated Network itself."""
        return MacDomain(self.spec.uplink if self.spec.uplink is not None else f":{self.name}")

    @property
    def mac_scope(self) -> str:
        """The last segment of its MAC keys: the VLAN ID, `untagged`, or `trunk` (which excludes all others)."""
        if self.spec.l2.trunk is not None:
            return "trunk"
        return str(self.spec.l2.vlan_id or "untagged")

    @property
    def external_dhcp(self) -> bool:
        """True where addresses come from a server that is not ours, so `ips` of a result are empty."""
        return self.spec.external_dhcp4 or self.spec.external_dhcp6 or self.spec.dhcp_relay is not None
