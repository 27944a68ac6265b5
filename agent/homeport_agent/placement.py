"""Where a Network's ports go on this node: which bridge, which VLANs, which MTU. Pure.

Facts of the node in, a Placement or the reason why not out. The rules are those of a switch that others share a NIC
with: what the host itself uses (an address on the uplink, a VLAN sub-interface) is never taken over.

    uplink is …                         the ports are …
    absent from the Network             in a bridge of the Network's own, in the switch
    a NIC or a bond                     in the uplink's bridge in the switch, joined by a passthru macvlan
    an existing bridge                  in that bridge, in the host namespace
    missing, addressed, enslaved        nowhere: UplinkUnusable, with the remedy
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from homeport_api.addresses import MacDomain, VlanId, VlanRange
from homeport_api.errors import MtuTooLarge, UplinkUnusable
from homeport_api.network import Lifecycle, Network
from homeport_dataplane.vlan import PortVlans, merge

HIGHEST_VLAN = 4094
ISOLATED_MTU = 1500


class Place(Enum):
    """Which network namespace a bridge is in."""

    SWITCH = "switch"
    HOST = "host"


class UplinkKind(Enum):
    MISSING = "missing"
    NIC = "nic"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class UplinkFacts:
    """What `interfaceName` is on this node. `problem` is why it cannot be taken, with the remedy. `host_vlans` are the
    VLAN sub-interfaces that the host has on it. For a bridge: `filtering` and its default PVID (0: none)."""

    kind: UplinkKind
    mtu: int = 1500
    problem: str | None = None
    host_vlans: Mapping[VlanId, str] = field(default_factory=dict)
    filtering: bool = False
    default_pvid: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """`domain` is what the bridge's name is made from. `port` are the VLANs of an open port; on a bridge that does not
    filter VLANs there are none, and only the guard rules mute. `uplink_untagged` is the internal VLAN ID that leaves
    the uplink without a tag, for untagged Networks; None elsewhere."""

    place: Place
    domain: MacDomain
    uplink: str | None
    filtering: bool
    port: PortVlans
    trunk: bool
    mtu: int
    uplink_untagged: VlanId | None = None


def vlans_of(network: Network) -> tuple[VlanRange, ...]:
    """Every VLAN ID that the Network puts on its uplink with a tag."""
    l2 = network.spec.l2
    if l2.trunk is not None:
        native = l2.trunk.native_vlan
        extra = () if native is None else (VlanRange(native, native),)
        return l2.trunk.vlans + extra
    return () if l2.vlan_id is None else (VlanRange(l2.vlan_id, l2.vlan_id),)


def internal_vlan(uplink: str | None, networks: Sequence[Network], host_vlans: Mapping[VlanId, str]) -> VlanId:
    """The VLAN ID that stands for "untagged" inside the bridge: the highest that nobody on this uplink uses."""
    used = [span for network in networks if network.spec.uplink == uplink for span in vlans_of(network)]
    for vlan in range(HIGHEST_VLAN, 0, -1):
        if vlan not in host_vlans and not any(vlan in span for span in used):
            return VlanId(vlan)
    raise UplinkUnusable(f"all VLAN IDs of uplink {uplink} are in use, and an untagged Network needs one inside")


def place(network: Network, networks: Sequence[Network], uplink: UplinkFacts | None, *, filtering: bool) -> Placement:
    """Where a port of `network` goes. `networks` are all that exist; `filtering` is whether this kernel has bridge VLAN
    filtering. Raises UplinkUnusable (missing, taken, VLAN impossible) and MtuTooLarge, each naming the remedy."""
    if network.spec.uplink is None:
        port = _port(network, internal_vlan(None, [network], {})) if filtering else _plain(network)
        mtu = network.spec.mtu or ISOLATED_MTU
        return Placement(Place.SWITCH, network.mac_domain, None, filtering, port, _is_trunk(network), mtu)
    name = network.spec.uplink
    if uplink is None or uplink.kind is UplinkKind.MISSING:
        raise UplinkUnusable(
            f"Network {network.name}: there is no link {name} on this node: plug it in, or create it; "
            "the Network becomes ready when it appears"
        )
    if uplink.problem is not None:
        raise UplinkUnusable(f"Network {network.name}: {uplink.problem}")
    mtu = network.spec.mtu or uplink.mtu
    if mtu > uplink.mtu:
        raise MtuTooLarge(
            f"Network {network.name}: spec.mtu {mtu} is over the {uplink.mtu} of uplink {name} on this node: "
            f"lower it, or raise the uplink's (ip link set {name} mtu {mtu})"
        )
    for vlan, link in sorted(uplink.host_vlans.items()):
        if any(vlan in span for span in vlans_of(network)):
            raise UplinkUnusable(
                f"Network {network.name}: VLAN {vlan} of {name} belongs to this host's own link {link}: "
                f"use another VLAN ID, or remove {link} from the node"
            )
    if uplink.kind is UplinkKind.BRIDGE:
        return _on_existing(network, name, uplink, mtu)
    if network.spec.lifecycle is Lifecycle.USER_MANAGED:
        raise UplinkUnusable(
            f"Network {network.name}: networkLifecycle is UserManaged, and {name} is not a bridge: make the bridge and "
            "name it as interfaceName, or let Homeport manage the Network"
        )
    if not filtering:
        return Placement(Place.SWITCH, network.mac_domain, name, False, _plain(network), False, mtu)
    untagged = internal_vlan(name, networks, uplink.host_vlans)
    port = _port(network, untagged)
    shown = untagged if port.untagged == untagged and not vlans_of(network) else None
    return Placement(Place.SWITCH, network.mac_domain, name, True, port, _is_trunk(network), mtu, shown)


def uplink_vlans(placements: Sequence[Placement]) -> PortVlans:
    """The VLANs of an uplink that carries exactly these placements' ports."""
    untagged = next((p.uplink_untagged for p in placements if p.uplink_untagged is not None), None)
    tagged: set[int] = set()
    for placement in placements:
        for span in placement.port.tagged:
            tagged.update(range(span.first, span.last + 1))
        if placement.port.untagged is not None and placement.uplink_untagged is None:
            tagged.add(placement.port.untagged)
    return PortVlans(untagged, merge(tagged))


