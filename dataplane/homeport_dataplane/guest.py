"""The inside of a guest's namespace: addresses and routes of one link, set in one go and read back for CHECK.

Reference: rtnetlink(7); RFC 4862 §5.4 for why duplicate address detection is skipped: the address is the Interface's,
the store says so, and a probe of ours that the guest saw would make it give the address up.
"""

import errno
import ipaddress
import struct
from dataclasses import dataclass

from homeport_api.addresses import IpAddress, IpInterface, IpNetwork
from homeport_api.errors import NotFound
from homeport_dataplane import netlink
from homeport_dataplane.links import Link, find_link, set_link
from homeport_dataplane.netlink import Request, as_u32, attribute_map
from homeport_dataplane.netns import Namespace

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 20, 22, 24, 26
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_MAIN, _PROTO_KERNEL, _PROTO_STATIC, _SCOPE_UNIVERSE, _SCOPE_LINK, _UNICAST = 254, 2, 4, 0, 253, 1
_ONLINK = 4
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_FAMILY = {4: 2, 6: 10}
_LENGTH = {2: 4, 10: 16}


@dataclass(frozen=True, slots=True)
class GuestRoute:
    """`gateway` None: the destination is on the link itself."""

    to: IpNetwork
    gateway: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What a guest's link is given."""

    addresses: tuple[IpInterface, ...] = ()
    routes: tuple[GuestRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class GuestState:
    """What a guest's link has: global and link-local addresses, and routes that are not the kernel's own."""

    link: Link
    addresses: frozenset[IpInterface]
    routes: frozenset[GuestRoute]

    def lacks(self, config: GuestConfig) -> tuple[str, ...]:
        """What is missing, in words; empty when all is there."""
        addresses = [f"address {each}" for each in config.addresses if each not in self.addresses]
        routes = [f"route to {each.to}" for each in config.routes if each not in self.routes]
        down = [] if self.link.up else [f"link {self.link.name} is down"]
        return (*addresses, *routes, *down)


def configure_guest(guest: Namespace, name: str, config: GuestConfig) -> None:
    """Brings the link up with its addresses and routes. What is there stays, what else is there is left alone; a route
    to the same destination is replaced. A gateway outside every prefix is taken to be on the link. Raises NotFound when
    the link is gone."""
    link = find_link(guest, name)
    if link is None:
        raise NotFound(f"link {name} does not exist in network namespace {guest.label}")
    if any(address.version == 6 for address in config.addresses) and not link.ipv6:
        # Container runtimes switch IPv6 off in a sandbox that has no IPv6 address of its own yet.
        guest.ensure_sysctl(f"ipv6/conf/{name}/disable_ipv6", "0")
    requests = [] if link.up else [set_link(f"bringing up {name}", link.index, up=True)]
    requests += [_address_request(link, address) for address in config.addresses]
    requests += [_route_request(link, route, config.addresses) for route in config.routes]
    if not requests:
        return
    with guest.netlink() as socket:
        _, refusals = socket.attempt(*requests)
    for refusal in refusals.values():
        if refusal.errno != errno.EEXIST:
            raise refusal


def read_guest(guest: Namespace, name: str) -> GuestState | None:
    """What the link has now; None when there is no such link."""
    link = find_link(guest, name)
    if link is None:
        return None
    with guest.netlink() as socket:
        addresses = socket.dump(Request(f"listing addresses in {guest.label}", _GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)))
        routes = socket.dump(Request(f"listing routes in {guest.label}", _GETROUTE, _ROUTE.pack(*[0] * 9)))
    return GuestState(
        link,
        frozenset(
            each for index, each in map(_read_address, (reply.body for reply in addresses)) if index == link.index
        ),
        frozenset(
            each
            for index, each in map(_read_route, (reply.body for reply in routes))
            if index == link.index and each is not None
        ),
    )


def list_addresses(namespace: Namespace) -> dict[int, tuple[IpInterface, ...]]:
    """The addresses of every link, by index."""
    with namespace.netlink() as socket:
        operation = f"listing addresses in {namespace.label}"
        replies = socket.dump(Request(operation, _GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)))
    found: dict[int, tuple[IpInterface, ...]] = {}
    for reply in replies:
        index, address = _read_address(reply.body)
        found[index] = (*found.get(index, ()), address)
    return found


def list_routes(namespace: Namespace) -> tuple[tuple[int, GuestRoute], ...]:
    """The main table's routes that somebody set, with the index of the link each leaves by."""
    with namespace.netlink() as socket:
        replies = socket.dump(Request(f"listing routes in {namespace.label}", _GETROUTE, _ROUTE.pack(*[0] * 9)))
    read = [_read_route(reply.body) for reply in replies]
    return tuple((index, route) for index, route in read if route is not None)


def _address_request(link: Link, address: IpInterface) -> Request:
    family = _FAMILY[address.version]
    packed = address.ip.packed
    values = [netlink.attribute(_IFA_LOCAL, packed), netlink.attribute(_IFA_ADDRESS, packed)]
    if isinstance(address, ipaddress.IPv4Interface):
        if address.network.prefixlen < 31:
            values.append(netlink.attribute(_IFA_BROADCAST, address.network.broadcast_address.packed))
    else:
        values.append(netlink.u32(_IFA_FLAGS, _NODAD))
    body = _ADDRESS.pack(family, address.network.prefixlen, 0, 0, link.index) + b"".join(values)
    return Request(f"address {address} on {link.name}", _NEWADDR, body, netlink.CREATE | netlink.EXCLUSIVE)


def _route_request(link: Link, route: GuestRoute, addresses: tuple[IpInterface, ...]) -> Request:
    gateway = route.gateway
    flags = 0
    if gateway is not None and not gateway.is_link_local:
        same_family = [address.network for address in addresses if address.version == gateway.version]
        flags = 0 if any(gateway in network for network in same_family) else _ONLINK
    scope = _SCOPE_LINK if gateway is None and route.to.version == 4 else _SCOPE_UNIVERSE
    family = _FAMILY[route.to.version]
    head = _ROUTE.pack(family, route.to.prefixlen, 0, 0, _MAIN, _PROTO_STATIC, scope, _UNICAST, flags)
    values = [netlink.attribute(_RTA_DST, route.to.network_address.packed)] if route.to.prefixlen else []
    if gateway is not None:
        values.append(netlink.attribute(_RTA_GATEWAY, gateway.packed))
    values.append(netlink.u32(_RTA_OIF, link.index))
    via = "" if gateway is None else f" via {gateway}"
    operation = f"route to {route.to}{via} on {link.name}"
    return Request(operation, _NEWROUTE, head + b"".join(values), netlink.CREATE | netlink.REPLACE)


def _read_address(body: bytes) -> tuple[int, IpInterface]:
    _, prefix, _, _, index = _ADDRESS.unpack_from(body)
    values = attribute_map(body, _ADDRESS.size)
    return index, ipaddress.ip_interface((values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b"")), prefix))


def _read_route(body: bytes) -> tuple[int, GuestRoute | None]:
    family, prefix, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    values = attribute_map(body, _ROUTE.size)
    table = as_u32(values.get(_RTA_TABLE), table)
    index = as_u32(values.get(_RTA_OIF))
    if table != _MAIN or kind != _UNICAST or protocol == _PROTO_KERNEL or family not in _LENGTH:
        return index, None
    to = ipaddress.ip_network((values.get(_RTA_DST, bytes(_LENGTH[family])), prefix))
    gateway = values.get(_RTA_GATEWAY)
    return index, GuestRoute(to, None if gateway is None else ipaddress.ip_address(gateway))
