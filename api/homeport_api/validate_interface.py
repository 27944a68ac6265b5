"""Rules of Interface and of a VM's interfaces, and what of them may change. Pure functions over values."""

from collections.abc import Iterator, Sequence

from homeport_api.addresses import IpInterface
from homeport_api.errors import FieldError
from homeport_api.interface import Interface, InterfaceSpec
from homeport_api.virtualmachine import VmInterface


def one_address_a_family(given: InterfaceSpec | VmInterface) -> Iterator[FieldError]:
    seen: dict[int, IpInterface] = {}
    for at, address in enumerate(given.addresses):
        if (first := seen.setdefault(address.version, address)) is not address:
            yield FieldError(
                f"ipAddresses[{at}]",
                f"{address.ip} is a second IPv{address.version} address beside {first.ip}: an Interface has one of "
                "each family; put further ones into allowedAddresses",
            )


def identity_is_whole(spec: InterfaceSpec) -> Iterator[FieldError]:
    if spec.vm is not None and spec.interface is None:
        yield FieldError("interfaceName", "is required with virtualMachineName: the VM's own name for it, like eth0")
    if spec.interface is not None and spec.vm is None:
        yield FieldError("virtualMachineName", "is required with interfaceName: the VM it belongs to")


def machine_interfaces(interfaces: Sequence[VmInterface]) -> Iterator[FieldError]:
    """Names are unique in the VM, and one interface at the most carries the default route."""
    names: dict[str, int] = {}
    default: int | None = None
    for at, interface in enumerate(interfaces):
        if (first := names.setdefault(interface.name, at)) != at:
            yield FieldError(f"[{at}].name", f"{interface.name!r} is the name of interfaces[{first}] already")
        if interface.default:
            if default is not None:
                yield FieldError(f"[{at}].default", f"interfaces[{default}] is the default already: keep one")
            default = at if default is None else default


def interface_changes(old: Interface, new: Interface) -> tuple[FieldError, ...]:
    """What may not change: its Network ever, and what it owns while an active holder uses it."""
    errors: list[FieldError] = []
    if old.spec.network != new.spec.network:
        errors.append(
            FieldError(
                "spec.networkName",
                f"never changes, and is {old.spec.network}, not {new.spec.network}: delete the Interface and make "
                "another",
            )
        )
    for path, before, after in (
        ("spec.virtualMachineName", old.spec.vm, new.spec.vm),
        ("spec.interfaceName", old.spec.interface, new.spec.interface),
    ):
        if before is not None and before != after:
            errors.append(FieldError(path, f"never changes once it is set, and is {before}, not {after or 'absent'}"))
    holder = old.active_holder
    if holder is not None:
        for path, same in (
            ("spec.ipAddresses", set(old.spec.addresses) == set(new.spec.addresses)),
            ("spec.macAddress", old.spec.mac == new.spec.mac),
        ):
            if not same:
                errors.append(
                    FieldError(path, f"cannot change while the Interface is held by {holder}: detach it first")
                )
    return tuple(errors)
