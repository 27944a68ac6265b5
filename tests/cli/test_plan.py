"""`policy plan`: what manifests would change, and that nothing does."""

import json
from dataclasses import replace

import pytest

from homeport_api import wire
from homeport_api.interface import Holder, InterfaceKey
from homeport_api.meta import Condition
from homeport_api.node import STATEFUL_POLICY_UNAVAILABLE, NodeReport
from homeport_api.workload import NamedPort
from homeport_store import keys
from homeport_store.protocol import Put

from .harness import NETWORK, Cli


def vm(name: str, number: int, app: str) -> str:
    return (
        f"---\n{{apiVersion: homeport.dev/v1, kind: VirtualMachine, metadata: {{name: {name}, labels: {{app: {app}}}}},"
        f"\n spec: {{interfaces: [{{name: eth0, networkName: lab, ipAddresses: [10.77.0.{number}]}}]}}}}\n"
    )


WORLD = NETWORK + vm("db", 9, "db") + vm("web1", 11, "web") + vm("web2", 12, "web")
POLICY = """\
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: db}, spec: {
  podSelector: {matchLabels: {app: db}},
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: pg}]}]}}
"""
OTHERS = "ICMP, other tcp ports, other udp ports, other sctp ports"


@pytest.fixture
def lab(cli: Cli) -> Cli:
    assert cli("apply", "-f", "-", stdin=WORLD).exit_code == 0
    db = cli.objects.workloads.get(InterfaceKey("default", "db"))
    cli.objects.workloads.save(replace(db, ports=(NamedPort("pg", 5432),)))
    return cli


def plan(cli: Cli, manifests: str, *options: str) -> str:
    result = cli("policy", "plan", "-f", "-", *options, stdin=manifests)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_what_a_policy_would_stop_and_nothing_is_applied(lab: Cli) -> None:
    assert plan(lab, POLICY) == (
        "allowed -> denied: 13 flows\n"
        "  default/web1:eth0, default/web2:eth0 to default/db:eth0\n"
        f"    {OTHERS} (IPv4 in :lab)\n"
        "  outside (198.51.100.1) to default/db:eth0\n"
        "    ICMP, 5432/tcp, other tcp ports, other udp ports, other sctp ports (IPv4 in :lab)\n"
        "isolated from then on: default/db:eth0\n"
    )
    assert lab.objects.policies.list() == ()


def test_what_a_label_would_change(lab: Cli) -> None:
    lab("apply", "-f", "-", stdin=POLICY)
    assert plan(lab, POLICY) == "No flow between VMs with known addresses would change.\n"
    assert plan(lab, vm("web2", 12, "db").replace("app: db", "app: other")) == (
        "allowed -> denied: 1 flow\n  default/web2:eth0 to default/db:eth0\n    5432/tcp (IPv4 in :lab)\n"
    )
    told = json.loads(plan(lab, vm("db", 9, "free"), "-o", "json"))
    assert (told["denied"]["flows"], told["allowed"]["flows"], told["released"]) == (0, 13, ["default/db:eth0"])
    assert told["allowed"]["groups"][0] == {
        "domain": ":lab",
        "families": ["IPv4"],
        "from": ["default/web1:eth0", "default/web2:eth0"],
        "to": ["default/db:eth0"],
        "services": OTHERS.split(", "),
        "flows": 8,
    }


def test_what_is_more_than_the_limit_is_counted(lab: Cli) -> None:
    assert "and 1 more groups of flows (--limit)" in plan(lab, POLICY, "--limit", "1")
    told = json.loads(plan(lab, POLICY, "--limit", "1", "-o", "json"))["denied"]
    assert (len(told["groups"]), told["more"], told["flows"]) == (1, 1, 13)


def test_nodes_that_cannot_are_named(lab: Cli) -> None:
    for node in ("a", "b"):
        status = Condition(STATEFUL_POLICY_UNAVAILABLE, "True" if node == "b" else "False", "", "")
        report = NodeReport(node, "lab", ready=True, conditions=(status,))
        lab.store.txn((), [Put(keys.report(node, "lab"), wire.REPORT.dumps(report))])
    refused = "default/db-eth0 would be refused by nodes whose kernel cannot enforce policies: b\n"
    assert plan(lab, POLICY).endswith("default/db:eth0\n" + refused)
    interface = lab.objects.interfaces.get(InterfaceKey("default", "db-eth0"))
    held = replace(interface.status, holders=(Holder("b", "boot", "c", "eth0"),))
    lab.objects.interfaces.save(replace(interface, status=held))
    assert plan(lab, POLICY).endswith(
        f"default/db-eth0 would be muted: the kernel of its node b cannot enforce policies\n{refused}"
    )
    told = json.loads(plan(lab, POLICY, "-o", "json"))["unenforceable"]
    assert told == [{"interface": "default/db-eth0", "muted": "b", "refused": ["b"]}]


def test_a_new_vm_is_isolated_before_it_has_an_address(lab: Cli) -> None:
    lab("apply", "-f", "-", stdin=POLICY)
    new = vm("db2", 13, "db").replace(", ipAddresses: [10.77.0.13]", "")
    assert plan(lab, new).endswith("isolated from then on: default/db2:eth0\n")


def test_errors_are_those_of_apply(lab: Cli) -> None:
    result = lab("policy", "plan", "-f", "-", stdin=POLICY.replace("port: pg", "port: 0"))
    assert result.exit_code == 2
    assert "is not between 1 and 65535" in result.stderr
    assert lab("policy", "plan").exit_code == 2
