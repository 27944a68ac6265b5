"""Pods that ask for NICs by annotation, behind the stock bridge plugin, and pods that ask for nothing."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homeport_netns_fixtures import cni
from homeport_netns_fixtures.cri import CriFailed, Sandbox
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import ANNOTATIONS, MakeContainerd, global_addresses, start_runtime
from tests.runtime.manifests import apply, interface, interfaces

OURS = "homeport.dev/interfaces"
GKE = "networking.gke.io/interfaces"


def pod(name: str, uid: str, *entries: dict[str, str], annotation: str = OURS) -> Sandbox:
    return Sandbox(name, uid, annotations={annotation: json.dumps(entries)})


def add_directly(node: Node, executable: Path, sandbox: Sandbox) -> cni.Answer:
    """What the runtime calls for such a pod, for the code, which it does not repeat."""
    configuration = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "homeport",
        "prevResult": {"cniVersion": "1.0.0"},
        "runtimeConfig": {ANNOTATIONS: dict(sandbox.annotations)},
    }
    guest = node.guest(sandbox.name)
    return cni.call(
        executable, "ADD", configuration, inside=node.namespace, container_id="c1", netns=guest, ifname="eth0"
    )


@pytest.mark.parametrize("annotation", [OURS, GKE])
def test_nics_on_two_networks_and_a_named_interface_in_one_call(
    node: Node, containerd: MakeContainerd, annotation: str
) -> None:
    apply(node, interface("shop", "blue", "shop", ipAddresses=["10.10.0.77"], macAddress="02:00:5e:10:00:77"))
    runtime = start_runtime(node, containerd, "pods")
    blue, green = {"interfaceName": "eth1", "network": "blue"}, {"interfaceName": "eth2", "network": "green"}
    named = {"interfaceName": "net-shop", "interface": "shop"}

    web = runtime.cri.run_pod_sandbox(pod("web", "uid-1", blue, green, named, annotation=annotation))
    db = runtime.cri.run_pod_sandbox(pod("db", "uid-2", blue, annotation=annotation))
    ordinary = runtime.cri.run_pod_sandbox(Sandbox("ordinary", "uid-3"))
    spaces = {name: runtime.sandbox_namespace(sandbox_id) for name, sandbox_id in (("web", web), ("db", db))}
    assert spaces["web"].links() == {"lo", "eth0", "eth1", "eth2", "net-shop"}
    assert runtime.sandbox_namespace(ordinary).links() == {"lo", "eth0"}
    assert spaces["web"].mac("net-shop") == "02:00:5e:10:00:77"

    # The pod's own address stays the first one, its way out the bridge plugin's.
    status = runtime.cri.pod_sandbox_status(web)
    assert status.addresses[0].startswith("172.31.")
    assert status.cni_result["Interfaces"]["net-shop"]["IPConfigs"][0]["IP"] == "10.10.0.77"
    assert [route["dev"] for route in spaces["web"].show("-4", "route") if route["dst"] == "default"] == ["eth0"]

    spaces["web"].wait_ping(global_addresses(spaces["db"], "eth1")[0])
    spaces["db"].wait_ping("10.10.0.77")
    spaces["db"].wait_ping(status.addresses[0])

    assert sorted(item["spec"]["networkName"] for item in interfaces(node).values()) == ["blue"] * 3 + ["green"]
    for sandbox_id in (web, db, ordinary):
        runtime.cri.stop_pod_sandbox(sandbox_id)
        runtime.cri.remove_pod_sandbox(sandbox_id)
    assert list(interfaces(node)) == ["shop"]
    assert interfaces(node)["shop"]["status"]["phase"] == "Reserved"


def test_a_refused_nic_takes_the_others_of_the_call_with_it(node: Node, containerd: MakeContainerd) -> None:
    runtime = start_runtime(node, containerd, "pods")
    blue = {"interfaceName": "eth1", "network": "blue"}
    with pytest.raises(CriFailed, match="no-such"):
        runtime.cri.run_pod_sandbox(pod("web", "uid-1", blue, {"interfaceName": "eth2", "network": "no-such"}))
    with pytest.raises(CriFailed, match="eth0"):
        runtime.cri.run_pod_sandbox(pod("web", "uid-2", blue, {"interfaceName": "eth0", "network": "green"}))
    assert interfaces(node) == {}


def test_a_named_interface_keeps_its_place_over_restarts_of_runtime_and_agent(
    node: Node, containerd: MakeContainerd
) -> None:
    apply(node, interface("shop", "blue", "shop"))
    runtime = start_runtime(node, containerd, "pods")
    named = {"interfaceName": "eth1", "interface": "shop"}

    def place(sandbox_id: str) -> tuple[str, list[str]]:
        namespace = runtime.sandbox_namespace(sandbox_id)
        return namespace.mac("eth1"), global_addresses(namespace, "eth1")

    first = runtime.cri.run_pod_sandbox(pod("web", "uid-1", named))
    neighbour = runtime.cri.run_pod_sandbox(pod("db", "uid-2", {"interfaceName": "eth1", "network": "blue"}))
    had = place(first)
    assert len(had[1]) == 2
    runtime.sandbox_namespace(neighbour).wait_ping(had[1][0])

    runtime.restart()
    node.agent.kill()
    node.agent.start()
    node.agent.wait_ready()
    assert place(first) == had
    assert runtime.sandbox_namespace(neighbour).pings(had[1][0]), "a running guest notices neither"
    runtime.cri.stop_pod_sandbox(first)
    runtime.cri.remove_pod_sandbox(first)
    second = runtime.cri.run_pod_sandbox(pod("web", "uid-3", named))
    assert second != first
    assert place(second) == had
    runtime.sandbox_namespace(neighbour).wait_ping(had[1][0])


def test_fifty_ordinary_sandboxes_start_and_stop_with_nothing_of_homeport_there(
    topology: WorldBuilder, containerd: MakeContainerd
) -> None:
    """Neither agent nor store nor controller: only the executable is installed. A pod that asks for a NIC is told to
    try again."""
    (node,) = topology("a").nodes
    runtime = start_runtime(node, containerd, "pods")

    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        pods = [Sandbox(f"pod{number}", f"uid-{number}") for number in range(50)]
        sandboxes = list(pool.map(runtime.cri.run_pod_sandbox, pods))
        begun = time.monotonic() - started
        assert len({runtime.cri.pod_sandbox_status(sandbox_id).addresses for sandbox_id in sandboxes}) == 50
        first, last = runtime.sandbox_namespace(sandboxes[0]), runtime.cri.pod_sandbox_status(sandboxes[-1])
        first.wait_ping(last.addresses[0])

        web = pod("web", "uid-web", {"interfaceName": "eth1", "network": "blue"})
        with pytest.raises(CriFailed, match="agent"):
            runtime.cri.run_pod_sandbox(web)
        assert add_directly(node, runtime.cni_bin / "homeport", web).error == 11

        stopping = time.monotonic()
        list(pool.map(runtime.cri.stop_pod_sandbox, sandboxes))
        list(pool.map(runtime.cri.remove_pod_sandbox, sandboxes))
    print(f"50 sandboxes started in {begun:.1f} s, stopped and removed in {time.monotonic() - stopping:.1f} s")
    assert set(runtime.cri.list_pod_sandboxes()).isdisjoint(sandboxes)
    assert not node.switch.exists
