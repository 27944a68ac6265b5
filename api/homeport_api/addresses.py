"""Addresses, MACs, VLAN IDs and L2 domains as values. `ipaddress` objects everywhere; text only at the edges."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NewType

IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface
IpNetwork = IPv4Network | IPv6Network

VlanId = NewType("VlanId", int)
MacAddress = NewType("MacAddress", str)
"""Six lower-case hexadecimal octets with colons: `02:00:5e:10:00:01`."""
L2Domain = NewType("L2Domain", str)
"""Where an address is unique: `bond0:100`, `bond0:untagged`, or `:blue` for an isolated Network. A kernel link name
cannot hold a colon, so the three never collide."""
MacDomain = NewType("MacDomain", str)
"""Where MAC keys live: the uplink, or `:blue` for an isolated Network."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


def parse_mac(text: str) -> MacAddress:
    """A unicast, non-zero MAC in any of the usual spellings. Raises ValueError that says which rule was broken."""
    squeezed = text.strip().lower().replace("-", "").replace(":", "").replace(".", "")
    mac = ":".join(squeezed[at : at + 2] for at in range(0, len(squeezed), 2))
    if not _MAC.match(mac):
        raise ValueError(f"{text!r} is not a MAC address: write six octets, like 02:00:5e:10:00:01")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{text!r} is a multicast MAC: the lowest bit of the first octet must be 0")
    if mac == "00:00:00:00:00:00":
        raise ValueError(f"{text!r} is the zero MAC")
    return MacAddress(mac)


def link_local_of(mac: MacAddress) -> IPv6Address:
    """The link-local address that is made from a MAC (RFC 4291 appendix A): as unique as the MAC is."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:])))


def is_made_from_mac(address: IpAddress) -> bool:
    """Whether it is a link-local address that some MAC makes: nobody's who has another MAC."""
    return address.version == 6 and address.is_link_local and address.packed[11:13] == b"\xff\xfe"


@dataclass(frozen=True, slots=True)
class VlanRange:
    """VLAN IDs `first` to `last`, both included."""

    first: VlanId
    last: VlanId

    def __contains__(self, vlan: int) -> bool:
        return self.first <= vlan <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses `first` to `last` of one family, both included."""

    first: IpAddress
    last: IpAddress

    def __contains__(self, address: IpAddress) -> bool:
        return address.version == self.first.version and int(self.first) <= int(address) <= int(self.last)

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
