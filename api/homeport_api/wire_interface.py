"""Field tables of Interface. The rules between fields are in `validate_interface`."""

from collections.abc import Mapping
from enum import StrEnum

from homeport_api import validate_interface as rules
from homeport_api.interface import (
    AllowedAddress,
    Holder,
    Interface,
    InterfaceSpec,
    InterfaceStatus,
    LearnedAddress,
    Phase,
    Role,
)
from homeport_api.scalars import (
    ADDRESS,
    ADDRESS4,
    ADDRESS6,
    BOOLEAN,
    COUNT,
    IDENTITY_NAME,
    INTERFACE_ADDRESS,
    MAC,
    NETWORK,
    OBJECT_NAME,
    TEXT,
    TIME,
    UNREAD,
    VLAN,
    Choice,
    Written,
)
from homeport_api.table import Field, ListOf, Only, Reading, Record, Rule, Schema
from homeport_api.wire_meta import CONDITIONS, MANIFEST_META, STORED_META
from homeport_api.wire_network import DNS


class Trusted(StrEnum):
    DHCP_SERVER = "dhcpServer"
    ROUTER = "router"


class Allowed:
    """An entry of `allowedAddresses`: an address, or `{vlan, address}` on trunks."""

    _tagged: Record[AllowedAddress] = Record(
        AllowedAddress,
        Field("vlan", VLAN, "vlan", "VLAN of a trunk.", required=True),
        Field("address", ADDRESS, "address", required=True),
    )

    def parse(self, raw: object, path: str, reading: Reading) -> AllowedAddress:
        if isinstance(raw, Mapping):
            return self._tagged.parse(raw, path, reading)
        return AllowedAddress(ADDRESS.parse(raw, path, reading))

    def render(self, value: AllowedAddress) -> object:
        return str(value.address) if value.vlan is None else self._tagged.render(value)

    def schema(self) -> Schema:
        return {"x-kubernetes-preserve-unknown-fields": True}


SPEC: Record[InterfaceSpec] = Record(
    InterfaceSpec,
    Field("networkName", OBJECT_NAME, "network", "The Network it is on.", required=True),
    Field(
        "ipAddresses",
        Written(),
        ("addresses", "bare_addresses"),
        "At most one address of each family, with or without a prefix; chosen when left out.",
    ),
    Field("macAddress", MAC, "mac", "Unicast MAC; chosen when left out."),
    Field("virtualMachineName", IDENTITY_NAME, "vm", "The VM it belongs to."),
    Field("interfaceName", IDENTITY_NAME, "interface", "Its name inside the VM."),
    Field("allowedAddresses", ListOf(Allowed(), unique=True), "allowed", "Further addresses the guest may use."),
    Field("trusted", ListOf(Choice(Trusted), unique=True), "trusted", "What the guest may do beyond others."),
    rules=(
        Rule(("ipAddresses",), rules.one_address_a_family),
        Rule(("virtualMachineName", "interfaceName"), rules.identity_is_whole),
    ),
)

HOLDER: Record[Holder] = Record(
    Holder,
    Field("node", TEXT, "node", required=True),
    Field("bootID", TEXT, "boot_id", required=True),
    Field("containerID", TEXT, "container_id", required=True),
    Field("ifname", TEXT, "ifname", required=True),
    Field("role", Choice(Role), "role", required=True),
    Field("since", TIME, "since"),
    Field("plugin", TEXT, "plugin"),
    Field("cniName", TEXT, "cni_name"),
)

LEARNED: Record[LearnedAddress] = Record(
    LearnedAddress,
    Field("address", ADDRESS, "address", required=True),
    Field("since", TIME, "since"),
)

STATUS: Record[InterfaceStatus] = Record(
    InterfaceStatus,
    Field("ipAddresses", ListOf(INTERFACE_ADDRESS), "addresses"),
    Field("learnedAddresses", ListOf(LEARNED), "learned", "What the guest took by itself, first come, first bound."),
    Field("macAddress", MAC, "mac"),
    Field("gateway4", ADDRESS4, "gateway4"),
    Field("gateway6", ADDRESS6, "gateway6"),
    Field("routes", ListOf(Only("to", NETWORK)), "routes"),
    Field("dnsConfig", DNS, "dns"),
    Field("phase", Choice(Phase), "phase", required=True),
    Field("epoch", COUNT, "epoch"),
    Field("holders", ListOf(HOLDER), "holders"),
    Field("conditions", CONDITIONS, "conditions"),
    Field("podName", TEXT, "pod"),
    Field("ephemeral", BOOLEAN, "ephemeral", "Its identity ends with its DEL."),
    Field("orphanedAt", TIME, "orphaned", "When its VirtualMachine object went away; reclaimAfter counts from here."),
)

_SPEC = Field("spec", SPEC, "spec", required=True)
MANIFEST: Record[Interface] = Record(
    Interface,
    Field("metadata", MANIFEST_META, "meta", required=True),
    _SPEC,
    Field("status", UNREAD, (), silent=True),
)
STORED: Record[Interface] = Record(
    Interface,
    Field("metadata", STORED_META, "meta", required=True),
    _SPEC,
    Field("status", STATUS, "status"),
)
SHOWN: Record[Interface] = Record(
    Interface,
    Field("metadata", STORED_META, "meta", required=True),
    _SPEC,
    Field("status", STATUS, "status", required=True),
)
"""The phase of an Interface that was never attached is shown too."""
