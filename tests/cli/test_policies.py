"""Policies, Namespaces and what selects a VM: `apply`, `get`, `describe`, `delete`."""

import json
from collections.abc import Sequence

import pytest
import yaml

from homeport_api import wire
from homeport_api.addresses import L2Domain
from homeport_api.attachment import Attachment, AttachmentKey, Nic, PortKind, Source
from homeport_api.interface import InterfaceKey
from homeport_api.node import NodeRecord, PolicyReport, PolicyTrouble, TroubleReason
from homeport_api.wire import WORKLOAD
from homeport_api.workload import NamedPort, Workload
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Delete, PrefixEmpty, Put, TxnResult, Unchanged
from homeport_store.zones import ensure_zone, settled_zones

from .harness import NETWORK, WEB, Cli

POLICIES = """\
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web}, spec: {
  podSelector: {matchLabels: {tier: front, app: web}, matchExpressions: [{key: os, operator: NotIn, values: [a, b]}]},
  ingress: [{from: [{podSelector: {}}]}, {ports: [{port: 80}]}], egress: [{}]}}
---
{apiVersion: k8s.cni.cncf.io/v1beta2, kind: MultiNetworkPolicy,
 metadata: {name: web, annotations: {k8s.v1.cni.cncf.io/policy-for: "lab, infra/mgmt"}}, spec: {podSelector: {}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop,
 annotations: {homeport.dev/network: lab}}, spec: {policyTypes: [Egress]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}
"""


@pytest.fixture
def lab(cli: Cli) -> Cli:
    assert cli("apply", "-f", "-", stdin=POLICIES).exit_code == 0
    cli.now += 300
    return cli


def test_policies_and_namespaces_are_created_once_and_changed_where_they_differ(cli: Cli) -> None:
    assert cli("apply", "-f", "-", stdin=POLICIES).stdout.splitlines() == [
        "namespace/shop created",
        "networkpolicy/default/web created",
        "multinetworkpolicy/default/web created",
        "networkpolicy/shop/deny created",
    ]
    before = cli.objects.policies.list()
    again = cli("apply", "-f", "-", stdin=POLICIES)
    assert (again.stdout.count(" unchanged\n"), again.stderr) == (4, "")
    changed = cli("apply", "-f", "-", stdin=POLICIES.replace("port: 80", "port: 81").replace("team: a", "team: b"))
    assert [line.rsplit(" ", 1)[1] for line in changed.stdout.splitlines()] == [
        "configured",
        "configured",
        "unchanged",
        "unchanged",
    ]
    after = cli.objects.policies.list()
    assert [policy.meta.uid for policy in after] == [policy.meta.uid for policy in before]


def test_policies_are_shown_in_columns(lab: Cli) -> None:
    assert lab("get", "netpol").stdout == (
        "NAME   POD-SELECTOR                        TYPES             NETWORKS   INTERFACES   ENFORCED   AGE\n"
        "web    app=web,tier=front,os notin (a,b)   Ingress, Egress   *          0            True       5m\n"
    )
    header, row = lab("get", "multi-policy", "-o", "wide").stdout.splitlines()
    assert header.split() == [
        *("NAME", "POD-SELECTOR", "TYPES", "NETWORKS", "INTERFACES", "ENFORCED", "AGE"),
        *("INGRESS", "EGRESS", "CONDITIONS"),
    ]
    assert row.endswith("0         0        NetworkNotFound, AppliesNowhere")
    assert lab("get", "ns").stdout == (
        "NAME   LABELS                                    AGE\nshop   kubernetes.io/metadata.name=shop,team=a   5m\n"
    )


def attach(cli: Cli, node: str, kind: PortKind = PortKind.VETH) -> None:
    """The VM web of a lab, as that node's agent writes it."""
    interface = cli.objects.interfaces.get(InterfaceKey("default", "web-eth0"))
    nic = Nic(interface.key, interface.meta.uid, 1, "lab", "eth0", kind=kind)
    attachment = Attachment(AttachmentKey(node, "homeport", "lab", "c1", "eth0"), Source.CNI, "boot", (nic,))
    record = wire.NODE.dumps(NodeRecord(node, "machine", "boot"))
    cli.store.txn((), [cli.objects.attachments.put(attachment), Put(keys.node(node), record)])


def report(cli: Cli, told: PolicyReport) -> None:
    cli.store.txn((), [Put(keys.policy_report(told.node), wire.POLICY_REPORT.dumps(told))])


