"""The written forms of every object: manifest (what users write), stored (what the store holds), shown (what `get`
prints). The one place where dicts and dataclasses meet; the field tables behind it are in `wire_*`.

    manifest ── Kind.parse ──► dataclass ── Kind.show ──► dict, for people
                                  │  ▲
                          Stored.dumps  Stored.loads
                                  ▼  │
                               bytes of the store

The stored form carries a schema version. Fields may be added without changing it, as readers ignore what they do not
know; a version above ours means that a record can no longer be read so, and it is refused with the remedy.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from homeport_api import wire_interface, wire_machine, wire_network, wire_policy, wire_records
from homeport_api.attachment import Attachment
from homeport_api.errors import BadInput, FieldError, Invalid, TooNew
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKind
from homeport_api.node import NodeRecord, NodeReport, PolicyReport
from homeport_api.owner import Owner
from homeport_api.table import LENIENT, Reading, Record, Schema
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.workload import Workload
from homeport_api.zone import Zone

GROUP = "homeport.dev/v1"
GKE_NETWORKING = "networking.gke.io/v1"
GKE_VM = "vm.cluster.gke.io/v1"
KUBERNETES = "v1"
KUBERNETES_NETWORKING = "networking.k8s.io/v1"
NETWORK_PLUMBING = "k8s.cni.cncf.io/v1beta1"
NETWORK_PLUMBING_NEXT = "k8s.cni.cncf.io/v1beta2"
SCHEMA_VERSION = 1

T = TypeVar("T")
ObjectT = TypeVar("ObjectT", bound="Network | Interface | VirtualMachine | NetworkPolicy | Namespace")


class Stored(Generic[T]):
    """How one sort of record is kept in the store."""

    def __init__(self, what: str, table: Record[T], stamp: Callable[[T, int], T] | None = None) -> None:
        self.what = what
        self._table = table
        self._stamp = stamp

    def dumps(self, value: T) -> bytes:
        """The same value gives the same bytes. The revision is the store's own and not among them."""
        settled = value if self._stamp is None else self._stamp(value, 0)
        document = {"schema": SCHEMA_VERSION, **self._table.render(settled)}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, value: bytes, revision: int = 0) -> T:
        """Raises BadInput for what is no record of ours or from a Homeport too new to be understood."""
        try:
            document = json.loads(value)
        except ValueError as error:
            raise BadInput(f"a stored {self.what} is not JSON: {error}") from error
        except RecursionError:
            raise BadInput(f"a stored {self.what} is not JSON: it is nested too deeply") from None
        if not isinstance(document, dict) or not isinstance(version := document.get("schema"), int):
            raise BadInput(f"a stored {self.what} has no schema version: it was not written by Homeport")
        if version > SCHEMA_VERSION:
            raise TooNew(
                f"a stored {self.what} has schema version {version}; this Homeport reads {SCHEMA_VERSION}: upgrade it"
            )
        try:
            read = self._table.parse(document, "", LENIENT)
        except Invalid as error:
            raise BadInput(f"a stored {self.what} cannot be read: {error}") from error
        return read if self._stamp is None else self._stamp(read, revision)


@dataclass(frozen=True, slots=True)
class Kind(Generic[ObjectT]):
    """One kind of object.

    `apis` are the (apiVersion, kind) pairs a manifest may use; the first is ours. `names` are what users call it on the
    command line."""

    name: str
    plural: str
    names: tuple[str, ...]
    namespaced: bool
    apis: tuple[tuple[str, str], ...]
    manifest: Record[ObjectT]
    shown: Record[ObjectT]
    stored: Stored[ObjectT]

    def parse(
        self, document: Mapping[str, object], namespace: str = "default"
    ) -> tuple[ObjectT, tuple[FieldError, ...]]:
        """The object of a manifest, and warnings. `namespace` is for one that names none. Raises `Invalid` with all of
        the manifest's errors."""
        known: dict[str, tuple[str, ...]] = {}
        for field_name, path in self.manifest.paths():
            known[field_name] = (*known.get(field_name, ()), path)
        reading = Reading(foreign=document.get("apiVersion") != GROUP, known=known)
        body = {key: value for key, value in document.items() if key not in {"apiVersion", "kind"}}
        errors: list[FieldError] = []
        metadata = body.get("metadata")
        if isinstance(metadata, Mapping):
            if self.namespaced:
                body["metadata"] = {**metadata, "namespace": metadata.get("namespace") or namespace}
            elif metadata.get("namespace"):
                errors.append(
                    FieldError("metadata.namespace", f"must be left out: a {self.name} belongs to no namespace")
                )
        try:
            parsed = self.manifest.parse(body, "", reading)
        except Invalid as wrong:
            raise Invalid([*errors, *wrong.fields]) from None
        if errors:
            raise Invalid(errors)
        return parsed, tuple(reading.warnings)

    def show(self, value: ObjectT) -> dict[str, object]:
        """The whole object as a manifest that can be applied again."""
        version, kind = self.apis[0]
        return {"apiVersion": version, "kind": kind, **self.shown.render(value)}

    def schema(self) -> Schema:
        """OpenAPI v3, structural: what a CRD's `openAPIV3Schema` holds."""
        properties: dict[str, Any] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        shown = self.shown.schema()
        schema: Schema = {
            "type": "object",
            "properties": properties | shown["properties"] | {"metadata": {"type": "object"}},
        }
        required = [name for name in shown["required"] if name != "metadata"]
        return {**schema, "required": required} if required else schema


