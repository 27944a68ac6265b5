"""Configurations of each version of the specification, their results in that version's form, as libcni takes them."""

import pytest

from homeport_netns_fixtures import cni
from homeport_netns_fixtures.cni import CniTool
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import configure, install_cni, succeeded

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_has_the_form_of_its_version(node: Node, cnitool: CniTool, version: str) -> None:
    install_cni(node, cnitool.bin_dir)
    blue = configure(cnitool, {"type": "homeport", "network": "blue"}, version=version)
    guest = node.guest()
    result = succeeded(cnitool("add", blue, guest, inside=node.namespace)).result

    assert result["cniVersion"] == version
    assert [entry.get("version") for entry in result["ips"]] == (
        ["4", "6"] if version in ("0.3.1", "0.4.0") else [None, None]
    )
    # Only from 1.1.0 on a result says MTUs.
    assert ("mtu" in result["interfaces"][-1]) == (version == "1.1.0")
    link = result["interfaces"][result["ips"][0]["interface"]]
    assert (link["name"], link["sandbox"], link["mac"]) == ("eth0", str(guest.path), guest.mac("eth0"))
    assert [entry for entry in result["interfaces"] if entry.get("sandbox")] == [link]
    assert result["ips"][0]["gateway"] == "10.10.0.1"
    assert {"dst": "0.0.0.0/0", "gw": "10.10.0.1"} in result["routes"]

    # libcni asks for a CHECK from 0.4.0 on, and hands the result in to every call that follows.
    checked = cnitool("check", blue, guest, inside=node.namespace)
    assert (checked.exit_code == 0) == (version != "0.3.1"), checked.stderr
    succeeded(cnitool("del", blue, guest, inside=node.namespace))
    assert guest.links() == {"lo"}


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_alone_have_the_form_of_their_version(node: Node, cnitool: CniTool, version: str) -> None:
    install_cni(node, cnitool.bin_dir)
    bridge = {"type": "bridge", "bridge": "br7", "ipam": {"type": "homeport-ipam", "network": "blue"}}
    name = configure(cnitool, bridge, version=min(version, "1.0.0"))
    guest = node.guest()
    result = succeeded(cnitool("add", name, guest, inside=node.namespace)).result
    assert len(result["ips"]) == 2
    succeeded(cnitool("del", name, guest, inside=node.namespace))

    direct = {"cniVersion": version, "name": name, "type": "bridge", "ipam": bridge["ipam"]}
    answer = cni.call(
        cnitool.bin_dir / "homeport-ipam",
        "ADD",
        direct,
        inside=node.namespace,
        container_id="c1",
        netns=guest,
        ifname="eth0",
    )
    result = succeeded(answer).result
    assert result["cniVersion"] == version
    assert result.get("interfaces") in (None, [])
    assert all(("version" in entry) == (version in ("0.3.1", "0.4.0")) for entry in result["ips"])
    assert result["ips"][0]["gateway"] == "10.10.0.1"


def test_a_command_that_the_version_does_not_have_is_refused(node: Node, cnitool: CniTool) -> None:
    install_cni(node, cnitool.bin_dir)
    for command, version in (("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")):
        configuration = {"cniVersion": version, "name": "blue", "type": "homeport", "network": "blue"}
        guest = node.guest(command.lower())
        answer = cni.call(
            cnitool.bin_dir / "homeport",
            command,
            configuration,
            inside=node.namespace,
            container_id="c1",
            netns=guest,
            ifname="eth0",
        )
        assert (answer.error, answer.result["cniVersion"]) == (1, version)
