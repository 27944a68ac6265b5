"""What users see of pools: capacity, allocated, free, and when they run out. Pure, from listings."""

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address

from homeport_api.addresses import IpAddress, L2Domain
from homeport_api.interface import Interface
from homeport_api.network import Network
from homeport_api.pool import PoolStatus
from homeport_ipam.journal import Release
from homeport_ipam.pool import space_of, space_of_pool
from homeport_store import keys
from homeport_store.protocol import Record

WINDOW = 24 * 3600.0
"""How far back the rate of growth looks."""


def owned_addresses(records: Iterable[Record], domain: L2Domain) -> set[IpAddress]:
    """The addresses that have an owner in the domain, from records under `keys.ADDRESSES`."""
    prefix = keys.addresses_of(domain)
    return {ip_address(record.key.removeprefix(prefix)) for record in records if record.key.startswith(prefix)}


def pool_statuses(
    network: Network,
    owned: Collection[IpAddress],
    interfaces: Sequence[Interface],
    releases: Sequence[Release],
    now: float,
) -> tuple[PoolStatus, ...]:
    """One for each pool, in the Network's order. `owned` are all addresses of its L2 domain that have an owner; static
    ones outside the pool's ranges count in no pool. The rate is that of the last 24 hours: addresses of
    Interfaces made since and still there, less those of older Interfaces released since."""
    statuses: list[PoolStatus] = []
    for pool in network.spec.ipam.pools:
        space = space_of_pool(network, pool)
        allocated = sum(1 for address in owned if address in space)
        since = now - WINDOW
        gained = sum(
            1
            for interface in interfaces
            if interface.spec.network == network.name and interface.meta.created >= since
            for address in interface.status.addresses
            if address.ip in space
        )
        lost = sum(
            1
            for release in releases
            if release.network == network.name and release.created < since <= release.at
            for address in release.addresses
            if address in space
        )
        free = space.capacity - allocated
        net = gained - lost
        hours = free / (net / (WINDOW / 3600)) if net > 0 else None
        statuses.append(PoolStatus(pool.cidr, space.capacity, allocated, free, hours))
    return tuple(statuses)


def left_outside(old: Network, new: Network, owned: Collection[IpAddress]) -> tuple[IpAddress, ...]:
    """In order, those of the owned addresses that the old pools gave out and the new ones would not. A static one that
    lay in no pool before either is none of them."""
    spaces = {version: (space_of(old, version), space_of(new, version)) for version in (4, 6)}
    found = [each for each in owned if each in spaces[each.version][0] and each not in spaces[each.version][1]]
    return tuple(sorted(found, key=lambda each: (each.version, int(each))))


def in_use(network: str, interfaces: Iterable[Interface]) -> int:
    """How many Interfaces are on the Network: while there is one, it cannot be deleted."""
    return sum(1 for interface in interfaces if interface.spec.network == network)
