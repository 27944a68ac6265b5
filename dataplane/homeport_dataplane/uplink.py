"""The uplink: what a Network's `interfaceName` is on this node, and how it reaches the switch.

    node's namespace                       switch's namespace
    eth1 or bond0  ── stays where it is ──  hpu-eth1 (macvlan, passthru) ── hpb-eth1 (bridge) ── ports

A passthru macvlan takes every frame of the NIC, so a NIC that the node itself speaks through is refused; links on it
that take their own VLAN out of the stream (the node's VLAN sub-interfaces) go on working, and their VLANs never arrive
here.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from homeport_api.addresses import IpInterface, VlanId
from homeport_api.errors import UplinkUnusable
from homeport_dataplane import netlink
from homeport_dataplane.guest import list_addresses, list_routes
from homeport_dataplane.links import (
    EXT_MASK,
    GETLINK,
    IFNAME,
    INFO_DATA,
    INFO_KIND,
    LINK,
    LINKINFO,
    MASTER,
    MTU,
    NET_NS_FD,
    NEWLINK,
    PROMISCUOUS,
    UP,
    Link,
    delete_link,
    find_link,
    get_link,
    link_body,
    no_ipv6_addresses,
    read_link,
)
from homeport_dataplane.marks import uplink_name
from homeport_dataplane.netlink import Request, as_u16, attribute_map
from homeport_dataplane.netns import Namespace
from homeport_dataplane.port import bridge_index

_MACVLAN_MODE, _PASSTHRU, _VLAN_ID = 1, 8, 1
_SKIP_STATISTICS = 8
_STACKED = ("macvlan", "macvtap", "ipvlan", "ipvtap")


class UplinkKind(StrEnum):
    """What a link can be to us. A tunnel, a loopback or another's virtual link is OTHER, and may be tried."""

    MISSING = "missing"
    NIC = "NIC"
    BOND = "bond"
    BRIDGE = "bridge"
    ENSLAVED = "port of another link"
    OTHER = "virtual link"


@dataclass(frozen=True, slots=True)
class Uplink:
    """One uplink as it is now. `vlans` are the node's own VLAN sub-interfaces on it, by VLAN ID; `stacked` are links of
    the node that take frames from it in other ways; `master` is what it is a port of."""

    name: str
    kind: UplinkKind
    link: Link | None = None
    master: str = ""
    addresses: tuple[IpInterface, ...] = ()
    routes: tuple[str, ...] = ()
    vlans: Mapping[VlanId, str] = field(default_factory=dict)
    stacked: tuple[str, ...] = ()

    @property
    def refusal(self) -> str | None:
        """Why no Network can use it, with the remedy; None when one can."""
        match self.kind:
            case UplinkKind.MISSING:
                return f"uplink {self.name} does not exist on this node"
            case UplinkKind.ENSLAVED:
                return (
                    f"uplink {self.name} is a port of {self.master}: name {self.master} in nodeInterfaceMatcher instead"
                )
            case UplinkKind.BRIDGE:
                return None
            case UplinkKind.NIC | UplinkKind.BOND | UplinkKind.OTHER:
                pass
        if self.link is not None and self.link.loopback:
            return f"uplink {self.name} is the loopback link"
        if self.addresses or self.routes:
            return self._carries_the_node()
        if self.stacked:
            return (
                f"uplink {self.name} is in use by {', '.join(self.stacked)}: delete that link or choose another uplink"
            )
        return None

    def _carries_the_node(self) -> str:
        """The commands are the whole answer: a bridge takes the node's addresses, and guests join it."""
        bridge = "br0" if self.name != "br0" else "br1"
        what = ", ".join([*(str(each) for each in self.addresses), *self.routes])
        commands = [
            f"ip link add {bridge} type bridge",
            f"ip link set {bridge} address {self.link.mac}" if self.link else "",
            f"ip link set {self.name} master {bridge}",
            f"ip link set {bridge} up",
            *(f"ip address add {each} dev {bridge}" for each in self.addresses),
            f"ip address flush dev {self.name} scope global",
            *(f"ip route replace {route.replace(f'dev {self.name}', f'dev {bridge}')}" for route in self.routes),
        ]
        return (
            f"uplink {self.name} carries the node's own network ({what}): use a NIC of its own, or make a bridge of it "
            f"and name {bridge} in nodeInterfaceMatcher: {' && '.join(filter(None, commands))}"
        )


def inspect(host: Namespace, name: str) -> Uplink:
    """What the link is now. Never fails for what it finds; `require_usable` judges."""
    link = find_link(host, name)
    if link is None:
        return Uplink(name, UplinkKind.MISSING)
    links, vlans = _list_with_vlans(host)
    if link.master is not None:
        master = next((each.name for each in links if each.index == link.master), str(link.master))
        return Uplink(name, UplinkKind.ENSLAVED, link, master)
    kind = {"": UplinkKind.NIC, "bond": UplinkKind.BOND, "bridge": UplinkKind.BRIDGE}.get(link.kind, UplinkKind.OTHER)
    addresses = tuple(each for each in list_addresses(host).get(link.index, ()) if not each.ip.is_link_local)
    routes = tuple(
        f"{'default' if not route.to.prefixlen else route.to}"
        + (f" via {route.gateway}" if route.gateway else "")
        + f" dev {name}"
        for index, route in list_routes(host)
        if index == link.index
    )
    upon = [each for each in links if each.parent == link.index and each.parent_netns is None]
    return Uplink(
        name=name,
        kind=kind,
        link=link,
        addresses=addresses,
        routes=routes,
        vlans={vlans[each.index]: each.name for each in upon if each.index in vlans},
        stacked=tuple(each.name for each in upon if each.kind in _STACKED),
    )


