"""Sandboxes of a real containerd: RunPodSandbox, StopPodSandbox and RemovePodSandbox, and what they leave."""

import json
import time
from typing import Any

import pytest

from homeport_netns_fixtures.cri import CriFailed, Sandbox
from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import MakeContainerd, homeport, start_runtime
from tests.runtime.manifests import BLUE_AND_GREEN, apply, interface, interfaces


@pytest.mark.parametrize("shim", ["c", "python"])
def test_two_sandboxes_on_each_of_two_networks(node: Node, containerd: MakeContainerd, shim: str) -> None:
    """A runtime has one network for its sandboxes, so there are two runtimes on the node."""
    runtimes = {
        name: start_runtime(node, containerd, name, homeport(network=name), shim=shim) for name in ("blue", "green")
    }
    places = {}
    for name, runtime in runtimes.items():
        for number in (1, 2):
            sandbox_id = runtime.cri.run_pod_sandbox(Sandbox(f"{name}{number}", f"uid-{name}{number}"))
            addresses = runtime.cri.pod_sandbox_status(sandbox_id).addresses
            places[f"{name}{number}"] = (sandbox_id, runtime.sandbox_namespace(sandbox_id), addresses)

    def pings(source: str, target: str, family: int = 0) -> bool:
        return places[source][1].pings(places[target][2][family])

    assert len(places["blue1"][2]) == 2, "both families"
    places["blue1"][1].wait_ping(places["blue2"][2][0])
    assert pings("blue2", "blue1") and pings("blue1", "blue2", family=1)
    assert pings("green1", "green2") and pings("green2", "green1")
    assert not pings("blue1", "green1")
    assert not pings("green2", "blue2")

    for name, runtime in runtimes.items():
        for number in (1, 2):
            sandbox_id, namespace, _ = places[f"{name}{number}"]
            runtime.cri.stop_pod_sandbox(sandbox_id)
            runtime.cri.stop_pod_sandbox(sandbox_id)
            runtime.cri.remove_pod_sandbox(sandbox_id)
            assert not namespace.exists
        assert runtime.cri.list_pod_sandboxes() == []
    assert interfaces(node) == {}, "a pod that is no VM has nothing after its DEL"


def test_an_interface_named_in_the_configuration_stays(node: Node, containerd: MakeContainerd) -> None:
    apply(node, interface("shop", "blue", "shop"))
    runtime = start_runtime(node, containerd, "shop", homeport(interface="shop"))

    def run(uid: str) -> tuple[str, tuple[str, ...], str]:
        sandbox_id = runtime.cri.run_pod_sandbox(Sandbox("web", uid))
        addresses = runtime.cri.pod_sandbox_status(sandbox_id).addresses
        return sandbox_id, addresses, runtime.sandbox_namespace(sandbox_id).mac("eth0")

    first, *place = run("uid-1")
    with pytest.raises(CriFailed, match="default/shop"):
        run("uid-2")  # one Interface, one holder
    runtime.cri.stop_pod_sandbox(first)
    runtime.cri.remove_pod_sandbox(first)
    assert interfaces(node)["shop"]["status"]["phase"] == "Reserved"
    second, *again = run("uid-3")
    assert second != first
    assert again == place


def attachments(etcd: Etcd) -> list[dict[str, Any]]:
    values = etcd.etcdctl("get", "--prefix", "/homeport/v1/attachments/", "--print-value-only")
    return [json.loads(line) for line in values.splitlines() if line]


def test_dels_while_etcd_is_away_succeed_and_are_told_to_it_later(
    topology: WorldBuilder, etcd: Etcd, containerd: MakeContainerd
) -> None:
    (node,) = topology("a", etcd=etcd).nodes
    node.agent.start()
    node.agent.wait_ready()
    settings = {"HOMEPORT_ETCD_ENDPOINTS": ",".join(etcd.endpoints)}
    node.homeport("apply", "-f", "-", stdin=BLUE_AND_GREEN, env=settings)
    runtime = start_runtime(node, containerd, "blue", homeport(network="blue"))
    sandboxes = [runtime.cri.run_pod_sandbox(Sandbox(f"web{number}", f"uid-{number}")) for number in range(3)]

    etcd.members[0].kill()
    for sandbox_id in sandboxes:
        runtime.cri.stop_pod_sandbox(sandbox_id)
        runtime.cri.remove_pod_sandbox(sandbox_id)
    assert runtime.cri.list_pod_sandboxes() == []
    with pytest.raises(CriFailed, match="out of reach"):
        runtime.cri.run_pod_sandbox(Sandbox("new", "uid-new"))

    etcd.members[0].start()
    etcd.members[0].wait_ready()
    end = time.monotonic() + 30
    # A record without NICs keeps the ADD that was refused from being applied late.
    while held := [record for record in attachments(etcd) if record["nics"]]:
        assert time.monotonic() < end, f"never told: {held}"
        time.sleep(0.2)
    assert runtime.cri.run_pod_sandbox(Sandbox("new", "uid-newer"))
