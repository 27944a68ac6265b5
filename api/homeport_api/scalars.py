"""The leaves of field tables: text with a grammar, numbers, addresses, VLANs. What a field may hold, once each."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from types import MappingProxyType
from typing import Generic, TypeVar

from homeport_api import durations, names
from homeport_api.addresses import (
    AddressRange,
    IpAddress,
    IpInterface,
    IpNetwork,
    MacAddress,
    VlanId,
    VlanRange,
    parse_mac,
)
from homeport_api.errors import FieldError, Invalid
from homeport_api.table import ListOf, Reading, Schema, describe, expect_object, join, refuse

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

WrittenAddresses = tuple[tuple[IpInterface, ...], tuple[IpAddress, ...]]
"""Addresses with their prefixes, and which of them were written without one."""


class Text(Generic[T]):
    """Text with a grammar: `read` raises ValueError with what is wrong."""

    def __init__(self, read: Callable[[str], T], write: Callable[[T], str] = str, **schema: object) -> None:
        self._read = read
        self._write = write
        self._schema = schema

    def parse(self, raw: object, path: str, _reading: Reading, /) -> T:
        if not isinstance(raw, str):
            raise refuse(path, f"must be text, not {describe(raw)}")
        try:
            return self._read(raw)
        except ValueError as error:
            raise refuse(path, str(error)) from error

    def render(self, value: T, /) -> object:
        return self._write(value)

    def schema(self) -> Schema:
        return {"type": "string", **self._schema}


class Integer:
    """A whole number between `low` and `high`, both allowed; without `high`, any from `low` on."""

    def __init__(self, low: int, high: int | None, hint: str = "") -> None:
        self._low = low
        self._high = high
        self._hint = hint

    def parse(self, raw: object, path: str, _reading: Reading, /) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            raise refuse(path, f"must be a whole number, not {describe(raw)}")
        if self._high is None:
            if raw < self._low:
                raise refuse(path, f"{raw} is less than {self._low}")
        elif not self._low <= raw <= self._high:
            raise refuse(path, f"{raw} is not between {self._low} and {self._high}{self._hint}")
        return raw

    def render(self, value: int) -> object:
        return value

    def schema(self) -> Schema:
        bound = {} if self._high is None else {"maximum": self._high}
        return {"type": "integer", "minimum": self._low, **bound}


class Number:
    """Any finite number of the stored form."""

    def parse(self, raw: object, path: str, _reading: Reading, /) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise refuse(path, f"must be a number, not {describe(raw)}")
        return float(raw)

    def render(self, value: float) -> object:
        return value

    def schema(self) -> Schema:
        return {"type": "number"}


class Boolean:
    def parse(self, raw: object, path: str, _reading: Reading, /) -> bool:
        if not isinstance(raw, bool):
            raise refuse(path, f"must be true or false, not {describe(raw)}")
        return raw

    def render(self, value: bool) -> object:
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


class Choice(Generic[E]):
    """One of an enum's values. `aliases` are accepted and never written."""

    def __init__(self, enum: type[E], aliases: Mapping[str, E] = MappingProxyType({})) -> None:
        self._enum = enum
        self._accepted: dict[str, E] = {**{member.value: member for member in enum}, **aliases}

    def parse(self, raw: object, path: str, _reading: Reading, /) -> E:
        if isinstance(raw, str) and raw in self._accepted:
            return self._accepted[raw]
        raise refuse(path, f"must be {' or '.join(member.value for member in self._enum)}, not {describe(raw)}")

    def render(self, value: E) -> object:
        return str(value)

    def schema(self) -> Schema:
        return {"type": "string", "enum": sorted(self._accepted)}


class Constant:
    """A field with one possible value, which nothing needs to hold."""

    def __init__(self, value: str, instead: str) -> None:
        self._value = value
        self._instead = instead

    def parse(self, raw: object, path: str, _reading: Reading, /) -> tuple[()]:
        if raw != self._value:
            raise refuse(path, f"must be {self._value}, not {describe(raw)}: {self._instead}")
        return ()

    def render(self, _value: tuple[()], /) -> object:
        return self._value

    def schema(self) -> Schema:
        return {"type": "string", "enum": [self._value]}


