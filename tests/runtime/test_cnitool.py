"""Both executables under the reference client of CNI, every command."""

from collections.abc import Mapping
from typing import Any

import pytest

from homeport_netns_fixtures import cni
from homeport_netns_fixtures.cni import CniTool
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import configure, install_cni, succeeded
from tests.runtime.manifests import apply, interfaces

TINY = """\
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: tiny}
spec: {type: L2, ipam: {pools: [{cidr: 10.9.0.0/24, ranges: [{start: 10.9.0.5, end: 10.9.0.5}]}]}}
"""


@pytest.mark.parametrize("shim", ["c", "python"])
def test_two_networks_every_command(node: Node, cnitool: CniTool, shim: str) -> None:
    install_cni(node, cnitool.bin_dir, shim)
    lists = {name: configure(cnitool, {"type": "homeport", "network": name}) for name in ("blue", "green")}
    guests = {label: node.guest(label) for label in ("blue1", "blue2", "green1", "green2")}
    address: dict[str, str] = {}
    for label, guest in guests.items():
        result = succeeded(cnitool("add", lists[label[:-1]], guest, inside=node.namespace))
        address[label] = result.addresses[0].split("/")[0]
        succeeded(cnitool("check", lists[label[:-1]], guest, inside=node.namespace))
    succeeded(cnitool("status", lists["blue"], guests["blue1"], inside=node.namespace))

    guests["blue1"].wait_ping(address["blue2"])
    guests["green1"].wait_ping(address["green2"])
    assert not guests["green1"].pings(address["blue2"])
    assert not guests["blue1"].pings(address["green2"])

    guests["blue1"].ip(f"address del {address['blue1']}/24 dev eth0")
    checked = cnitool("check", lists["blue"], guests["blue1"], inside=node.namespace)
    assert checked.exit_code != 0
    assert address["blue1"] in checked.stderr

    for label, guest in guests.items():
        for _ in range(2):  # the second has nothing to do, and succeeds
            succeeded(cnitool("del", lists[label[:-1]], guest, inside=node.namespace))
        assert guest.links() == {"lo"}
    assert interfaces(node) == {}


def test_gc_frees_what_the_client_forgot_and_nothing_else(node: Node, cnitool: CniTool) -> None:
    """cnitool ends what it remembers by DEL, and then says to the plugin nothing about what is valid: refused with 7,
    which frees nothing. Runtimes that name what is valid are played by a direct call."""
    install_cni(node, cnitool.bin_dir)
    blue = configure(cnitool, {"type": "homeport", "network": "blue"})
    remembered, forgotten, other = (node.guest(label) for label in ("remembered", "forgotten", "other"))
    configuration = {"cniVersion": "1.1.0", "name": blue, "type": "homeport", "network": "blue"}
    executable = cnitool.bin_dir / "homeport"

    succeeded(cnitool("add", blue, remembered, inside=node.namespace))
    for container_id, guest in (("forgotten", forgotten), ("other", other)):
        succeeded(
            cni.call(
                executable,
                "ADD",
                configuration,
                inside=node.namespace,
                container_id=container_id,
                netns=guest,
                ifname="eth0",
            )
        )
    collected = cnitool("gc", blue, remembered, inside=node.namespace)
    assert "cni.dev/valid-attachments" in collected.stderr
    assert remembered.links() == {"lo"}
    assert {"eth0"} <= forgotten.links() & other.links()

    valid = {"cni.dev/valid-attachments": [{"containerID": "other", "ifname": "eth0"}]}
    for name in ("elsewhere", blue):  # a list of another name has no say
        answer = cni.call(executable, "GC", {**configuration, **valid, "name": name}, inside=node.namespace)
        assert succeeded(answer).result == {}
        assert ("eth0" in forgotten.links()) == (name == "elsewhere")
    assert "eth0" in other.links()
    assert [item["spec"]["virtualMachineName"] for item in interfaces(node).values()] == ["other"]


def test_status_tells_an_exhausted_pool_and_an_absent_agent(node: Node, cnitool: CniTool) -> None:
    install_cni(node, cnitool.bin_dir)
    apply(node, TINY)
    executables = {name: cnitool.bin_dir / name for name in ("homeport", "homeport-ipam")}
    tiny = {"cniVersion": "1.1.0", "name": "tiny", "type": "homeport", "network": "tiny"}
    delegated = {"cniVersion": "1.1.0", "name": "tiny", "type": "bridge", "ipam": {"type": "x", "network": "tiny"}}
    chained = {"cniVersion": "1.1.0", "name": "list", "type": "homeport"}

    def status(executable: str, configuration: Mapping[str, Any]) -> int:
        return cni.call(executables[executable], "STATUS", configuration, inside=node.namespace).error

    assert (status("homeport", tiny), status("homeport-ipam", delegated), status("homeport", chained)) == (0, 0, 0)
    guest = node.guest("only")
    added = cni.call(
        executables["homeport"], "ADD", tiny, inside=node.namespace, container_id="c1", netns=guest, ifname="eth0"
    )
    assert succeeded(added).addresses == ["10.9.0.5/24"]
    refused = cni.call(
        executables["homeport"], "ADD", tiny, inside=node.namespace, container_id="c2", netns=guest, ifname="eth1"
    )
    assert refused.error == 101
    assert (status("homeport", tiny), status("homeport-ipam", delegated), status("homeport", chained)) == (50, 50, 0)
    node.agent.kill()
    assert (status("homeport", tiny), status("homeport-ipam", delegated), status("homeport", chained)) == (50, 50, 0)
    for executable in executables.values():
        version = cni.call(executable, "VERSION", {"cniVersion": "1.1.0"}, inside=node.namespace)
        assert version.result["supportedVersions"] == ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
