"""`ipam show|release|fsck` and `store snapshot|restore`."""

import json
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from homeport_api import wire
from homeport_api.addresses import L2Domain
from homeport_api.attachment import AttachmentKey, AttachRequest, Identity, NicRequest, Source
from homeport_api.interface import InterfaceKey
from homeport_api.owner import Owner
from homeport_store import keys

from .harness import NETWORK, Cli

RESERVATION = (
    "{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: one}, "
    "spec: {networkName: lab, ipAddresses: [10.77.0.9]}}"
)
LEAK = keys.address(L2Domain(":lab"), IPv4Address("10.77.0.77"))


@pytest.fixture
def lab(cli: Cli) -> Cli:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{RESERVATION}")
    return cli


def leak(cli: Cli) -> None:
    cli.store.put_if(LEAK, wire.OWNER.dumps(Owner(InterfaceKey("default", "gone"), "uid")), 0)


def test_owners_are_shown_beside_their_pools(lab: Cli) -> None:
    assert [line.split() for line in lab("ipam", "show").stdout.splitlines()] == [
        ["NETWORK", "POOL", "CAPACITY", "ALLOCATED", "FREE"],
        ["lab", "10.77.0.0/24", "254", "1", "253"],
        [],
        ["NETWORK", "ADDRESS", "INTERFACE", "KIND"],
        ["lab", "10.77.0.9", "default/one", "static"],
    ]
    shown = json.loads(lab("ipam", "show", "lab", "-o", "json").stdout)
    assert shown["owners"] == [{"address": "10.77.0.9", "interface": "default/one", "kind": "static"}]
    assert lab("ipam", "show", "nope").exit_code == 3


def test_an_interface_gives_its_addresses_up(lab: Cli) -> None:
    assert lab("ipam", "release", "one").stdout == "interface/default/one released 10.77.0.9\n"
    assert lab.objects.interfaces.get(InterfaceKey("default", "one")).status.addresses == ()
    assert lab("ipam", "release", "one").stdout == "interface/default/one released nothing: it had no addresses\n"
    assert lab("ipam", "release", "two").exit_code == 3


def test_an_address_is_taken_from_whoever_owns_it(lab: Cli) -> None:
    assert lab("ipam", "release", "10.77.0.9").stdout == "interface/default/one released 10.77.0.9\n"
    assert lab("ipam", "release", "10.77.0.9").exit_code == 3


def test_an_address_of_two_networks_needs_the_network(lab: Cli) -> None:
    lab("apply", "-f", "-", stdin=NETWORK.replace("lab", "lab2"))
    lab("apply", "-f", "-", stdin=RESERVATION.replace("one", "two").replace("lab", "lab2"))
    result = lab("ipam", "release", "10.77.0.9")
    assert result.exit_code == 2
    assert "lab, lab2: say which with --network" in result.stderr
    assert lab("ipam", "release", "10.77.0.9", "--network", "lab2").stdout.startswith("interface/default/two")


def test_what_is_held_is_not_released(lab: Cli) -> None:
    key = AttachmentKey("n1", "homeport", "lab", "c1", "eth0")
    nic = NicRequest(Identity("default", "vm", "eth0"), "eth0", interface_object="one")
    lab.session().allocator.attach(AttachRequest(key, Source.CLI, "boot", (nic,)))
    result = lab("ipam", "release", "one")
    assert result.exit_code == 5
    assert "container c1" in result.stderr


def test_what_a_guest_took_is_shown_and_can_be_taken_from_it(lab: Cli) -> None:
    key = AttachmentKey("n1", "homeport", "lab", "c1", "eth0")
    nic = NicRequest(Identity("default", "vm", "eth0"), "eth0", interface_object="one")
    allocator = lab.session().allocator
    (held,) = allocator.attach(AttachRequest(key, Source.CLI, "boot", (nic,)))
    assert allocator.learn(held.nic, IPv6Address("fe80::7"), lab.objects.networks.list(), ()).refusal is None
    assert ["lab", "fe80::7", "default/one", "learned"] in [
        line.split() for line in lab("ipam", "show").stdout.splitlines()
    ]
    assert "10.77.0.9, fe80::7" in lab("get", "interfaces").stdout
    assert "fe80::7" in lab("describe", "interface", "one").stdout
    for at in range(1, 5):
        assert allocator.learn(held.nic, IPv6Address(f"fe80::7:{at}"), lab.objects.networks.list(), ()).refusal is None
    assert "10.77.0.9, fe80::7, fe80::7:1, fe80::7:2, and 2 more" in lab("get", "interfaces").stdout
    shown = json.loads(lab("get", "interface", "one", "-o", "json").stdout)["status"]
    assert [each["address"] for each in shown["learnedAddresses"]][:2] == ["fe80::7", "fe80::7:1"]
    assert lab("ipam", "release", "fe80::7").stdout == "interface/default/one released fe80::7\n"
    assert lab("ipam", "fsck").stdout == "Nothing is wrong.\n"


def test_fsck_explains_and_changes_nothing_without_repair(lab: Cli) -> None:
    assert lab("ipam", "fsck").stdout == "Nothing is wrong.\n"
    leak(lab)
    result = lab("ipam", "fsck")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"leaked: {LEAK}\n  owned by default/gone, but Interface default/gone does not exist\n"
    )
    assert "--repair repairs what is marked possible" in result.stdout
    assert lab.store.get(LEAK) is not None


def test_fsck_repairs_when_told_to(lab: Cli) -> None:
    leak(lab)
    result = lab("ipam", "fsck", "--repair", "-o", "json")
    assert result.exit_code == 0
    assert [(found["wrong"], found["repair"]) for found in json.loads(result.stdout)["findings"]] == [
        ("leaked", "done")
    ]
    assert lab.store.get(LEAK) is None
    assert lab("ipam", "fsck").exit_code == 0


def test_a_snapshot_brings_everything_back(lab: Cli, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    assert lab("store", "snapshot", str(file)).exit_code == 0
    lab("delete", "interface", "one")
    refused = lab("store", "restore", str(file))
    assert refused.exit_code == 5
    assert "--force" in refused.stderr
    assert lab("store", "restore", str(file), "--force").exit_code == 0
    assert str(lab.objects.interfaces.get(InterfaceKey("default", "one")).status.addresses[0]) == "10.77.0.9/24"


def test_a_file_that_is_no_snapshot_is_refused(lab: Cli, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    assert lab("store", "restore", str(file)).exit_code == 2
    file.write_text("{}\n")
    result = lab("store", "restore", str(file), "--force")
    assert result.exit_code == 2
    assert "a snapshot is made by `homeport store snapshot`" in result.stderr
    assert lab("store", "snapshot", str(tmp_path / "no" / "where")).exit_code == 1
