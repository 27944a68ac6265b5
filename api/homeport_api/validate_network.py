"""Rules of Network that need more than one field, and what may change once it exists. Pure functions over values.

A rule yields errors with paths relative to the record it is about; the field tables say when it is asked.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from homeport_api.addresses import AddressRange, IpAddress, IpNetwork, VlanRange
from homeport_api.errors import FieldError
from homeport_api.network import Ipam, L2Config, Network, NetworkSpec, Trunk
from homeport_api.pool import Pool
from homeport_api.table import Check

IPV6_MINIMUM_MTU = 1280
"""RFC 8200 §5."""


def vlan_or_trunk(l2: L2Config) -> Iterator[FieldError]:
    if l2.vlan_id is not None and l2.trunk is not None:
        yield FieldError(
            "trunk", "excludes vlanID: a NIC carries one VLAN untagged or several tagged; keep one of both"
        )


def vlans_listed_once(trunk: Trunk) -> Iterator[FieldError]:
    for (_, one), (at, other) in combinations(enumerate(trunk.vlans), 2):
        if one.first <= other.last and other.first <= one.last:
            shared = VlanRange(max(one.first, other.first), min(one.last, other.last))
            yield FieldError(f"vlans[{at}]", f"{shared} is listed already, in {one}")


def range_in_order(span: AddressRange) -> Iterator[FieldError]:
    if span.first.version != span.last.version:
        yield FieldError("end", f"{span.last} is of another address family than the start {span.first}")
    elif int(span.last) < int(span.first):
        yield FieldError("end", f"{span.last} is before the start {span.first}")


def ranges_inside(pool: Pool) -> Iterator[FieldError]:
    for at, span in enumerate(pool.ranges):
        if not _inside(span, pool.cidr):
            yield FieldError(f"ranges[{at}]", f"{span} is not inside {pool.cidr}")
    for (_, one), (at, other) in combinations(enumerate(pool.ranges), 2):
        if one.first in other or other.first in one:
            yield FieldError(f"ranges[{at}]", f"{other} overlaps {one}")


def exclusions_inside(pool: Pool) -> Iterator[FieldError]:
    """One that lies outside is a slip of the pen: it would keep nothing back."""
    for at, span in enumerate(pool.exclude):
        if not _inside(span, pool.cidr):
            yield FieldError(f"exclude[{at}]", f"{span} is not inside {pool.cidr}")


def pools_apart(ipam: Ipam) -> Iterator[FieldError]:
    for (first, one), (at, other) in combinations(enumerate(ipam.pools), 2):
        if one.cidr.overlaps(other.cidr):
            yield FieldError(f"pools[{at}].cidr", f"{other.cidr} overlaps {one.cidr} of pools[{first}]")


def vlan_needs_uplink(spec: NetworkSpec) -> Iterator[FieldError]:
    if spec.uplink is None:
        for name, given in (("vlanID", spec.l2.vlan_id), ("trunk", spec.l2.trunk)):
            if given is not None:
                yield FieldError(
                    f"l2NetworkConfig.{name}",
                    "needs spec.nodeInterfaceMatcher.interfaceName: an isolated Network has no uplink to tag frames on",
                )


def trunk_without_native_has_no_pools(spec: NetworkSpec) -> Iterator[FieldError]:
    if spec.l2.trunk is not None and spec.l2.trunk.native_vlan is None and spec.ipam.pools:
        yield FieldError(
            "ipam.pools",
            "a trunk without nativeVLAN has no addresses of its own: set l2NetworkConfig.trunk.nativeVLAN, or take the "
            "pools out",
        )


def one_source_of_addresses(spec: NetworkSpec) -> Iterator[FieldError]:
    """For each family, addresses come from pools, from a server on the network, or from one behind a relay."""
    relay = spec.dhcp_relay or {}
    for family, external in ((4, spec.external_dhcp4), (6, spec.external_dhcp6)):
        if external and f"servers{family}" in relay:
            yield FieldError(f"externalDHCP{family}", f"excludes dhcpRelay.servers{family}: keep one of both")
        for at, pool in enumerate(spec.ipam.pools):
            if pool.cidr.version != family:
                continue
            if external:
                yield FieldError(
                    f"ipam.pools[{at}]",
                    f"is IPv{family}, and externalDHCP{family} leaves IPv{family} addresses to a server outside: keep "
                    "one of both",
                )
            elif f"servers{family}" in relay:
                yield FieldError(
                    f"ipam.pools[{at}]",
                    f"is IPv{family}, and dhcpRelay.servers{family} leaves IPv{family} addresses to those servers: "
                    "keep one of both",
                )


def gateway4_reachable(spec: NetworkSpec) -> Iterator[FieldError]:
    if spec.gateway4 is not None:
        yield from _gateway("gateway4", spec.gateway4, spec.ipam)


def gateway6_reachable(spec: NetworkSpec) -> Iterator[FieldError]:
    if spec.gateway6 is not None and not spec.gateway6.is_link_local:
        yield from _gateway("gateway6", spec.gateway6, spec.ipam)


def mtu_carries_ipv6(spec: NetworkSpec) -> Iterator[FieldError]:
    pools = any(pool.cidr.version == 6 for pool in spec.ipam.pools)
    carries_ipv6 = pools or spec.gateway6 is not None or spec.external_dhcp6 or spec.ra is not None
    if spec.mtu is not None and carries_ipv6 and spec.mtu < IPV6_MINIMUM_MTU:
        yield FieldError("mtu", f"{spec.mtu} is too small for IPv6, which needs at least {IPV6_MINIMUM_MTU}")


def relay_has_servers(relay: dict[str, Any]) -> Iterator[FieldError]:
    if "servers4" not in relay and "servers6" not in relay:
        yield FieldError("servers4", "is required, unless servers6 is there: a relay needs a server")


def relay_has_address4(relay: dict[str, Any]) -> Iterator[FieldError]:
    if "servers4" in relay and "relayPool4" not in relay:
        yield FieldError("relayPool4", "is required with servers4: replies find each node by its address in there")


def relay_pool_family(name: str, family: int) -> Check[dict[str, Any]]:
    def check(relay: dict[str, Any], /) -> Iterator[FieldError]:
        pool = relay.get(name)
        if isinstance(pool, AddressRange) and pool.first.version != family:
            yield FieldError(name, f"{pool} is not IPv{family}")

    return check


def same_domain(network: Network, others: Iterable[Network]) -> Network | None:
    """The other Network on the same (uplink, VLAN), which there must not be. Trunks share by design, and an isolated
    Network is alone on its own."""
    if network.isolated or network.spec.l2.trunk is not None:
        return None
    for other in others:
        if other.name != network.name and other.spec.l2.trunk is None and other.l2_domain == network.l2_domain:
            return other
    return None


def one_gateway(network: Network, others: Iterable[Network]) -> Iterator[FieldError]:
    """A trunk shares the addresses of its native VLAN with another Network: neither may give the other's router to a
    guest."""
    for other in others:
        if other.name == network.name or network.l2_domain is None or other.l2_domain != network.l2_domain:
            continue
        for name in ("gateway4", "gateway6"):
            mine, theirs = getattr(network.spec, name), getattr(other.spec, name)
            if mine == theirs:
                continue
            if theirs is not None and _gives(network, theirs):
                yield FieldError(
                    name,
                    f"is {_shown(mine)}, and Network {other.name} on the same VLAN has {theirs}, which these pools "
                    f"would give to a guest: set {theirs} here too, or exclude it",
                )
            if mine is not None and _gives(other, mine):
                yield FieldError(
                    name,
                    f"{mine} is in the pools of Network {other.name} on the same VLAN, which would give it to a guest: "
                    "set or exclude it there first",
                )


def network_changes(old: Network, new: Network) -> tuple[FieldError, ...]:
    """What may not change once a Network exists: where its frames go."""
    pairs = (
        ("spec.nodeInterfaceMatcher.interfaceName", old.spec.uplink, new.spec.uplink),
        ("spec.l2NetworkConfig.vlanID", old.spec.l2.vlan_id, new.spec.l2.vlan_id),
        ("spec.l2NetworkConfig.trunk", _trunk_text(old.spec.l2.trunk), _trunk_text(new.spec.l2.trunk)),
    )
    return tuple(
        FieldError(
            path,
            f"never changes, and is {_shown(before)}, not {_shown(after)}: make another Network instead",
        )
        for path, before, after in pairs
        if before != after
    )


def not_enforced(network: Network) -> tuple[str, ...]:
    """The fields whose part is not built yet: stored, and without effect for now. The condition `NotEnforced` names
    them."""
    spec = network.spec
    given = (
        ("spec.externalDHCP4", spec.external_dhcp4),
        ("spec.externalDHCP6", spec.external_dhcp6),
        ("spec.dhcpRelay", spec.dhcp_relay is not None),
        ("spec.ra", spec.ra is not None),
    )
    return tuple(path for path, is_given in given if is_given)


def _gateway(name: str, gateway: IpAddress, ipam: Ipam) -> Iterator[FieldError]:
    if gateway.is_multicast or gateway.is_unspecified or gateway.is_loopback:
        yield FieldError(name, f"{gateway} is not an address that a router could have")
        return
    pools = [pool.cidr for pool in ipam.pools if pool.cidr.version == gateway.version]
    if pools and not any(gateway in cidr for cidr in pools):
        yield FieldError(name, f"{gateway} is in none of the pools: {', '.join(map(str, pools))}")


def _inside(span: AddressRange, cidr: IpNetwork) -> bool:
    return span.first in cidr and span.last in cidr


def _gives(network: Network, address: IpAddress) -> bool:
    """Whether the pools hold the address, the Network's own gateway aside."""
    return any(
        address in pool.cidr
        and (not pool.ranges or any(address in span for span in pool.ranges))
        and not any(address in span for span in pool.exclude)
        for pool in network.spec.ipam.pools
    )


def _trunk_text(trunk: Trunk | None) -> str | None:
    if trunk is None:
        return None
    vlans = ", ".join(str(span) for span in sorted(trunk.vlans, key=lambda span: span.first))
    return f"[{vlans}]" if trunk.native_vlan is None else f"[{vlans}] with native VLAN {trunk.native_vlan}"


def _shown(value: object) -> str:
    return "absent" if value is None else str(value)
