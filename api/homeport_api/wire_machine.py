"""Field tables of VirtualMachine: metadata and interfaces are read, the rest of its spec is kept as it is."""

from typing import Any

from homeport_api import validate_interface as rules
from homeport_api.errors import FieldError, Invalid
from homeport_api.scalars import BOOLEAN, IDENTITY_NAME, MAC, OBJECT_NAME, UNREAD, Written
from homeport_api.table import Field, ListOf, Reading, Record, Rule, Schema, expect_object, join
from homeport_api.virtualmachine import VirtualMachine, VmInterface
from homeport_api.wire_meta import MANIFEST_META, STORED_META

INTERFACE: Record[VmInterface] = Record(
    VmInterface,
    Field("name", IDENTITY_NAME, "name", "Name inside the VM, unique there.", required=True),
    Field("networkName", OBJECT_NAME, "network", "The Network it is on.", required=True),
    Field("ipAddresses", Written(), ("addresses", "bare_addresses"), "Chosen when left out."),
    Field("macAddress", MAC, "mac", "Chosen when left out."),
    Field("default", BOOLEAN, "default", "The default route goes here."),
    Field("model", UNREAD, (), "The NIC model the hypervisor shows the guest."),
    rules=(Rule(("ipAddresses",), rules.one_address_a_family),),
)


_INTERFACES: ListOf[VmInterface] = ListOf(INTERFACE)


class MachineSpec:
    """Held as (interfaces, the spec as given)."""

    def parse(self, raw: object, path: str, reading: Reading) -> tuple[tuple[VmInterface, ...], dict[str, Any]]:
        document = dict(expect_object(raw, path))
        below = join(path, "interfaces")
        interfaces = _INTERFACES.parse(document.get("interfaces") or (), below, reading)
        if reading.strict and (broken := tuple(rules.machine_interfaces(interfaces))):
            raise Invalid([FieldError(join(below, error.path), error.message) for error in broken])
        return interfaces, document

    def render(self, value: tuple[tuple[VmInterface, ...], dict[str, Any]]) -> object:
        interfaces, document = value
        return document if "interfaces" in document else {**document, "interfaces": _INTERFACES.render(interfaces)}

    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {
                "interfaces": {"description": "Its NICs; an Interface is made for each.", **_INTERFACES.schema()}
            },
            "x-kubernetes-preserve-unknown-fields": True,
        }


_SPEC = Field("spec", MachineSpec(), ("interfaces", "spec"), required=True)
MANIFEST: Record[VirtualMachine] = Record(
    VirtualMachine,
    Field("metadata", MANIFEST_META, "meta", required=True),
    _SPEC,
    Field("status", UNREAD, (), silent=True),
)
STORED: Record[VirtualMachine] = Record(VirtualMachine, Field("metadata", STORED_META, "meta", required=True), _SPEC)
