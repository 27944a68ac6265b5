"""VirtualMachine: only what Homeport itself needs of it. The rest of the manifest is kept unread."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from homeport_api.addresses import IpAddress, IpInterface, MacAddress
from homeport_api.errors import AlreadyExists
from homeport_api.interface import Interface, InterfaceSpec, interface_names
from homeport_api.meta import ObjectMeta
from homeport_api.workload import Workload


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


def interfaces_of(vm: VirtualMachine, existing: Iterable[Interface] = ()) -> tuple[Interface, ...]:
    """The Interfaces a VM's manifest asks for, in its order; `existing` are those of its namespace. One that has this
    identity already keeps its name, and a name that belongs to another identity is passed over. Raises AlreadyExists
    when every name of one of them is."""
    by_identity: dict[tuple[str, str], str] = {}
    for interface in existing:
        if interface.spec.vm is not None and interface.spec.interface is not None:
            by_identity[interface.spec.vm, interface.spec.interface] = interface.meta.name
    taken = set(by_identity.values())
    made: list[Interface] = []
    for entry in vm.interfaces:
        name = by_identity.get((vm.meta.name, entry.name)) or _free_name(vm, entry.name, taken)
        taken.add(name)
        spec = InterfaceSpec(
            entry.network, entry.addresses, entry.bare_addresses, entry.mac, vm=vm.meta.name, interface=entry.name
        )
        made.append(Interface(ObjectMeta(name, vm.meta.namespace), spec))
    return tuple(made)


def workload_of(vm: VirtualMachine, old: Workload | None) -> Workload:
    """What policies know the VM by: the labels of its manifest, whatever was said before; and the ports that were said
    at an attach, as a manifest has none."""
    ports, revision = (old.ports, old.revision) if old else ((), 0)
    return Workload(vm.meta.namespace, vm.meta.name, vm.meta.labels, ports, revision)


def _free_name(vm: VirtualMachine, interface: str, taken: Container[str]) -> str:
    for name in interface_names(vm.meta.name, interface):
        if name not in taken:
            return name
    raise AlreadyExists(
        f"interface {interface} of {vm.meta.namespace}/{vm.meta.name}: every name its Interface could have is taken by "
        "another; rename the interface"
    )
