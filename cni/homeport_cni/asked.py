"""The addresses and the MAC that a call asks for: from several sources, which must not contradict one another. Pure."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Interface
from itertools import combinations
from types import MappingProxyType

from homeport_api.addresses import IpAddress, IpInterface, MacAddress, parse_mac
from homeport_api.errors import Invalid


@dataclass(frozen=True, slots=True)
class Asked:
    """`source` is how a message names it. `ips` maps each address to itself with its prefix, or to None where it was
    written without one; in the order written."""

    source: str
    ips: Mapping[IpAddress, IpInterface | None] = field(default_factory=lambda: MappingProxyType({}))
    mac: MacAddress | None = None


NOTHING_ASKED = Asked("")


def parse_asked(source: str, ips: Iterable[str], mac: str | None = None) -> Asked:
    """Addresses as a caller wrote them, with or without a prefix. Raises ValueError that says which is wrong."""
    found: dict[IpAddress, IpInterface | None] = {}
    for text in ips:
        address = ipaddress.ip_interface(text)
        if isinstance(address, IPv6Interface) and address.scope_id:
            raise ValueError(f"{text!r} has a scope; write the address without %{address.scope_id}")
        found[address.ip] = address if "/" in text else None
    return Asked(source, MappingProxyType(found), parse_mac(mac) if mac else None)


def agree_on_ips(sources: Iterable[Asked]) -> Mapping[IpAddress, IpInterface | None]:
    """What every source that asks for addresses asks for; a prefix that one of them gives counts for all. Raises
    Invalid naming two that differ."""
    said = [source for source in sources if source.ips]
    for one, other in combinations(said, 2):
        prefixed_twice = [(one.ips[ip], other.ips[ip]) for ip in one.ips.keys() & other.ips.keys()]
        if one.ips.keys() != other.ips.keys() or any(a and b and a != b for a, b in prefixed_twice):
            raise Invalid(f"{one.source} asks for {_list(one)}, {other.source} for {_list(other)}: say one of them")
    agreed: dict[IpAddress, IpInterface | None] = {}
    for source in said:
        agreed |= {ip: agreed.get(ip) or prefixed for ip, prefixed in source.ips.items()}
    return agreed


def agree_on_mac(sources: Iterable[Asked]) -> MacAddress | None:
    """As `agree_on_ips`, for the MAC."""
    said = [source for source in sources if source.mac]
    for one, other in combinations(said, 2):
        if one.mac != other.mac:
            raise Invalid(f"{one.source} asks for MAC {one.mac}, {other.source} for {other.mac}: say one of them")
    return said[0].mac if said else None


def _list(asked: Asked) -> str:
    return ", ".join(str(prefixed or address) for address, prefixed in asked.ips.items())
