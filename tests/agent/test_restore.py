"""A store restored from before: detected, told what runs, and not believed blindly."""

import json
import time

from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node, NodeSpec

LAB = """
apiVersion: homeport.dev/v1
kind: Network
metadata: {name: lab}
spec:
  type: L2
  ipam: {pools: [{cidr: 10.77.0.0/29}]}
"""


def attach(node: Node, vm: str) -> str:
    """The VM's address."""
    guest = node.guest(vm)
    result = json.loads(node.homeport("attach", vm, "--network", "lab", "--netns", f"/run/netns/{guest.name}").stdout)
    address: str = result["ips"][0]["address"]
    return address


def interfaces(node: Node) -> dict[str, tuple[str, str]]:
    items = json.loads(node.homeport("get", "interfaces", "-A", "-o", "json").stdout)["items"]
    return {item["metadata"]["name"]: (item["status"]["ipAddresses"][0], item["status"]["phase"]) for item in items}


def wait_until(condition: object, within: float = 30.0) -> float:
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within
        time.sleep(0.1)
    return time.monotonic() - began


def test_what_runs_is_put_back_and_what_is_new_waits_for_it(topology: WorldBuilder) -> None:
    world = topology(NodeSpec("a", options=("--restore-wait", "2s")))
    node = world.node("a")
    node.agent.start()
    node.agent.wait_ready()
    node.homeport("apply", "-f", "-", stdin=LAB)
    kept = attach(node, "kept")
    snapshot = node.directory / "snapshot"
    node.homeport("store", "snapshot", str(snapshot))
    young = attach(node, "young")
    node.homeport("store", "restore", str(snapshot), "--force")
    took = wait_until(lambda: interfaces(node).get("young-eth0") == (young, "Active"))
    print(f"replayed {took:.2f} s after the restore")
    assert interfaces(node)["kept-eth0"] == (kept, "Active")
    later = ""

    def attached() -> bool:
        nonlocal later
        guest = node.guest("later")
        done = node.homeport("attach", "later", "--network", "lab", "--netns", f"/run/netns/{guest.name}", check=False)
        if done.returncode:
            assert "no new address is given for now" in done.stderr
            guest.delete()
            return False
        later = json.loads(done.stdout)["ips"][0]["address"]
        return True

    took = wait_until(attached)
    print(f"new addresses again {took:.2f} s later")
    assert len({kept, young, later}) == 3
    assert "Nothing is wrong" in node.homeport("ipam", "fsck").stdout


def test_a_restore_while_the_agent_was_down_is_noticed_at_its_start(topology: WorldBuilder) -> None:
    world = topology(NodeSpec("a", options=("--restore-wait", "1s")))
    node = world.node("a")
    node.agent.start()
    node.agent.wait_ready()
    node.homeport("apply", "-f", "-", stdin=LAB)
    snapshot = node.directory / "snapshot"
    node.homeport("store", "snapshot", str(snapshot))
    address = attach(node, "young")
    node.agent.kill()
    node.homeport("store", "restore", str(snapshot), "--force")
    assert interfaces(node) == {}
    node.agent.start()
    node.agent.wait_ready()
    wait_until(lambda: interfaces(node) == {"young-eth0": (address, "Active")})
