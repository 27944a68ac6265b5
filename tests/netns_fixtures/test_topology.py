"""Worlds are wired as their drawing says."""

import pytest

from homeport_netns_fixtures.capture import ARP, IPV4
from homeport_netns_fixtures.plugin import WorldBuilder
from homeport_netns_fixtures.topology import NodeSpec


def test_nodes_reach_each_other_and_an_outside_host_over_the_switch(topology: WorldBuilder) -> None:
    world = topology("a", "b")
    a, b = world.nodes
    a.namespace.ip(f"address add 192.0.2.1/24 dev {a.uplink}")
    b.namespace.ip(f"address add 192.0.2.2/24 dev {b.uplink}")
    outside = world.outside("dns", "192.0.2.53/24")
    wire = world.wire(b)
    a.namespace.wait_ping("192.0.2.2")
    outside.wait_ping("192.0.2.1")
    mac = a.namespace.mac(a.uplink)
    assert wire.wait(lambda frame: frame.source == mac and frame.ethertype == ARP).outgoing
    assert not wire.wait(lambda frame: frame.destination == mac and frame.ethertype == IPV4).outgoing


def test_an_unplugged_node_is_cut_off_until_it_is_plugged_in_again(topology: WorldBuilder) -> None:
    world = topology("a", "b")
    a, b = world.nodes
    a.namespace.ip("address add 192.0.2.1/24 dev eth1")
    b.namespace.ip("address add 192.0.2.2/24 dev eth1")
    a.namespace.wait_ping("192.0.2.2")
    world.unplug(b)
    assert not a.namespace.pings("192.0.2.2", wait=1)
    world.plug(b)
    a.namespace.wait_ping("192.0.2.2")


def test_a_node_without_power_has_lost_its_guests_and_comes_back_as_another_boot(topology: WorldBuilder) -> None:
    (node,) = topology("a").nodes
    guest, boot = node.guest("web"), node.boot_id
    (node.data_dir / "kept").write_text("on the disk")
    node.power_off()
    assert not guest.exists
    assert node.boot_id != boot
    assert node.agent.options[node.agent.options.index("--boot-id") + 1] == node.boot_id
    assert (node.data_dir / "kept").read_text() == "on the disk"


@pytest.mark.parametrize("dead", [0, 1])
def test_a_bond_survives_the_loss_of_either_cable(vlan_kernel: None, topology: WorldBuilder, dead: int) -> None:
    world = topology("a", NodeSpec("b", bond=True))
    a, b = world.nodes
    a.namespace.ip("address add 192.0.2.1/24 dev eth1")
    b.namespace.ip("address add 192.0.2.2/24 dev bond0")
    a.namespace.wait_ping("192.0.2.2")
    world.unplug(b, dead)
    b.namespace.wait_ping("192.0.2.1")


def test_a_nodes_cable_is_a_trunk_and_an_access_port_has_one_vlan(vlan_kernel: None, topology: WorldBuilder) -> None:
    world = topology("a")
    (node,) = world.nodes
    wire = world.wire(node)
    node.namespace.ip(
        "link add link eth1 name eth1.100 type vlan id 100",
        "address add 192.0.2.1/24 dev eth1.100",
        "link set eth1.100 up",
    )
    here = world.outside("here", "192.0.2.2/24", vlan=100)
    elsewhere = world.outside("elsewhere", "192.0.2.1/24", vlan=200)
    here.wait_ping("192.0.2.1")
    assert not elsewhere.pings("192.0.2.2", wait=1)
    mac = here.mac("eth0")
    assert {frame.vlan for frame in wire if frame.source == mac} == {100}
