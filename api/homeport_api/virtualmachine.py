"""VirtualMachine: only what Homeport itself needs of it. The rest of the manifest is kept unread."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from homeport_api.addresses import IpAddress, IpInterface, MacAddress
from homeport_api.errors import AlreadyExists
from homeport_api.interface import Interface, InterfaceSpec, interface_names
from homeport_api.meta import ObjectMeta


@dataclass(frozen=True, slots=True)
class VmInterface:
    """One entry of `spec.interfaces[]`."""

    name: str
    network: str
    addresses: tuple[IpInterface, ...] = ()
    bare_addresses: tuple[IpAddress, ...] = ()
    mac: MacAddress | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    """`spec` is the whole as it was given, for the parts that translate it; `interfaces` is what was read of it."""

    meta: ObjectMeta
    interfaces: tuple[VmInterface, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)


def interfaces_of(vm: VirtualMachine, taken: Container[str] = frozenset()) -> tuple[Interface, ...]:
    """The Interfaces a VM's manifest asks for, in its order. `taken` are the names in its namespace that belong to
    other identities. Raises AlreadyExists when every name of one of them is taken."""
    made: dict[str, Interface] = {}
    for entry in vm.interfaces:
        names = interface_names(vm.meta.name, entry.name)
        name = next((name for name in names if name not in taken and name not in made), None)
        if name is None:
            raise AlreadyExists(
                f"interface {entry.name} of {vm.meta.namespace}/{vm.meta.name}: every name its Interface could have is "
                "taken by another; rename the interface"
            )
        spec = InterfaceSpec(
            entry.network, entry.addresses, entry.bare_addresses, entry.mac, vm=vm.meta.name, interface=entry.name
        )
        made[name] = Interface(ObjectMeta(name, vm.meta.namespace), spec)
    return tuple(made.values())
