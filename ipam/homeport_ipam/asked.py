"""What is asked for, from all of its sources, as one answer: the Interface's spec and the call. Pure.

The call's own sources (runtimeConfig, args.cni, CNI_ARGS) were joined by whoever decoded it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from homeport_api.addresses import IpAddress, IpInterface, MacAddress
from homeport_api.attachment import NicRequest
from homeport_api.errors import Invalid
from homeport_api.interface import Interface, InterfaceSpec


@dataclass(frozen=True, slots=True)
class Wanted:
    """One address, with its prefix where one was written."""

    ip: IpAddress
    written: IpInterface | None = None

    def __str__(self) -> str:
        return str(self.written or self.ip)


@dataclass(frozen=True, slots=True)
class Asked:
    """By family, and the MAC. Nothing in it: all is chosen."""

    addresses: dict[int, Wanted]
    mac: MacAddress | None = None


def asked_for(interface: Interface | None, request: NicRequest, name: str) -> Asked:
    """Invalid, naming both, when spec and call differ, when either asks for two addresses of one family, or when what
    is asked is not what the Interface owns. `name` is the Interface's, for the text."""
    spec = interface.spec if interface else InterfaceSpec("")
    from_spec = _by_family(spec.addresses, spec.bare_addresses, f"spec.ipAddresses of Interface {name}")
    from_call = _by_family(request.ips, request.bare_ips, f"the call for Interface {name}")
    addresses = dict(from_spec)
    for version, wanted in from_call.items():
        other = from_spec.get(version)
        if other is not None and not _same(other, wanted):
            raise Invalid(
                f"Interface {name}: its spec.ipAddresses says {other}, the call asks for {wanted}: leave one out"
            )
        if other is None or other.written is None:
            addresses[version] = wanted
    if spec.mac is not None and request.mac is not None and spec.mac != request.mac:
        raise Invalid(
            f"Interface {name}: its spec.macAddress says {spec.mac}, the call asks for {request.mac}: "
            "leave one of them out"
        )
    mac = spec.mac or request.mac
    if interface is not None:
        _check_owned(interface, addresses, mac, name)
    return Asked(addresses, mac)


def _check_owned(interface: Interface, addresses: dict[int, Wanted], mac: MacAddress | None, name: str) -> None:
    for owned in interface.status.addresses:
        wanted = addresses.get(owned.version)
        if wanted is not None and wanted.ip != owned.ip:
            raise Invalid(
                f"Interface {name} owns {owned.ip} and keeps it; {wanted.ip} was asked for: leave that out, or release "
                f"the address first (homeport ipam release {owned.ip}) while nothing holds the Interface"
            )
    if mac is not None and interface.status.mac is not None and mac != interface.status.mac:
        raise Invalid(
            f"Interface {name} owns MAC {interface.status.mac} and keeps it; {mac} was asked for: leave that out, or "
            "delete the Interface first"
        )


def _by_family(written: Sequence[IpInterface], bare: Sequence[IpAddress], where: str) -> dict[int, Wanted]:
    found: dict[int, Wanted] = {}
    # A bare address may stand among the written ones too, as /32 or /128.
    prefixed = (Wanted(address.ip, address) for address in written if address.ip not in bare)
    for wanted in (*prefixed, *(Wanted(address) for address in bare)):
        ip = wanted.ip
        if ip.is_multicast or ip.is_unspecified or ip.is_loopback:
            raise Invalid(f"{where}: {ip} is no unicast address of a network")
        other = found.get(ip.version)
        if other is not None and not _same(other, wanted):
            raise Invalid(f"{where}: both {other} and {wanted}: an Interface has one IPv{ip.version} address")
        if other is None or other.written is None:
            found[ip.version] = wanted
    return found


def _same(one: Wanted, other: Wanted) -> bool:
    """The address is the same, and so is the prefix where both wrote one."""
    return one.ip == other.ip and (one.written is None or other.written is None or one.written == other.written)