def require_usable(uplink: Uplink) -> None:
    """Raises UplinkUnusable, saying why and what to do. A bridge is usable: ports join it in the node's namespace."""
    refusal = uplink.refusal
    if refusal is not None:
        raise UplinkUnusable(refusal)


def require_vlan(uplink: Uplink, vlan: VlanId) -> None:
    """Raises UplinkUnusable for a VLAN that the node itself takes out of the uplink: its frames never reach the
    switch."""
    taken = uplink.vlans.get(vlan)
    if taken is not None:
        raise UplinkUnusable(
            f"VLAN {vlan} of uplink {uplink.name} belongs to the node's own link {taken}: delete it or use another VLAN"
        )


def ensure_uplink(host: Namespace, switch: Namespace, name: str, bridge: str) -> Link:
    """The uplink's link in the switch, up, promiscuous, on the bridge and with the uplink's MTU; it has no VLAN when it
    was made now, and keeps those it has when it was there. One whose NIC went away vanished with it, and is made anew
    when the NIC is back. Raises UplinkUnusable when the uplink is missing, carries the node, or is taken."""
    uplink = inspect(host, name)
    ours = find_link(switch, uplink_name(name))
    if ours is None:
        require_usable(uplink)
    parent = uplink.link
    if parent is None:
        raise UplinkUnusable(f"uplink {name} does not exist on this node")
    if ours is not None and ours.parent != parent.index:
        delete_link(switch, ours.name)
        ours = None
    index = bridge_index(switch, bridge)
    if ours is None:
        ours = _create(host, switch, uplink, parent)
    if not parent.up:
        with host.netlink() as socket:
            socket.request(_set(f"bringing up uplink {name}", parent.index, flags=UP))
    if ours.up and ours.master == index and ours.mtu == parent.mtu and ours.promiscuous and not ours.ipv6:
        return ours
    with switch.netlink() as socket:
        socket.attempt(no_ipv6_addresses(ours.index))
        operation = f"joining uplink {name} to bridge {bridge}"
        socket.request(_set(operation, ours.index, netlink.u32(MTU, parent.mtu), netlink.u32(MASTER, index)))
        answers = socket.request(_set(operation, ours.index, flags=UP | PROMISCUOUS), get_link(ours.name))
    return read_link(answers[0].body)


def delete_uplink(switch: Namespace, name: str) -> bool:
    """Gives the uplink back whole to the node. False when the switch did not have it."""
    return delete_link(switch, uplink_name(name))


def _create(host: Namespace, switch: Namespace, uplink: Uplink, parent: Link) -> Link:
    mode = netlink.nest(INFO_DATA, netlink.u32(_MACVLAN_MODE, _PASSTHRU))
    create = Request(
        f"making the link of uplink {uplink.name}",
        NEWLINK,
        link_body(
            netlink.text(IFNAME, uplink_name(uplink.name)),
            netlink.u32(LINK, parent.index),
            netlink.u32(NET_NS_FD, switch.fd),
            netlink.nest(LINKINFO, netlink.text(INFO_KIND, "macvlan"), mode),
        ),
        netlink.CREATE | netlink.EXCLUSIVE,
    )
    with host.netlink() as socket:
        _, refusals = socket.attempt(create)
    refused = refusals.get(0)
    made = find_link(switch, uplink_name(uplink.name))
    if refused is not None and not (refused.errno == errno.EEXIST and made is not None):
        if refused.errno in (errno.EINVAL, errno.EBUSY):
            raise UplinkUnusable(
                f"uplink {uplink.name} is taken: another macvlan on it, in some network namespace, keeps ours out. "
                f"Look for a second Homeport agent on this node, or a container with a macvlan ({refused})"
            ) from refused
        raise UplinkUnusable(f"uplink {uplink.name}: {refused}") from refused
    if made is None:
        raise UplinkUnusable(f"uplink {uplink.name} went away while its link was made")
    return made


def _set(operation: str, index: int, *attributes: bytes, flags: int = 0) -> Request:
    return Request(operation, NEWLINK, link_body(*attributes, index=index, flags=flags, mask=flags))


def _list_with_vlans(host: Namespace) -> tuple[list[Link], dict[int, VlanId]]:
    """All links, and the VLAN ID of those that are VLAN sub-interfaces."""
    with host.netlink() as socket:
        body = link_body(netlink.u32(EXT_MASK, _SKIP_STATISTICS))
        replies = socket.dump(Request(f"listing links of {host.label}", GETLINK, body))
    links = [read_link(reply.body) for reply in replies]
    vlans: dict[int, VlanId] = {}
    for link, reply in zip(links, replies, strict=True):
        if link.kind == "vlan":
            data = attribute_map(attribute_map(attribute_map(reply.body, 16)[LINKINFO])[INFO_DATA])
            vlans[link.index] = VlanId(as_u16(data.get(_VLAN_ID)))
    return links, vlans