def collide(one: Placement, other: Placement) -> bool:
    """Whether the VLAN ID that means "untagged" inside to one of them is a VLAN of the other's: that Network came after
    the placement, which has to be made anew."""
    if (one.place, one.uplink) != (other.place, other.uplink):
        return False
    pairs = ((one, other), (other, one))
    return any(
        inner.uplink_untagged is not None and outer.uplink_untagged is None and _has(outer.port, inner.uplink_untagged)
        for inner, outer in pairs
    )


def _has(port: PortVlans, vlan: VlanId) -> bool:
    return vlan == port.untagged or any(vlan in span for span in port.tagged)


def _is_trunk(network: Network) -> bool:
    return network.spec.l2.trunk is not None


def _port(network: Network, internal: VlanId) -> PortVlans:
    l2 = network.spec.l2
    if l2.trunk is not None:
        tagged = {vlan for span in l2.trunk.vlans for vlan in range(span.first, span.last + 1)}
        tagged.discard(l2.trunk.native_vlan or 0)
        return PortVlans(l2.trunk.native_vlan, merge(tagged))
    return PortVlans(l2.vlan_id or internal)


def _plain(network: Network) -> PortVlans:
    """Without VLAN filtering a bridge carries one untagged Network and nothing else."""
    if vlans_of(network):
        raise UplinkUnusable(
            f"Network {network.name}: this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING), so only "
            "untagged and isolated Networks work on this node: use a kernel that has it"
        )
    return PortVlans()


def _on_existing(network: Network, name: str, uplink: UplinkFacts, mtu: int) -> Placement:
    """Ports join the bridge as it is: its settings are the host's own and stay untouched.

    Its default PVID is the untagged network's, which is another L2 domain than that VLAN ID: two Networks there would
    give one address twice. Refused even without the other Network, which may come at any time and from any node."""
    if not uplink.filtering:
        if vlans_of(network):
            raise UplinkUnusable(
                f"Network {network.name}: bridge {name} does not filter VLANs: "
                f"ip link set {name} type bridge vlan_filtering 1, or give the Network no VLAN"
            )
        return Placement(Place.HOST, network.mac_domain, name, False, PortVlans(), False, mtu)
    if not vlans_of(network) and uplink.default_pvid == 0:
        raise UplinkUnusable(
            f"Network {network.name}: bridge {name} filters VLANs and has no default PVID, so it has no untagged "
            "network: give the Network the vlanID of the bridge's own traffic"
        )
    if any(uplink.default_pvid in span for span in vlans_of(network)):
        raise UplinkUnusable(
            f"Network {network.name}: VLAN {uplink.default_pvid} is the untagged network of bridge {name} (its default "
            "PVID): leave out vlanID for that network, or this ID of a trunk, or choose another VLAN ID"
        )
    return Placement(
        Place.HOST, network.mac_domain, name, True, _port(network, VlanId(uplink.default_pvid)), _is_trunk(network), mtu
    )
