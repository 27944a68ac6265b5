"""The node itself as a guest of its own networks: how it reaches what runs on them, since the switch is apart."""

from homeport_netns_fixtures.cri import Sandbox
from homeport_netns_fixtures.topology import Node
from tests.runtime.callers import MakeContainerd, homeport, start_runtime
from tests.runtime.manifests import attach, bare, interfaces


def test_the_node_reaches_a_sandbox_through_attach_host(node: Node, containerd: MakeContainerd) -> None:
    runtime = start_runtime(node, containerd, "blue", homeport(network="blue"))
    web = runtime.cri.run_pod_sandbox(Sandbox("web", "uid-1"))
    (v4, v6) = runtime.cri.pod_sandbox_status(web).addresses
    assert not node.namespace.pings(v4), "the switch is apart"

    result = attach(node, "node-a", "--network", "blue", "--host")
    node.namespace.wait_ping(v4)
    node.namespace.wait_ping(v6)
    runtime.sandbox_namespace(web).wait_ping(bare(result)[0])
    assert [route for route in node.namespace.show("-4", "route") if route["dst"] == "default"] == []

    node.homeport("detach", "node-a")
    assert not node.namespace.pings(v4)
    assert "node-a-eth0" in interfaces(node), "it keeps its address, like any VM"
