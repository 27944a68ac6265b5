"""VirtualMachine: only what Homeport itself needs of it. The rest of the manifest is kept unread."""

from dataclasses import dataclass, field
from typing import Any

from homeport_api.addresses import IpAddress, IpInterface, MacAddress
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
    """`manifest` is the object as it was given, for the parts that translate it."""

    meta: ObjectMeta
    interfaces: tuple[VmInterface, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)