def test_a_policy_says_where_it_is_enforced_and_where_not(cli: Cli) -> None:
    policy = POLICIES.partition("---")[0].replace("tier: front, app: web", "app: web")
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{LABELLED}---\n{policy}")
    attach(cli, "n1")
    report(cli, PolicyReport("n1"))

    def enforced() -> list[str]:
        return lab_row(cli("get", "netpol").stdout)

    assert enforced() == ["1", "True"]
    refused = PolicyTrouble("default", "NetworkPolicy", "web", TroubleReason.REFUSED, "the kernel is full")
    report(cli, PolicyReport("n1", troubles=(refused,)))
    assert enforced() == ["1", "False"]
    shown = yaml.safe_load(cli("get", "netpol", "web", "-o", "yaml").stdout)["status"]
    assert shown == {
        "conditions": [
            {"type": "Enforced", "status": "False", "reason": "Refused", "message": "n1: the kernel is full"}
        ],
        "interfaces": 1,
        "nodes": [{"name": "n1", "enforced": "False", "reason": "Refused: the kernel is full"}],
    }
    assert "      Message:  n1: the kernel is full" in cli("describe", "netpol", "web").stdout.splitlines()
    attach(cli, "n1", PortKind.NONE)
    report(cli, PolicyReport("n1"))
    assert "NotOurs" in cli("get", "netpol", "web", "-o", "yaml").stdout
    cli.store.txn((), [Put(keys.policy_report("n2"), b'{"schema": 99}')])
    assert enforced() == ["1", "False"], "a node of another version does not hide the others"


def lab_row(table: str) -> list[str]:
    """INTERFACES and ENFORCED of the only one."""
    _, row = table.splitlines()
    return row.split()[-3:-1]


def test_one_that_cannot_be_read_does_not_hide_the_others(lab: Cli) -> None:
    lab.store.txn((), [Put(keys.POLICIES + "default/NetworkPolicy/new", b'{"schema": 99}')])
    for word, names in (("netpol", ["web"]), ("policies", ["web", "web"])):
        found = lab("get", word)
        assert (found.exit_code, [line.split()[0] for line in found.stdout.splitlines()[1:]]) == (0, names)
        assert (
            found.stderr.count("/homeport/v1/policies/default/NetworkPolicy/new: a stored policy has schema version 99")
            == 1
        )


@pytest.mark.parametrize("word", ["policies", "policy", "pol"])
def test_policies_of_both_kinds_are_shown_together(lab: Cli, word: str) -> None:
    assert [line.split()[:3] for line in lab("get", word, "-A").stdout.splitlines()] == [
        ["NAMESPACE", "NAME", "KIND"],
        ["default", "web", "NetworkPolicy"],
        ["default", "web", "MultiNetworkPolicy"],
        ["shop", "deny", "NetworkPolicy"],
    ]
    shown = json.loads(lab("get", word, "-o", "json").stdout)
    assert (shown["kind"], [item["kind"] for item in shown["items"]]) == (
        "List",
        ["NetworkPolicy", "MultiNetworkPolicy"],
    )
    assert lab("get", word, "-n", "nowhere").stderr == "There are no policies in namespace nowhere.\n"


def test_a_policy_is_found_by_name_in_both_kinds(lab: Cli) -> None:
    assert json.loads(lab("get", "policy", "deny", "-n", "shop", "-o", "json").stdout)["kind"] == "NetworkPolicy"
    assert len(json.loads(lab("get", "policy", "web", "-o", "json").stdout)["items"]) == 2
    missing = lab("get", "policy", "deny")
    assert missing.exit_code == 3
    assert "NetworkPolicy or MultiNetworkPolicy deny does not exist in namespace default; there are web, web" in (
        missing.stderr
    )


@pytest.mark.parametrize("kind", ["netpol", "multinetworkpolicies", "policies", "namespaces"])
def test_what_get_prints_can_be_applied(lab: Cli, kind: str) -> None:
    everything = () if kind == "namespaces" else ("-A",)
    shown = lab("get", kind, *everything, "-o", "yaml").stdout
    assert yaml.safe_load(shown)["items"]
    applied = lab("apply", "-f", "-", stdin=shown).stdout.splitlines()
    assert {line.rsplit(" ", 1)[1] for line in applied} == {"unchanged"}


def test_describe_is_for_people(lab: Cli) -> None:
    lines = lab("describe", "netpol", "web").stdout.splitlines()
    assert lines[0] == "Kind:      NetworkPolicy"
    assert "  PolicyTypes:  Ingress, Egress" in lines
    assert lines[lines.index("  PodSelector:") : lines.index("  Egress:") + 2] == [
        "  PodSelector:",
        "    MatchLabels:",
        "      app:   web",
        "      tier:  front",
        "    MatchExpressions:",
        "      - Key:       os",
        "        Operator:  NotIn",
        "        Values:    a, b",
        "  PolicyTypes:  Ingress, Egress",
        "  Ingress:",
        "    - From:",
        "        - PodSelector:  {}",
        "    - Ports:",
        "        - Protocol:  TCP",
        "          Port:      80",
        "  Egress:",
        "    - {}",
    ]
    lines = lab("describe", "ns", "shop").stdout.splitlines()
    assert "    kubernetes.io/metadata.name:  shop" in lines, "labels are the user's words"
    assert lab("describe", "policies", "web").exit_code == 2
    assert "write networkpolicy or multinetworkpolicy" in lab("delete", "pol", "web").stderr