class Unread:
    """A field that is accepted as it is and not looked at."""

    def parse(self, raw: object, _path: str, _reading: Reading, /) -> object:
        return raw

    def render(self, value: object) -> object:
        return value

    def schema(self) -> Schema:
        return {"x-kubernetes-preserve-unknown-fields": True}


class TextMap:
    """Text by key: labels and annotations."""

    def __init__(self, key: Callable[[str], str], value: Callable[[str], str]) -> None:
        self._key: Text[str] = Text(key)
        self._value: Text[str] = Text(value)

    def parse(self, raw: object, path: str, reading: Reading, /) -> Mapping[str, str]:
        found: dict[str, str] = {}
        errors: list[FieldError] = []
        for key, value in expect_object(raw, path).items():
            try:
                found[self._key.parse(key, path, reading)] = self._value.parse(value, join(path, str(key)), reading)
            except Invalid as invalid:
                errors.extend(invalid.fields)
        if errors:
            raise Invalid(errors)
        return MappingProxyType(found)

    def render(self, value: Mapping[str, str]) -> object:
        return dict(value)

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": {"type": "string"}}


class OneOrRange:
    """VLAN IDs of a trunk: 100, or "200-210"."""

    def parse(self, raw: object, path: str, _reading: Reading, /) -> VlanRange:
        match raw:
            case bool():
                pass
            case int():
                vlan = _vlan(raw, path)
                return VlanRange(vlan, vlan)
            case str():
                first, dash, last = raw.partition("-")
                if first.strip().isdecimal() and (last.strip().isdecimal() if dash else True):
                    found = VlanRange(_vlan(int(first), path), _vlan(int(last if dash else first), path))
                    if found.first > found.last:
                        raise refuse(path, f"{raw!r} ends before it begins")
                    return found
        raise refuse(path, f'must be a VLAN ID or a range, like 100 or "200-210", not {describe(raw)}')

    def render(self, value: VlanRange) -> object:
        return value.first if value.first == value.last else str(value)

    def schema(self) -> Schema:
        return {"x-kubernetes-int-or-string": True, "pattern": r"^\d+(-\d+)?$", "minimum": 1, "maximum": 4094}


class Written:
    """`ipAddresses`: held as (addresses, bare addresses), so that a missing prefix can still be filled in."""

    _items: ListOf[tuple[IpInterface, bool]]

    def __init__(self) -> None:
        self._items = ListOf(Text(read_host_address, _write_host_address))

    def parse(
        self, raw: object, path: str, reading: Reading, /
    ) -> tuple[tuple[IpInterface, ...], tuple[IpAddress, ...]]:
        found = self._items.parse(raw, path, reading)
        return tuple(address for address, _ in found), tuple(address.ip for address, bare in found if bare)

    def render(self, value: WrittenAddresses) -> object:
        addresses, bare = value
        return [str(item.ip) if item.ip in bare and _is_single(item) else str(item) for item in addresses]

    def schema(self) -> Schema:
        return {"type": "array", "items": {"type": "string"}}


