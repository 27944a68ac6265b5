"""A store restored from before: detected, told what runs, and not believed blindly."""

import json
import random
import time

from homeport_ipam import fsck
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import Node, NodeSpec
from homeport_store import keys
from homeport_store.protocol import Delete

from .lab import Lab

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


def test_an_attachment_that_the_store_lost_is_put_back_by_a_restart_and_never_costs_a_pod_its_address(lab: Lab) -> None:
    pod = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "pod"}
    guest, peer = lab.guest("pod"), lab.guest("peer")
    lab.added("c1", guest, cni_args=pod)
    address = lab.added("c2", peer, vm="peer")[0].split("/")[0]
    (record,) = (r for r in lab.store.list(keys.ATTACHMENTS).records if "/c1/" in r.key)
    for ending in ("restart", "DEL"):
        lab.store.txn((), [Delete(record.key)])
        for _ in range(2):
            found = fsck.judge(lab.store.list(keys.PREFIX), time.time(), random.Random(0))
            assert [(each.repair, "may run" in each.explanation) for each in found] == [(None, True)]
        if ending == "restart":
            lab.restart()
            wait_until(lambda: lab.attachments() == {"c1", "c2"})
            lab.require_clean(ports=2)
            guest.wait_ping(address)
    assert lab.delete("c1").exit_code == 0
    wait_until(lambda: lab.interface("pod-eth0", "shop") is None)
    lab.require_clean(ports=1)
