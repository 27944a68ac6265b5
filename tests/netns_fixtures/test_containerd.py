"""A real containerd makes sandboxes through real CNI plugins, driven as a kubelet drives it."""

from collections.abc import Callable
from typing import Any

import pytest

from homeport_netns_fixtures.containerd import Containerd
from homeport_netns_fixtures.cri import CriFailed, Sandbox
from homeport_netns_fixtures.netns import Namespace

BRIDGE: dict[str, Any] = {
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}]]},
}


def test_two_sandboxes_on_the_stock_bridge(
    netns: Callable[[str], Namespace], containerd: Callable[[Namespace], Containerd]
) -> None:
    host = netns("host")
    runtime = containerd(host)
    runtime.configure("stock", [{**BRIDGE, "ipam": {**BRIDGE["ipam"], "dataDir": f"{runtime.directory}/ipam"}}])
    runtime.wait_network_ready()

    web = Sandbox("web", "uid-1")
    first = runtime.cri.run_pod_sandbox(web)
    second = runtime.cri.run_pod_sandbox(Sandbox("db", "uid-2"))
    status = runtime.cri.pod_sandbox_status(second)
    assert status.addresses == ("192.0.2.3",)
    assert "cni0" in host.links()
    assert runtime.sandbox_namespace(first).pings("192.0.2.3")

    container = runtime.run_container(first, web)
    executed = runtime.cri.exec_sync(container, ["ip", "-o", "address", "show", "dev", "eth0"])
    assert executed.code == 0
    assert "192.0.2.2/24" in executed.output

    runtime.cri.stop_pod_sandbox(first)
    runtime.cri.remove_pod_sandbox(first)
    assert runtime.cri.list_pod_sandboxes() == [second]


def test_a_refusing_plugin_fails_the_sandbox_with_its_own_words(
    netns: Callable[[str], Namespace], containerd: Callable[[Namespace], Containerd]
) -> None:
    runtime = containerd(netns("host"))
    runtime.configure("broken", [{**BRIDGE, "vlan": 5000}])
    runtime.wait_network_ready()
    with pytest.raises(CriFailed, match="invalid VLAN ID 5000"):
        runtime.cri.run_pod_sandbox(Sandbox("web", "uid-1"))
