"""A port as the agent wants it: one NIC of one attachment, on this node's switch. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from homeport_agent.placement import Placement
from homeport_api.addresses import IpAddress, IpNetwork, MacAddress
from homeport_api.attachment import AttachmentKey, Nic, PortKind
from homeport_api.interface import Interface
from homeport_api.network import Network
from homeport_dataplane.guest import GuestConfig, GuestRoute
from homeport_dataplane.marks import PortMark, port_name

DEFAULT: dict[int, IpNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, slots=True)
class Port:
    """`name` is the link in the switch (or, on an existing bridge, in the host namespace). `mac` is the guest's."""

    name: str
    key: AttachmentKey
    nic: Nic
    placement: Placement
    mark: PortMark
    mac: MacAddress
    anti_spoof: bool

    @property
    def kind(self) -> PortKind:
        return self.nic.kind


def port_of(key: AttachmentKey, nic: Nic, network: Network, placement: Placement) -> Port:
    """The port of one NIC. A tap's own name is kept in its mark, so that it can go back under it."""
    if nic.mac is None:
        raise ValueError(f"Interface {nic.interface} has no MAC: it cannot have a port")
    security = network.spec.security
    return Port(
        port_name(nic.uid, nic.epoch),
        key,
        nic,
        placement,
        PortMark(nic.interface, nic.uid, nic.epoch, nic.link if nic.kind is PortKind.TAP else ""),
        nic.mac,
        security is None or security.anti_spoof,
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