def test_one_kind_of_a_name_is_deleted(lab: Cli) -> None:
    assert lab("delete", "multi-policy", "web").stdout == "multinetworkpolicy/web deleted\n"
    assert [policy.key.name for policy in lab.objects.policies_in("default")] == ["web"]
    assert lab("delete", "multi-policy", "web").exit_code == 3
    assert lab("delete", "netpol", "deny", "-n", "shop").exit_code == 0


def test_with_a_namespace_go_its_labels_only(lab: Cli) -> None:
    assert lab("delete", "ns", "shop").stdout == "namespace/shop deleted\n"
    assert lab.objects.namespaces.list() == ()
    assert len(lab.objects.policies_in("shop")) == 1


def test_nothing_is_applied_when_one_policy_is_invalid(cli: Cli) -> None:
    bad = POLICIES.replace("port: 80", "port: 0").replace("policyTypes: [Egress]", "policytypes: [Egress]")
    result = cli("apply", "-f", "-", stdin=bad)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: standard input:1 NetworkPolicy web spec.ingress[1].ports[0].port: 0 is not between 1 and 65535",
        "Error: standard input:8 NetworkPolicy deny spec.policytypes: unknown field; did you mean spec.policyTypes?",
    ]
    assert cli.objects.policies.list() == ()


PLACE = "type: L2, nodeInterfaceMatcher: {interfaceName: bond0}, l2NetworkConfig: "


def test_every_applied_network_has_a_zone_for_its_domain(cli: Cli) -> None:
    office = NETWORK.replace("lab", "office").replace("type: L2", PLACE + "{vlanID: 100}")
    trunk = NETWORK.replace("lab", "trunk").replace("type: L2", PLACE + "{trunk: {vlans: [7], nativeVLAN: 100}}")
    bare = "{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: bare}, spec: {" + (
        PLACE + "{trunk: {vlans: [8, 9]}}}}"
    )
    assert cli("apply", "-f", "-", stdin="---\n".join([NETWORK, office, trunk, bare])).exit_code == 0
    zones = settled_zones(cli.store.list(keys.ZONES).records)
    assert set(zones) == {":lab", "bond0:100"}
    assert ensure_zone(cli.store, L2Domain("bond0:100")) == zones[L2Domain("bond0:100")]


def test_a_network_of_an_older_homeport_gets_its_zone_when_it_is_applied_again(cli: Cli) -> None:
    cli("apply", "-f", "-", stdin=NETWORK)
    cli.store.txn((), [Delete(keys.zone(L2Domain(":lab")))])
    assert cli("apply", "-f", "-", stdin=NETWORK).stdout == "network/lab unchanged\n"
    assert set(settled_zones(cli.store.list(keys.ZONES).records)) == {":lab"}


LABELLED = WEB.replace("name: web}", "name: web, labels: {app: web}}")
KEY = InterfaceKey("default", "web")
PORT = NamedPort("http", 80)


def labels(cli: Cli) -> dict[str, str]:
    return dict(cli.objects.workloads.get(KEY).labels)


def test_a_vm_is_known_by_the_labels_of_its_manifest_until_it_is_deleted(cli: Cli) -> None:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{LABELLED}")
    assert labels(cli) == {"app": "web"}
    revision = cli.objects.workloads.get(KEY).revision
    cli("apply", "-f", "-", stdin=LABELLED)
    assert cli.objects.workloads.get(KEY).revision == revision
    cli("apply", "-f", "-", stdin=LABELLED.replace("app: web", "app: db"))
    assert labels(cli) == {"app": "db"}
    assert cli("delete", "vm", "web").exit_code == 0
    assert cli.objects.workloads.list() == ()


def test_a_manifest_wins_over_the_labels_of_an_attach_and_keeps_its_ports(cli: Cli) -> None:
    cli.objects.workloads.save(Workload("default", "web", {"app": "old", "x": "y"}, (PORT,)))
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{LABELLED}")
    assert (labels(cli), cli.objects.workloads.get(KEY).ports) == ({"app": "web"}, (PORT,))


def test_a_vm_of_an_older_homeport_gets_its_workload_when_it_is_applied_again(cli: Cli) -> None:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{LABELLED}")
    cli.objects.workloads.delete(cli.objects.workloads.get(KEY))
    assert "virtualmachine/default/web unchanged" in cli("apply", "-f", "-", stdin=LABELLED).stdout
    assert labels(cli) == {"app": "web"}


class Raced(MemoryStore):
    """A store in which somebody attaches the VM with labels just before its manifest is written."""

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        if any(write.key == keys.machine("default", "web") for write in writes):
            super().put_if(keys.workload("default", "web"), WORKLOAD.dumps(Workload("default", "web", {"a": "b"})), 0)
        return super().txn(preconditions, writes)


def test_a_vm_and_what_it_is_known_by_are_written_together_or_not_at_all(cli: Cli) -> None:
    cli.store = Raced()
    result = cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{LABELLED}")
    assert result.exit_code == 5
    assert "VirtualMachine default/web was changed by somebody else meanwhile: apply it again" in result.stderr
    assert (cli.objects.machines.list(), labels(cli)) == ((), {"a": "b"})
    assert cli("delete", "vm", "web").exit_code == 3
