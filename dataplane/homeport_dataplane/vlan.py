"""VLANs of bridge ports, declared whole: what is not named is taken away. A port without any is muted.

Reference: bridge(8), "VLAN"; `RTM_GETVLAN` for reading, the bridge's own `RTM_SETLINK`/`RTM_DELLINK` for writing.
"""

import errno
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from homeport_api.addresses import VlanId, VlanRange
from homeport_dataplane import netlink
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.links import AF_SPEC, DELLINK, get_index, link_body
from homeport_dataplane.netlink import Request, as_u16, attribute_map, attributes
from homeport_dataplane.netns import Namespace

_SETLINK, _GETVLAN = 19, 114
_AF_BRIDGE = 7
_BRIDGE_FLAGS, _BRIDGE_VLAN_INFO = 0, 2
_SELF = 2
_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 0x2, 0x4, 0x8, 0x10
_ENTRY, _ENTRY_INFO, _ENTRY_RANGE = 1, 1, 2
_VLAN_HEADER = struct.Struct("=BxxxI")
_VLAN_INFO = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class PortVlans:
    """`untagged` is the PVID, and leaves without a tag; `tagged` pass with theirs. The two do not overlap."""

    untagged: VlanId | None = None
    tagged: tuple[VlanRange, ...] = ()

    def __str__(self) -> str:
        untagged = [] if self.untagged is None else [f"{self.untagged} untagged"]
        return ", ".join([*untagged, *(str(each) for each in self.tagged)]) or "none"


MUTED = PortVlans()


def merge(vlans: Iterable[int]) -> tuple[VlanRange, ...]:
    """VLAN IDs in any order as the fewest ranges."""
    ranges: list[VlanRange] = []
    for vlan in sorted(set(vlans)):
        if ranges and ranges[-1].last == vlan - 1:
            ranges[-1] = VlanRange(ranges[-1].first, VlanId(vlan))
        else:
            ranges.append(VlanRange(VlanId(vlan), VlanId(vlan)))
    return tuple(ranges)


def list_vlans(namespace: Namespace) -> dict[int, PortVlans]:
    """The VLANs of every port and bridge that has any, by link index. Empty on a kernel without VLAN filtering."""
    return {index: _declared(flags) for index, flags in _dump(namespace, 0).items() if flags}


def find_vlans(namespace: Namespace, index: int) -> PortVlans:
    """The VLANs of one port, MUTED when it has none."""
    return _declared(_dump(namespace, index).get(index, {}))


def ensure_vlans(namespace: Namespace, port: str, wanted: PortVlans) -> bool:
    """Gives the port exactly these VLANs; those that stay are not touched. False when it was so already. The port must
    be on a bridge. Raises NotFound when the port is gone."""
    index = get_index(namespace, port)
    target = _flags(wanted)
    present = _dump(namespace, index).get(index, {})
    gone = [vlan for vlan in present if vlan not in target]
    new = {vlan: flags for vlan, flags in target.items() if present.get(vlan) != flags}
    requests = []
    if gone:
        requests.append(delete_request(port, index, gone))
    if new:
        infos = _infos(new)
        requests.append(Request(f"VLANs {wanted} on port {port}", _SETLINK, _body(index, infos)))
    if not requests:
        return False
    with namespace.netlink() as socket:
        socket.request(*requests)
    return True


def clear_bridge(namespace: Namespace, bridge: str) -> bool:
    """Takes all VLANs off the bridge itself, through which the stack would get their frames; its ports keep theirs.
    False when it had none. Raises NotFound when the bridge is gone."""
    index = get_index(namespace, bridge)
    present = _dump(namespace, index).get(index, {})
    if not present:
        return False
    itself = netlink.attribute(_BRIDGE_FLAGS, _SELF.to_bytes(2, sys.byteorder))
    body = link_body(netlink.nest(AF_SPEC, itself, *_infos(dict.fromkeys(present, 0))), index=index, family=_AF_BRIDGE)
    with namespace.netlink() as socket:
        socket.request(Request(f"taking VLANs off bridge {bridge}", DELLINK, body))
    return True


def delete_request(port: str, index: int, vlans: Iterable[int]) -> Request:
    """Takes VLANs away from a port; those it does not have are no error."""
    infos = _infos(dict.fromkeys(vlans, 0))
    return Request(f"taking VLANs off port {port}", DELLINK, _body(index, infos))


def _body(index: int, infos: list[bytes]) -> bytes:
    return link_body(netlink.nest(AF_SPEC, *infos), index=index, family=_AF_BRIDGE)


def _flags(wanted: PortVlans) -> dict[int, int]:
    flags = {vlan: 0 for each in wanted.tagged for vlan in range(each.first, each.last + 1)}
    if wanted.untagged is not None:
        flags[wanted.untagged] = _PVID | _UNTAGGED
    return flags


def _infos(vlans: dict[int, int]) -> list[bytes]:
    """The fewest attributes for these VLANs: runs of tagged ones as ranges, everything else by itself."""
    infos = [_info(vlan, flags) for vlan, flags in sorted(vlans.items()) if flags]
    for each in merge(vlan for vlan, flags in vlans.items() if not flags):
        if each.first == each.last:
            infos.append(_info(each.first, 0))
        else:
            infos += [_info(each.first, _RANGE_BEGIN), _info(each.last, _RANGE_END)]
    return infos


def _info(vlan: int, flags: int) -> bytes:
    return netlink.attribute(_BRIDGE_VLAN_INFO, _VLAN_INFO.pack(flags, vlan))


def _declared(flags: dict[int, int]) -> PortVlans:
    untagged = next((vlan for vlan, each in flags.items() if each & _PVID and each & _UNTAGGED), None)
    tagged = merge(vlan for vlan in flags if vlan != untagged)
    return PortVlans(None if untagged is None else VlanId(untagged), tagged)


def _dump(namespace: Namespace, index: int) -> dict[int, dict[int, int]]:
    """Flags by VLAN by link index, of one link or (index 0) of all."""
    request = Request(f"listing VLANs of {namespace.label}", _GETVLAN, _VLAN_HEADER.pack(_AF_BRIDGE, index))
    with namespace.netlink() as socket:
        try:
            replies = socket.dump(request)
        except KernelRefused as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL):
                return {}
            raise
    found: dict[int, dict[int, int]] = {}
    for reply in replies:
        _, where = _VLAN_HEADER.unpack_from(reply.body)
        vlans = found.setdefault(where, {})
        for kind, entry in attributes(reply.body, _VLAN_HEADER.size):
            if kind == _ENTRY:
                values = attribute_map(entry)
                flags, first = _VLAN_INFO.unpack_from(values[_ENTRY_INFO])
                last = as_u16(values.get(_ENTRY_RANGE), first)
                for vlan in range(first, last + 1):
                    vlans[vlan] = flags & (_PVID | _UNTAGGED)
    return found
