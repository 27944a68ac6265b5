"""A pool: the addresses of one CIDR that Homeport may give out."""

from dataclasses import dataclass

from homeport_api.addresses import AddressRange, IpNetwork


@dataclass(frozen=True, slots=True)
class Pool:
    """`ranges` empty means the whole CIDR. The gateway and, for IPv4 up to /30, the network and broadcast addresses
    are never given out (for IPv6 the subnet-router anycast address, RFC 4291 §2.6.1), whatever the ranges say."""

    cidr: IpNetwork
    ranges: tuple[AddressRange, ...] = ()
    exclude: tuple[AddressRange, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """`hours_to_exhaustion` is None where the pool is not shrinking."""

    cidr: IpNetwork
    capacity: int
    allocated: int
    free: int
    hours_to_exhaustion: float | None = None
