"""A port as the agent wants it: one NIC of one attachment, on this node's switch. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from homeport_agent.placement import Placement
from homeport_api.addresses import IpAddress, IpNetwork, L2Domain, MacAddress, link_local_of
from homeport_api.attachment import AttachmentKey, Nic, PortKind
from homeport_api.interface import Interface
from homeport_api.network import Network, Security
from homeport_dataplane.guest import GuestConfig, GuestRoute
from homeport_dataplane.marks import PortMark, port_name
from homeport_ipam.learn import own_addresses

TRUSTED_DHCP_SERVER, TRUSTED_ROUTER = "dhcpServer", "router"

DEFAULT: dict[int, IpNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the guest may send. `addresses` are its own; of a family in `unbound`, and link-local ones, it may take
    others by itself. `forbidden` is the gateway's link-local address, which no guest may use."""

    anti_spoof: bool = True
    dhcp_server: bool = False
    router: bool = False
    addresses: frozenset[IpAddress] = frozenset()
    unbound: frozenset[int] = frozenset({4, 6})
    forbidden: frozenset[IPv6Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Port:
    """`name` is the link in the switch (or, on an existing bridge, in the host namespace). `mac` is the guest's.
    `domain` is the L2 domain of what it sends without a tag."""

    name: str
    key: AttachmentKey
    nic: Nic
    placement: Placement
    mark: PortMark
    mac: MacAddress
    rights: Rights
    domain: L2Domain | None

    @property
    def kind(self) -> PortKind:
        return self.nic.kind


def port_of(
    key: AttachmentKey,
    nic: Nic,
    network: Network,
    placement: Placement,
    interface: Interface | None,
    nics: Iterable[Nic] = (),
    others: Iterable[Interface] = (),
) -> Port:
    """The port of one NIC; `nics` are all of its attachment, `others` the Interfaces of the others. A tap's own name is
    kept in its mark, so that it can go back under it. `interface` None: it is not known just now, and what it alone
    allows its guest is not allowed."""
    if nic.mac is None:
        raise ValueError(f"Interface {nic.interface} has no MAC: it cannot have a port")
    return Port(
        port_name(nic.uid, nic.epoch),
        key,
        nic,
        placement,
        PortMark(nic.interface, nic.uid, nic.epoch, nic.link if nic.kind is PortKind.TAP else ""),
        nic.mac,
        rights_of(nic, network, interface, nics, others),
        network.l2_domain,
    )


def rights_of(
    nic: Nic,
    network: Network,
    interface: Interface | None,
    nics: Iterable[Nic] = (),
    others: Iterable[Interface] = (),
) -> Rights:
    """A family is bound where Homeport gives its addresses out, or this guest was given one: it may use those, and
    those that it is allowed besides, the gateway's only where it is trusted as a router. What it took by itself is its
    own, and so is the link-local address of its MAC. A guest with several NICs on one Network may use the addresses of
    each on all of them, for Linux answers and sends by whichever comes first."""
    security = network.spec.security or Security()
    trusted = interface.spec.trusted if interface is not None else ()
    mine = [nic, *(each for each in nics if each.network == nic.network)]
    own = {address.ip for each in mine for address in each.addresses}
    bound = {address.version for address in own} | {pool.cidr.version for pool in network.spec.ipam.pools}
    allowed = interface.spec.allowed if interface is not None else ()
    own |= own_addresses(interface) if interface is not None and interface.meta.uid == nic.uid else set()
    own |= {taken.address for each in others if each.spec.network == nic.network for taken in each.status.learned}
    own |= {link_local_of(nic.mac)} if nic.mac is not None else set()
    gateway = network.spec.gateway6
    kept = () if TRUSTED_ROUTER in trusted else (network.spec.gateway4, gateway)
    return Rights(
        security.anti_spoof,
        not security.dhcp_guard or TRUSTED_DHCP_SERVER in trusted,
        not security.ra_guard or TRUSTED_ROUTER in trusted,
        frozenset(own | {each.address for each in allowed if each.vlan is None and each.address not in kept}),
        frozenset({4, 6} - bound) if network.l2_domain is not None else frozenset(),
        frozenset({gateway} if gateway is not None and gateway.is_link_local else ()),
    )


def moved_on(interface: Interface, nic: Nic) -> bool:
    """Whether somebody took the Interface after this attachment, and even if nobody holds it now. One that the store
    knows from before (it was restored) is still ours: replay puts it back, and the kernel is believed meanwhile."""
    return interface.meta.uid == nic.uid and interface.status.epoch > nic.epoch


def guest_config(nic: Nic, interface: Interface, *, default_route: bool) -> GuestConfig:
    """Addresses and routes of the guest's end: the Network's routes through the gateway of their family (on the link
    without one), and the way out where this is the guest's first NIC. None of a family without an address."""
    status = interface.status
    gateways: dict[int, IpAddress | None] = {4: status.gateway4, 6: status.gateway6}
    families = {address.version for address in nic.addresses}
    routes = [GuestRoute(to, gateways[to.version]) for to in status.routes]
    if default_route:
        routes += [GuestRoute(DEFAULT[version], gateway) for version, gateway in gateways.items() if gateway]
    return GuestConfig(tuple(nic.addresses), tuple(route for route in routes if route.to.version in families))
