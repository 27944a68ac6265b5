"""A port into a guest's network namespace: a veth made with both ends where they belong, in one message.

Nothing is made in the node's namespace and moved: that would cost milliseconds, and show a link to everybody who
watches.
"""

import errno
from dataclasses import dataclass

from homeport_api.addresses import MacAddress
from homeport_api.errors import AlreadyExists
from homeport_dataplane import netlink
from homeport_dataplane.links import (
    ADDRESS,
    DISCARDED_GROUP,
    IFNAME,
    INFO_DATA,
    INFO_KIND,
    LINKINFO,
    MASTER,
    MTU,
    NET_NS_FD,
    NEWLINK,
    RX_QUEUES,
    TX_QUEUES,
    Link,
    delete_link,
    find_index,
    find_link,
    get_link,
    link_body,
    read_link,
    set_link,
)
from homeport_dataplane.marks import DISCARDED
from homeport_dataplane.netlink import Request
from homeport_dataplane.netns import Namespace
from homeport_dataplane.port import Port, bridge_index, is_right, join

_VETH_INFO_PEER = 1


@dataclass(frozen=True, slots=True)
class Guest:
    """The end that the guest gets: its name and MAC, in its namespace."""

    namespace: Namespace
    name: str
    mac: MacAddress


def ensure_veth(switch: Namespace, port: Port, guest: Guest) -> Link:
    """The port's end, up, on its bridge and without a VLAN if it was made now; a port that is there already keeps the
    VLANs it has. A port of that name whose other end is not the one wanted is made anew. Raises AlreadyExists when the
    guest has another link of that name, and UplinkUnusable when the bridge is gone."""
    bridge = bridge_index(switch, port.bridge)
    link = _create(switch, port, guest)
    if link is None:
        link = find_link(switch, port.name)
        if link is not None and _leads_to(switch, link, guest) and link.alias != DISCARDED:
            return link if is_right(link, port, bridge) else _correct(switch, port, link, bridge)
        if link is None:
            _clear_guest(switch, guest)
        elif link.mark is not None and link.mark.uid != port.mark.uid:
            raise AlreadyExists(f"port {port.name} belongs to Interface {link.mark.interface}")
        else:
            delete_link(switch, port.name)
        link = _create(switch, port, guest)
        if link is None:
            raise AlreadyExists(f"link {guest.name} appeared in {guest.namespace.label} while it was made; try again")
    try:
        with switch.netlink() as socket:
            return join(switch, socket, port, link.index, bridge)
    except BaseException:
        delete_link(switch, port.name)
        raise


def _create(switch: Namespace, port: Port, guest: Guest) -> Link | None:
    """Both ends; None when one of the names is taken."""
    ours = _end(port.name, port.mac, port.mtu)
    theirs = [*_end(guest.name, guest.mac, port.mtu), netlink.u32(NET_NS_FD, guest.namespace.fd)]
    peer = netlink.attribute(_VETH_INFO_PEER, link_body(*theirs))
    info = netlink.nest(LINKINFO, netlink.text(INFO_KIND, "veth"), netlink.nest(INFO_DATA, peer))
    create = Request(
        f"making port {port.name} with {guest.name} in {guest.namespace.label}",
        NEWLINK,
        link_body(*ours, info),
        netlink.CREATE | netlink.EXCLUSIVE,
    )
    with switch.netlink() as socket:
        answers, refusals = socket.attempt(create, get_link(port.name))
    refused = refusals.get(0) or refusals.get(1)
    if refused is None:
        return read_link(answers[0].body)
    if refused.errno == errno.EEXIST:
        return None
    raise refused


def _end(name: str, mac: MacAddress, mtu: int) -> list[bytes]:
    """One queue each way: a veth never uses more unless told to, and allots one per possible CPU otherwise."""
    return [
        netlink.text(IFNAME, name),
        netlink.attribute(ADDRESS, bytes.fromhex(mac.replace(":", ""))),
        netlink.u32(MTU, mtu),
        netlink.u32(TX_QUEUES, 1),
        netlink.u32(RX_QUEUES, 1),
    ]


def _leads_to(switch: Namespace, link: Link, guest: Guest) -> bool:
    """Whether the link's other end is the guest's: each names the other's index. Indices repeat in every namespace, so
    each must also say that the other is elsewhere, or (a port for the node on a bridge of the node) that it is not."""
    other = find_link(guest.namespace, guest.name)
    if other is None or link.kind != "veth" or other.kind != "veth" or other.mac != guest.mac:
        return False
    same = switch.identity == guest.namespace.identity
    return (
        (other.parent, link.parent) == (link.index, other.index)
        and (link.parent_netns is None) == same
        and (other.parent_netns is None) == same
    )


def _clear_guest(switch: Namespace, guest: Guest) -> None:
    """The guest's name is taken: by a port of ours that waits for its deletion, or by somebody else."""
    theirs = find_link(guest.namespace, guest.name)
    if theirs is None:
        return
    old = find_index(switch, theirs.parent) if theirs.kind == "veth" and theirs.parent else None
    if old is None or old.group != DISCARDED_GROUP or old.parent != theirs.index:
        raise AlreadyExists(
            f"link {guest.name} exists already in network namespace {guest.namespace.label}: choose another name"
        )
    delete_link(switch, old.name)


def _correct(switch: Namespace, port: Port, link: Link, bridge: int) -> Link:
    """Sets right what somebody changed by hand; a port that is still on its bridge stays on it, with its VLANs."""
    own = [
        netlink.attribute(ADDRESS, bytes.fromhex(port.mac.replace(":", ""))),
        netlink.u32(MTU, port.mtu),
    ]
    with switch.netlink() as socket:
        if link.mac != port.mac or link.mtu != port.mtu:
            socket.request(set_link(f"setting up port {port.name}", link.index, *own))
        if link.master not in (None, bridge):
            socket.request(set_link(f"taking port {port.name} off a bridge", link.index, netlink.u32(MASTER, 0)))
        return join(switch, socket, port, link.index, bridge)
