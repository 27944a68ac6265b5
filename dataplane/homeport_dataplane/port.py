"""What every port has in common, whatever carries it: how it joins a bridge muted, and what marks it as ours."""

import errno
from dataclasses import dataclass

from homeport_api.addresses import MacAddress
from homeport_api.errors import UplinkUnusable
from homeport_dataplane import netlink
from homeport_dataplane.links import ALIAS, MASTER, Link, find_link, get_link, no_ipv6_addresses, read_link, set_link
from homeport_dataplane.marks import PortMark
from homeport_dataplane.netlink import NetlinkSocket
from homeport_dataplane.netns import Namespace
from homeport_dataplane.vlan import delete_request

_DEFAULT_PVID = 1


@dataclass(frozen=True, slots=True)
class Port:
    """A port as it is to be in the switch. `mac` is its own, never the guest's (`marks.port_mac`)."""

    name: str
    bridge: str
    mark: PortMark
    mac: MacAddress
    mtu: int


def bridge_index(switch: Namespace, name: str) -> int:
    """Raises UplinkUnusable when the bridge is gone: the Network cannot be reached here now."""
    bridge = find_link(switch, name)
    if bridge is None or bridge.kind != "bridge":
        raise UplinkUnusable(f"bridge {name} does not exist in network namespace {switch.label}")
    return bridge.index


def join(switch: Namespace, socket: NetlinkSocket, port: Port, index: int, bridge: int) -> Link:
    """Puts a link that is down on its bridge, without any VLAN, and brings it up. A bridge that others made gives
    VLAN 1 to whatever joins it: that is taken away while the port is still down."""
    mark = netlink.text(ALIAS, str(port.mark))
    _, refusals = socket.attempt(
        no_ipv6_addresses(index),  # refused where there is no IPv6 at all
        set_link(f"joining port {port.name} to bridge {port.bridge}", index, mark, netlink.u32(MASTER, bridge)),
        delete_request(port.name, index, (_DEFAULT_PVID,)),
    )
    if 1 in refusals:
        raise refusals[1]
    if 2 in refusals and refusals[2].errno not in (errno.ENOENT, errno.EOPNOTSUPP):
        raise refusals[2]
    link = read_link(socket.request(get_link(port.name))[0].body)
    if link.ipv6:
        switch.ensure_sysctl(f"ipv6/conf/{port.name}/disable_ipv6", "1")
    answers = socket.request(set_link(f"bringing up port {port.name}", index, up=True), get_link(port.name))
    return read_link(answers[0].body)


def is_right(link: Link, port: Port, bridge: int) -> bool:
    """Whether nothing about the port's own end needs to be done."""
    return (
        link.master == bridge
        and link.alias == str(port.mark)
        and link.mac == port.mac
        and link.mtu == port.mtu
        and link.up
        and not link.ipv6
    )
