"""`get` and `describe`."""

import json
from dataclasses import replace

import pytest
import yaml

from homeport_api import wire
from homeport_api.interface import InterfaceKey
from homeport_api.node import NodeReport
from homeport_api.workload import NamedPort, Protocol
from homeport_store import keys

from .harness import NETWORK, WEB, Cli


@pytest.fixture
def lab(cli: Cli) -> Cli:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{WEB}")
    cli("apply", "-n", "shop", "-f", "-", stdin=WEB)
    cli.now += 3 * 86_400 + 4 * 3_600
    return cli


def test_a_table_is_plain_in_a_pipe(lab: Cli) -> None:
    assert lab("get", "networks").stdout == (
        "NAME   UPLINK   VLAN       READY     FREE   IN USE   AGE\n"
        "lab    -        isolated   Unknown   254    2        3d4h\n"
    )
    assert lab("get", "vm").stdout == "NAME   INTERFACES   IP   AGE\nweb    eth0         -    3d4h\n"


def test_wide_shows_more(lab: Cli) -> None:
    header, row = lab("get", "interfaces", "-o", "wide").stdout.splitlines()
    assert header.split() == [
        "NAME",
        "NETWORK",
        "IP",
        "MAC",
        "PHASE",
        "NODE",
        "AGE",
        "VM",
        "INTERFACE",
        "EPOCH",
        "CONTAINER",
        "LABELS",
        "PORTS",
    ]
    assert row.split()[:-2] == ["web-eth0", "lab", "-", "-", "Reserved", "-", "3d4h", "web", "eth0", "0", "-"]


def test_what_policies_know_a_vm_by_is_shown(lab: Cli) -> None:
    """Whoever said it last: an attach, of which no object has a word."""
    assert lab("get", "interfaces", "-o", "wide").stdout.splitlines()[1].split()[-2:] == ["kubevirt/vm=web", "-"]
    ports = (NamedPort("http", 80), NamedPort("dns", 53, Protocol.UDP))
    old = lab.objects.workloads.get(InterfaceKey("default", "web"))
    lab.objects.workloads.save(replace(old, labels={"example.com/role": "front"}, ports=ports))
    for kind in ("interfaces", "vm"):
        row = lab("get", kind, "-o", "wide").stdout.splitlines()[1]
        assert row.endswith("   example.com/role=front,kubevirt/vm=web   http=80/tcp, dns=53/udp"), row
    for kind, name in (("interface", "web-eth0"), ("vm", "web")):
        assert lab("describe", kind, name).stdout.splitlines()[-5:] == [
            "Workload:",
            "  Labels:",
            "    example.com/role:  front",
            "    kubevirt/vm:       web",
            "  Ports:   http=80/tcp, dns=53/udp",
        ]
    shown = json.loads(lab("get", "interface", "web-eth0", "-o", "json").stdout)
    assert "workload" not in shown, "it is no part of the object"


def test_namespaces_are_kept_apart_unless_all_are_asked_for(lab: Cli) -> None:
    assert len(lab("get", "interfaces").stdout.splitlines()) == 2
    assert [line.split()[:2] for line in lab("get", "interfaces", "-A").stdout.splitlines()] == [
        ["NAMESPACE", "NAME"],
        ["default", "web-eth0"],
        ["shop", "web-eth0"],
    ]
    empty = lab("get", "interfaces", "-n", "nowhere")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr == "There are no interfaces in namespace nowhere.\n"


@pytest.mark.parametrize("place", ["before", "after"])
def test_common_options_stand_before_or_after_the_verb(lab: Cli, place: str) -> None:
    verb = ["get", "interfaces"]
    result = lab("-n", "shop", *verb) if place == "before" else lab(*verb, "--namespace", "shop")
    assert "web-eth0" in result.stdout


def test_one_object_is_printed_whole_and_several_as_a_list(lab: Cli) -> None:
    one = json.loads(lab("get", "interface", "web-eth0", "-o", "json").stdout)
    assert (one["kind"], one["status"]["phase"]) == ("Interface", "Reserved")
    several = json.loads(lab("get", "interfaces", "-A", "-o", "json").stdout)
    assert (several["apiVersion"], several["kind"], len(several["items"])) == ("v1", "List", 2)
    assert yaml.safe_load(lab("get", "interfaces", "-A", "-o", "yaml").stdout) == several


def test_the_status_of_a_network_is_what_nodes_report(lab: Cli) -> None:
    report = NodeReport("n1", "lab", False, "uplink is missing")
    lab.store.put_if(keys.report("n1", "lab"), wire.REPORT.dumps(report), 0)
    status = json.loads(lab("get", "network", "lab", "-o", "json").stdout)["status"]
    assert status["nodes"] == [{"name": "n1", "ready": False, "reason": "uplink is missing"}]
    assert status["inUse"] == 2
    assert status["pools"] == [{"cidr": "10.77.0.0/24", "capacity": 254, "allocated": 0, "free": 254}]
    assert lab("get", "net").stdout.splitlines()[1].split()[3] == "False"


def test_what_is_missing_is_not_found_and_what_is_there_is_named(lab: Cli) -> None:
    result = lab("get", "net", "labb")
    assert (result.exit_code, result.stderr) == (3, "Error: Network labb does not exist; there are lab\n")
    assert lab("describe", "vm", "db").exit_code == 3


def test_unknown_kinds_are_usage(lab: Cli) -> None:
    result = lab("get", "pods")
    assert result.exit_code == 2
    assert "'pods' is no kind; known are networks, interfaces, virtualmachines" in result.stderr


def test_a_name_and_all_namespaces_exclude_each_other(lab: Cli) -> None:
    assert lab("get", "interface", "web-eth0", "-A").exit_code == 2


def test_describe_is_for_people(lab: Cli) -> None:
    lines = lab("describe", "interface", "web-eth0").stdout.splitlines()
    assert lines[0] == "Kind:      Interface"
    assert "  VirtualMachineName:  web" in lines
