"""Field tables of what only Homeport writes: owners, nodes, their reports, attachments, workloads, zones."""

from homeport_api.attachment import Attachment, AttachmentKey, Nic, PortKind, Source
from homeport_api.interface import InterfaceKey
from homeport_api.node import NodeRecord, NodeReport, PolicyReport, PolicyTrouble, TroubleReason
from homeport_api.owner import Owner, OwnerKind
from homeport_api.scalars import BOOLEAN, COUNT, INTERFACE_ADDRESS, LABELS, MAC, TEXT, TIME, Choice, Integer
from homeport_api.table import Field, ListOf, Record
from homeport_api.wire_meta import CONDITIONS
from homeport_api.workload import NamedPort, Protocol, Workload
from homeport_api.zone import FIRST_ZONE, LAST_ZONE, Zone

INTERFACE_KEY: Record[InterfaceKey] = Record(
    InterfaceKey, Field("namespace", TEXT, "namespace", required=True), Field("name", TEXT, "name", required=True)
)

WORKLOAD: Record[Workload] = Record(
    Workload,
    Field("namespace", TEXT, "namespace", required=True),
    Field("name", TEXT, "name", required=True),
    Field("labels", LABELS, "labels"),
    Field(
        "ports",
        ListOf(
            Record(
                NamedPort,
                Field("name", TEXT, "name", required=True),
                Field("number", Integer(1, 65535), "number", required=True),
                Field("protocol", Choice(Protocol), "protocol", required=True),
            )
        ),
        "ports",
    ),
)

ZONE: Record[Zone] = Record(Zone, Field("zone", Integer(FIRST_ZONE, LAST_ZONE), "number", required=True))

OWNER: Record[Owner] = Record(
    Owner,
    Field("interface", INTERFACE_KEY, "interface", required=True),
    Field("uid", TEXT, "uid", required=True),
    Field("kind", Choice(OwnerKind), "kind", required=True),
)

NODE: Record[NodeRecord] = Record(
    NodeRecord,
    Field("name", TEXT, "name", required=True),
    Field("machineID", TEXT, "machine_id", required=True),
    Field("bootID", TEXT, "boot_id", required=True),
    Field("started", TIME, "started"),
    Field("version", TEXT, "version"),
    Field("generation", TEXT, "generation"),
    Field("runDir", TEXT, "run_dir"),
)

REPORT: Record[NodeReport] = Record(
    NodeReport,
    Field("node", TEXT, "node", required=True),
    Field("network", TEXT, "network", required=True),
    Field("ready", BOOLEAN, "ready", required=True),
    Field("reason", TEXT, "reason"),
    Field("conditions", CONDITIONS, "conditions"),
)

POLICY_REPORT: Record[PolicyReport] = Record(
    PolicyReport,
    Field("node", TEXT, "node", required=True),
    Field("reason", Choice(TroubleReason), "reason"),
    Field("message", TEXT, "message"),
    Field(
        "troubles",
        ListOf(
            Record(
                PolicyTrouble,
                Field("namespace", TEXT, "namespace", required=True),
                Field("kind", TEXT, "kind", required=True),
                Field("name", TEXT, "name", required=True),
                Field("reason", Choice(TroubleReason), "reason", required=True),
                Field("message", TEXT, "message"),
            )
        ),
        "troubles",
    ),
)

ATTACHMENT_KEY: Record[AttachmentKey] = Record(
    AttachmentKey,
    Field("node", TEXT, "node", required=True),
    Field("plugin", TEXT, "plugin", required=True),
    Field("cniName", TEXT, "cni_name", required=True),
    Field("containerID", TEXT, "container_id", required=True),
    Field("ifname", TEXT, "ifname", required=True),
)

NIC: Record[Nic] = Record(
    Nic,
    Field("interface", INTERFACE_KEY, "interface", required=True),
    Field("uid", TEXT, "uid", required=True),
    Field("epoch", COUNT, "epoch", required=True),
    Field("network", TEXT, "network", required=True),
    Field("link", TEXT, "link", required=True),
    Field("port", TEXT, "port"),
    Field("kind", Choice(PortKind), "kind", required=True),
    Field("mac", MAC, "mac"),
    Field("addresses", ListOf(INTERFACE_ADDRESS), "addresses"),
    Field("virtualMachineName", TEXT, "vm"),
    Field("interfaceName", TEXT, "vm_interface"),
    Field("ephemeral", BOOLEAN, "ephemeral"),
)

ATTACHMENT: Record[Attachment] = Record(
    Attachment,
    Field("key", ATTACHMENT_KEY, "key", required=True),
    Field("source", Choice(Source), "source", required=True),
    Field("bootID", TEXT, "boot_id", required=True),
    Field("nics", ListOf(NIC), "nics", required=True),
    Field("netns", TEXT, "netns"),
    Field("since", TIME, "since"),
)