def _with_meta_revision(value: ObjectT, revision: int) -> ObjectT:
    meta: ObjectMeta = dataclasses.replace(value.meta, revision=revision)
    return dataclasses.replace(value, meta=meta)


def _with_revision(value: Attachment, revision: int) -> Attachment:
    return dataclasses.replace(value, revision=revision)


def _with_workload_revision(value: Workload, revision: int) -> Workload:
    return dataclasses.replace(value, revision=revision)


NETWORK: Kind[Network] = Kind(
    "Network",
    "networks",
    ("networks", "network", "net", "nets"),
    False,
    ((GROUP, "Network"), (GKE_NETWORKING, "Network")),
    wire_network.MANIFEST,
    wire_network.SHOWN,
    Stored("Network", wire_network.STORED, _with_meta_revision),
)
INTERFACE: Kind[Interface] = Kind(
    "Interface",
    "interfaces",
    ("interfaces", "interface", "intf", "iface", "networkinterfaces", "networkinterface"),
    True,
    ((GROUP, "Interface"), (GROUP, "NetworkInterface"), (GKE_NETWORKING, "NetworkInterface")),
    wire_interface.MANIFEST,
    wire_interface.SHOWN,
    Stored("Interface", wire_interface.STORED, _with_meta_revision),
)
VIRTUAL_MACHINE: Kind[VirtualMachine] = Kind(
    "VirtualMachine",
    "virtualmachines",
    ("virtualmachines", "virtualmachine", "vm", "vms", "gvm"),
    True,
    ((GROUP, "VirtualMachine"), (GKE_VM, "VirtualMachine")),
    wire_machine.MANIFEST,
    wire_machine.STORED,
    Stored("VirtualMachine", wire_machine.STORED, _with_meta_revision),
)
POLICY: Stored[NetworkPolicy] = Stored("policy", wire_policy.STORED, _with_meta_revision)
"""Of both kinds."""
NETWORK_POLICY: Kind[NetworkPolicy] = Kind(
    "NetworkPolicy",
    "networkpolicies",
    ("networkpolicies", "networkpolicy", "netpol"),
    True,
    ((KUBERNETES_NETWORKING, "NetworkPolicy"),),
    wire_policy.NETWORK_POLICY,
    wire_policy.NETWORK_POLICY_SHOWN,
    POLICY,
)
MULTI_NETWORK_POLICY: Kind[NetworkPolicy] = Kind(
    "MultiNetworkPolicy",
    "multinetworkpolicies",
    (
        "multinetworkpolicies",
        "multinetworkpolicy",
        "multi-networkpolicies",
        "multi-networkpolicy",
        "multi-policy",
    ),
    True,
    ((NETWORK_PLUMBING, "MultiNetworkPolicy"), (NETWORK_PLUMBING_NEXT, "MultiNetworkPolicy")),
    wire_policy.MULTI_NETWORK_POLICY,
    wire_policy.MULTI_NETWORK_POLICY_SHOWN,
    POLICY,
)
NAMESPACE: Kind[Namespace] = Kind(
    "Namespace",
    "namespaces",
    ("namespaces", "namespace", "ns"),
    False,
    ((KUBERNETES, "Namespace"),),
    wire_policy.NAMESPACE,
    wire_policy.NAMESPACE_STORED,
    Stored("Namespace", wire_policy.NAMESPACE_STORED, _with_meta_revision),
)
POLICY_KINDS: Mapping[PolicyKind, Kind[NetworkPolicy]] = {
    PolicyKind.NETWORK_POLICY: NETWORK_POLICY,
    PolicyKind.MULTI_NETWORK_POLICY: MULTI_NETWORK_POLICY,
}

AnyObject = Network | Interface | VirtualMachine | NetworkPolicy | Namespace
AnyKind = Kind[Network] | Kind[Interface] | Kind[VirtualMachine] | Kind[NetworkPolicy] | Kind[Namespace]
KINDS: tuple[AnyKind, ...] = (NETWORK, INTERFACE, VIRTUAL_MACHINE, NETWORK_POLICY, MULTI_NETWORK_POLICY, NAMESPACE)

ATTACHMENT: Stored[Attachment] = Stored("attachment", wire_records.ATTACHMENT, _with_revision)
INDEX: Stored[InterfaceKey] = Stored("index entry", wire_records.INTERFACE_KEY)
WORKLOAD: Stored[Workload] = Stored("workload", wire_records.WORKLOAD, _with_workload_revision)
ZONE: Stored[Zone] = Stored("zone", wire_records.ZONE)
OWNER: Stored[Owner] = Stored("owner record", wire_records.OWNER)
NODE: Stored[NodeRecord] = Stored("node record", wire_records.NODE)
REPORT: Stored[NodeReport] = Stored("report", wire_records.REPORT)
POLICY_REPORT: Stored[PolicyReport] = Stored("policy report", wire_records.POLICY_REPORT)
