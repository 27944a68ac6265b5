"""Bridges: ours in the switch, and the properties of those that others made.

A bridge of ours never speaks: no address, no IPv6, no multicast querier, no spanning tree; it has no VLAN of its own,
and a port that joins gets none (`vlan_default_pvid 0`), so VLAN 1 leaks nowhere and a new port is mute.
"""

import errno
from dataclasses import dataclass

from homeport_api.errors import AlreadyExists, NotFound, UplinkUnusable
from homeport_dataplane import netlink
from homeport_dataplane.links import (
    ADDRESS,
    IFNAME,
    INFO_DATA,
    INFO_KIND,
    LINKINFO,
    NEWLINK,
    Link,
    delete_link,
    get_link,
    link_body,
    no_ipv6_addresses,
    read_link,
    set_link,
)
from homeport_dataplane.marks import bridge_mac
from homeport_dataplane.netlink import Request, as_u8, as_u16, as_u32, attribute_map
from homeport_dataplane.netns import Namespace

_STP_STATE, _VLAN_FILTERING, _GROUP_FWD_MASK, _MCAST_SNOOPING, _DEFAULT_PVID, _MULTI_BOOLOPT = 5, 7, 9, 23, 39, 46
_NO_LL_LEARN = 1


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge and what of it matters to us."""

    link: Link
    vlan_filtering: bool
    default_pvid: int
    mcast_snooping: bool
    no_linklocal_learn: bool
    stp: bool
    group_fwd_mask: int


def find_bridge(namespace: Namespace, name: str) -> Bridge | None:
    """The bridge of that name. A link of that name that is no bridge is AlreadyExists."""
    with namespace.netlink() as socket:
        answers, refusals = socket.attempt(get_link(name))
    if 0 in refusals:
        if refusals[0].errno == errno.ENODEV:
            return None
        raise refusals[0]
    bridge = _read(answers[0].body)
    if bridge is None:
        raise AlreadyExists(f"link {name} in network namespace {namespace.label} is not a bridge: rename or delete it")
    return bridge


def ensure_bridge(switch: Namespace, name: str, vlan_aware: bool) -> Bridge:
    """Makes the bridge, or sets right what of it was changed; ports and FDB stay. An existing bridge keeps its VLAN
    awareness only if it is the one asked for, for a change would open or silence every port."""
    found = find_bridge(switch, name)
    if found is None:
        found = _create(switch, name, vlan_aware)
    if is_right(found, vlan_aware):
        return found
    _correct(switch, found, vlan_aware)
    corrected = find_bridge(switch, name)
    if corrected is None:
        raise NotFound(f"bridge {name} was deleted while it was set up")
    return corrected


def get_foreign_bridge(host: Namespace, name: str) -> Bridge:
    """A bridge that somebody else made and that ports of ours are to join. Raises UplinkUnusable when it is gone."""
    found = find_bridge(host, name)
    if found is None:
        raise UplinkUnusable(f"bridge {name} does not exist on this node")
    return found


def delete_bridge(switch: Namespace, name: str) -> bool:
    """False when there was none. Ports that are still on it are left without a bridge, hence silent."""
    return find_bridge(switch, name) is not None and delete_link(switch, name)


def _create(switch: Namespace, name: str, vlan_aware: bool) -> Bridge:
    data = _options(vlan_aware)
    info = netlink.nest(LINKINFO, netlink.text(INFO_KIND, "bridge"), netlink.nest(INFO_DATA, *data))
    mac = netlink.attribute(ADDRESS, bytes.fromhex(bridge_mac(name).replace(":", "")))
    create = Request(
        f"making bridge {name}",
        NEWLINK,
        link_body(netlink.text(IFNAME, name), mac, info),
        netlink.CREATE | netlink.EXCLUSIVE,
    )
    with switch.netlink() as socket:
        answers, refusals = socket.attempt(create, get_link(name))
        refused = refusals.get(0)
        if refused is not None and refused.errno != errno.EEXIST:
            raise refused
        if not answers:
            raise NotFound(f"bridge {name} was deleted while it was made")
        made = _read(answers[0].body)
        if made is None:
            raise AlreadyExists(f"link {name} in network namespace {switch.label} is not a bridge")
        socket.attempt(no_ipv6_addresses(made.link.index))
        socket.request(set_link(f"bringing up bridge {name}", made.link.index, up=True))
        answers = socket.request(get_link(name))
    up = _read(answers[0].body)
    if up is None:
        raise AlreadyExists(f"link {name} in network namespace {switch.label} is not a bridge")
    return up


def _correct(switch: Namespace, bridge: Bridge, vlan_aware: bool) -> None:
    index, name = bridge.link.index, bridge.link.name
    info = netlink.nest(LINKINFO, netlink.text(INFO_KIND, "bridge"), netlink.nest(INFO_DATA, *_options(vlan_aware)))
    with switch.netlink() as socket:
        socket.attempt(no_ipv6_addresses(index))
        socket.request(
            set_link(f"setting up bridge {name}", index, info), set_link(f"bringing up {name}", index, up=True)
        )


def _options(vlan_aware: bool) -> list[bytes]:
    options = [
        netlink.u32(_STP_STATE, 0),
        netlink.u16(_GROUP_FWD_MASK, 0),
        netlink.u8(_MCAST_SNOOPING, 0),
        netlink.attribute(_MULTI_BOOLOPT, _NO_LL_LEARN.to_bytes(4, "little") * 2),
    ]
    if vlan_aware:
        # The default PVID must go first: filtering would else be switched on with VLAN 1 on the bridge itself.
        options += [netlink.u16(_DEFAULT_PVID, 0), netlink.u8(_VLAN_FILTERING, 1)]
    return options


def is_right(bridge: Bridge, vlan_aware: bool) -> bool:
    """Whether it is as `ensure_bridge` leaves it."""
    return (
        bridge.link.up
        and bridge.vlan_filtering == vlan_aware
        and (not vlan_aware or bridge.default_pvid == 0)
        and not bridge.mcast_snooping
        and bridge.no_linklocal_learn
        and not bridge.stp
        and bridge.group_fwd_mask == 0
    )


def _read(body: bytes) -> Bridge | None:
    link = read_link(body)
    if link.kind != "bridge":
        return None
    data = attribute_map(attribute_map(attribute_map(body, 16)[LINKINFO]).get(INFO_DATA, b""))
    options = data.get(_MULTI_BOOLOPT)
    return Bridge(
        link=link,
        vlan_filtering=bool(as_u8(data.get(_VLAN_FILTERING))),
        default_pvid=as_u16(data.get(_DEFAULT_PVID)),
        mcast_snooping=bool(as_u8(data.get(_MCAST_SNOOPING))),
        no_linklocal_learn=bool(as_u32(options) & _NO_LL_LEARN) if options else False,
        stp=bool(as_u32(data.get(_STP_STATE))),
        group_fwd_mask=as_u16(data.get(_GROUP_FWD_MASK)),
    )
