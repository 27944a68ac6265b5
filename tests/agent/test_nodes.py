"""Reboots, names that are taken, and two nodes: what an Interface keeps when its node ends or its VM moves."""

import pytest

from homeport_netns_fixtures.etcd import Etcd
from homeport_netns_fixtures.plugin import WorldBuilder
from tests.asking import Refused

from .conftest import Equip
from .lab import Lab, wait_until


def test_a_reboot_keeps_what_vms_own_and_ends_the_rest(idle_lab: Lab) -> None:
    lab = idle_lab
    lab.start()
    lab.apply("lab")
    mine = lab.added("c1", lab.guest("web"), vm="web")
    lab.added("c2", lab.guest("pod"), cni_args={"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "pod"})
    by_hand = lab.attach("db", lab.guest("db"))
    delegated = {"executable": "homeport-ipam", "ipam": {"type": "homeport-ipam", "network": "lab"}}
    assert lab.add("c3", lab.guest("ipam"), **delegated).exit_code == 0
    lab.node.power_off()
    lab.start()
    wait_until(lambda: lab.attachments() == set(), "what was before the reboot is ended")
    assert lab.holder("web-eth0") is None
    assert lab.interface("pod-eth0", "shop") is None
    assert {interface.meta.name for interface in lab.objects.interfaces.list()} == {"web-eth0", "db-eth0"}
    lab.require_clean(ports=0)
    assert lab.added("c9", lab.guest("again"), vm="web") == mine
    assert lab.attach("db", lab.guest("db")) == by_hand
    assert lab.delete("c1").exit_code == 0, "the runtime's late DEL"
    lab.require_clean(ports=2)


def test_a_node_name_of_another_machine_is_refused(topology: WorldBuilder, etcd: Etcd, equip: Equip) -> None:
    world = topology("a", "b", etcd=etcd)
    first, second = (equip(node, etcd) for node in world.nodes)
    first.start()
    first.apply("lab")
    first.added("c1", first.guest(), vm="web")
    agent = second.node.agent
    at = agent.options.index("--node") + 1
    agent.options = (*agent.options[:at], "a", *agent.options[at + 1 :])
    agent.start()
    assert agent.wait_exit() == 1
    assert "node name a belongs to the machine" in agent.log_tail()
    assert "--node" in agent.log_tail()
    assert first.holder("web-eth0") == "c1"
    first.restart()


def test_a_vm_keeps_its_addresses_on_another_node(topology: WorldBuilder, etcd: Etcd, equip: Equip) -> None:
    a, b = (equip(node, etcd) for node in topology("a", "b", etcd=etcd).nodes)
    a.start()
    b.start()
    a.apply("office", "192.0.2.0/28", uplink="eth1")
    peer = b.guest("peer")
    address = b.added("p1", peer, network="office", vm="peer")[0].split("/")[0]
    here, there = a.guest("here"), b.guest("there")
    mine = a.added("c1", here, network="office", vm="web")
    here.wait_ping(address)
    refused = b.add("c2", there, network="office", vm="web")
    assert refused.error == 102
    assert "c1" in refused.result["msg"]
    assert " a" in refused.result["msg"]
    assert a.delete("c1", network="office").exit_code == 0
    assert b.added("c2", there, network="office", vm="web") == mine
    there.wait_ping(address)
    epoch = a.epoch("web-eth0")
    assert a.delete("c1", network="office").exit_code == 0
    assert a.holder("web-eth0") == "c2"

    back = a.guest("back")
    with pytest.raises(Refused, match="held by"):
        a.attach("web", back, network="office")
    assert a.attach("web", back, network="office", takeOver=True) == mine[0]
    assert a.epoch("web-eth0") == epoch + 1
    back.wait_ping(address)
    wait_until(lambda: len(b.elements()["speaking"]) == 1, "the old port is mute")
    assert not there.pings(address, wait=0.5)
    b.restart()
    assert len(b.elements()["speaking"]) == 1, "also after a restart of its agent"
    assert b.delete("c2", network="office").exit_code == 0
    assert a.interface("web-eth0") is not None
    assert a.epoch("web-eth0") == epoch + 1
    back.wait_ping(address)
    assert a.findings() == []


def test_a_node_that_restarted_has_lost_its_holders_to_whoever_asks(
    topology: WorldBuilder, etcd: Etcd, equip: Equip
) -> None:
    """Its record says a new boot, and the agent there has not ended anything yet."""
    a, b = (equip(node, etcd) for node in topology("a", "b", etcd=etcd).nodes)
    a.start()
    b.start()
    a.apply("lab")
    mine = a.added("c1", a.guest(), vm="web")
    a.node.power_off()
    guest = b.guest()
    assert b.add("c2", guest, vm="web").error == 102, "a node that is silent proves nothing"
    record = next(record for record in a.objects.nodes() if record.name == "a")
    assert record.boot_id != a.node.boot_id
    a.start()
    assert b.added("c2", guest, vm="web") == mine
    wait_until(lambda: a.attachments() == set(), "the first node has ended what was")
    assert b.holder("web-eth0") == "c2"
    assert b.findings() == []