def read_address(text: str) -> IpAddress:
    """One IPv4 or IPv6 address, without a zone."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address, like 192.0.2.10 or 2001:db8::10") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} names a link after '%': leave that out")
    return address


def read_address4(text: str) -> IPv4Address:
    address = read_address(text)
    if not isinstance(address, IPv4Address):
        raise ValueError(f"{text!r} is an IPv6 address; an IPv4 address is needed here")
    return address


def read_address6(text: str) -> IPv6Address:
    address = read_address(text)
    if not isinstance(address, IPv6Address):
        raise ValueError(f"{text!r} is an IPv4 address; an IPv6 address is needed here")
    return address


def read_network(text: str) -> IpNetwork:
    """A CIDR without host bits."""
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a CIDR, like 192.0.2.0/24 or 2001:db8::/64") from None
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length: write {loose.network_address}/24 or the like")
    if ip_interface(text).ip != loose.network_address:
        raise ValueError(f"{text!r} has host bits set: write {loose}")
    return loose


def read_pool_cidr(text: str) -> IpNetwork:
    network = read_network(text)
    if network.prefixlen == 0 or network.is_multicast or network.is_loopback:
        raise ValueError(f"{text!r} holds no addresses that a guest could have")
    return network


def read_route(text: str) -> IpNetwork:
    network = read_network(text)
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} is the default route: set gateway{network.version} instead")
    return network


def read_prefix6(text: str) -> IPv6Network:
    network = read_network(text)
    if isinstance(network, IPv4Network):
        raise ValueError(f"{text!r} is an IPv4 CIDR; an IPv6 one is needed here")
    return network


def read_range(text: str) -> AddressRange:
    """An address, a CIDR, or `start-end`."""
    if "/" in text:
        network = read_network(text)
        return AddressRange(network.network_address, network.broadcast_address)
    first, dash, last = text.partition("-")
    found = AddressRange(read_address(first.strip()), read_address((last if dash else first).strip()))
    if found.first.version != found.last.version:
        raise ValueError(f"{text!r} begins in one address family and ends in the other")
    if int(found.first) > int(found.last):
        raise ValueError(f"{text!r} ends before it begins")
    return found


def read_interface_address(text: str) -> IpInterface:
    """An address with its prefix, of the stored form: no rule but the grammar."""
    return ip_interface(text)


def read_host_address(text: str) -> tuple[IpInterface, bool]:
    """What a guest may be given, and whether it was written without a prefix."""
    try:
        address = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address, like 192.0.2.10/24 or 2001:db8::10/64") from None
    if "%" in text:
        raise ValueError(f"{text!r} names a link after '%': leave that out")
    ip = address.ip
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback or ip == IPv4Address("255.255.255.255"):
        raise ValueError(f"{text!r} is not an address that a guest could have")
    network = address.network
    spare = 30 if isinstance(address, IPv4Interface) else 126
    if network.prefixlen <= spare and ip == network.network_address:
        raise ValueError(f"{text!r} is the network's own address, not a guest's")
    if isinstance(network, IPv4Network) and network.prefixlen <= spare and ip == network.broadcast_address:
        raise ValueError(f"{text!r} is the broadcast address of {network}")
    return address, "/" not in text


def _write_host_address(value: tuple[IpInterface, bool]) -> str:
    address, bare = value
    return str(address.ip) if bare else str(address)


def _is_single(address: IpInterface) -> bool:
    return address.network.prefixlen == address.max_prefixlen


def _vlan(number: int, path: str) -> VlanId:
    return VlanId(VLAN.parse(number, path, Reading()))


def _read_any(text: str) -> str:
    return text


TEXT: Text[str] = Text(_read_any)
NAMESPACE: Text[str] = Text(names.parse_label_name, maxLength=63, pattern=f"^{names.DNS_LABEL}$")
OBJECT_NAME: Text[str] = Text(names.parse_object_name, maxLength=253, pattern=f"^{names.DNS_SUBDOMAIN}$")
IDENTITY_NAME: Text[str] = Text(names.parse_identity_name, minLength=1, maxLength=253, pattern=f"^{names.PRINTABLE}$")
LINK_NAME: Text[str] = Text(names.parse_link_name, minLength=1, maxLength=15, pattern=f"^{names.LINK}$")
DOMAIN: Text[str] = Text(names.parse_domain, maxLength=254)
ADDRESS: Text[IpAddress] = Text(read_address)
ADDRESS4: Text[IPv4Address] = Text(read_address4, format="ipv4")
ADDRESS6: Text[IPv6Address] = Text(read_address6, format="ipv6")
CIDR: Text[IpNetwork] = Text(read_pool_cidr, format="cidr")
NETWORK: Text[IpNetwork] = Text(read_network, format="cidr")
ROUTE: Text[IpNetwork] = Text(read_route, format="cidr")
PREFIX6: Text[IPv6Network] = Text(read_prefix6, format="cidr")
RANGE: Text[AddressRange] = Text(read_range)
INTERFACE_ADDRESS: Text[IpInterface] = Text(read_interface_address)
MAC: Text[MacAddress] = Text(parse_mac, pattern="^([0-9A-Fa-f]{2}[:.-]?){5}[0-9A-Fa-f]{2}$")
TIME: Text[float] = Text(durations.parse_time, durations.format_time, format="date-time")
VLAN = Integer(1, 4094, ": VLAN IDs 0 and 4095 are reserved by IEEE 802.1Q")
BOOLEAN = Boolean()
COUNT = Integer(0, None)
LABELS = TextMap(names.parse_label_key, names.parse_label_value)
ANNOTATIONS = TextMap(names.parse_label_key, _read_any)
UNREAD = Unread()
