"""Bridges of ours never speak and give nothing away; what a hand changed is set right."""

import pytest

from homeport_api.addresses import MacDomain
from homeport_api.errors import AlreadyExists, UplinkUnusable
from homeport_dataplane import bridge, marks
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker


def test_a_bridge_of_ours_is_silent(switch: Box) -> None:
    made = bridge.find_bridge(switch.ns, BRIDGE)
    assert made is not None
    assert (made.link.up, made.link.mac, made.link.ipv6) == (True, marks.bridge_mac(BRIDGE), False)
    assert (made.stp, made.mcast_snooping, made.no_linklocal_learn, made.group_fwd_mask) == (False, False, True, 0)


def test_a_repeat_changes_nothing(switch: Box) -> None:
    assert bridge.ensure_bridge(switch.ns, BRIDGE, vlan_aware=False) == bridge.find_bridge(switch.ns, BRIDGE)


@pytest.mark.parametrize(
    "damage",
    [
        "link set {name} down",
        "link set {name} type bridge mcast_snooping 1",
        "link set {name} type bridge no_linklocal_learn 0",
        "link set {name} type bridge stp_state 1",
        "link set {name} type bridge group_fwd_mask 8",
    ],
)
def test_what_a_hand_changed_is_set_right_in_place(switch: Box, damage: str) -> None:
    before = bridge.find_bridge(switch.ns, BRIDGE)
    switch.shell.ip(damage.format(name=BRIDGE))
    assert bridge.find_bridge(switch.ns, BRIDGE) != before
    after = bridge.ensure_bridge(switch.ns, BRIDGE, vlan_aware=False)
    assert after == before


def test_a_link_that_is_no_bridge_is_not_taken_for_one(switch: Box) -> None:
    switch.shell.ip("link add hpb-eth9 type veth peer name other")
    with pytest.raises(AlreadyExists, match="hpb-eth9"):
        bridge.ensure_bridge(switch.ns, "hpb-eth9", vlan_aware=False)
    with pytest.raises(AlreadyExists, match="hpb-eth9"):
        bridge.delete_bridge(switch.ns, "hpb-eth9")


def test_deleting_is_repeatable(switch: Box) -> None:
    assert bridge.delete_bridge(switch.ns, BRIDGE)
    assert not bridge.delete_bridge(switch.ns, BRIDGE)


def test_a_missing_bridge_of_the_node_is_named(box: BoxMaker) -> None:
    node = box("node")
    with pytest.raises(UplinkUnusable, match="bridge br0 does not exist"):
        bridge.get_foreign_bridge(node.ns, "br0")
    node.shell.ip("link add br0 type bridge")
    assert bridge.get_foreign_bridge(node.ns, "br0").link.name == "br0"


def test_a_vlan_aware_bridge_has_no_vlan_of_its_own(vlan_kernel: None, box: BoxMaker) -> None:
    node = box("switch")
    name = marks.bridge_name(MacDomain("bond0"))
    made = bridge.ensure_bridge(node.ns, name, vlan_aware=True)
    assert (made.vlan_filtering, made.default_pvid) == (True, 0)
    node.shell.ip("link add p0 type veth peer name p1", f"link set p0 master {name}")
    assert node.shell.run("bridge", "vlan", "show").stdout.split() == ["port", "vlan-id"]
    node.shell.ip(f"link set {name} type bridge vlan_filtering 0")
    assert bridge.ensure_bridge(node.ns, name, vlan_aware=True) == bridge.find_bridge(node.ns, name)
    assert bridge.ensure_bridge(node.ns, name, vlan_aware=True).vlan_filtering
