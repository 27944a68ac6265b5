"""VLANs of a port, declared whole."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_api.addresses import VlanId, VlanRange
from homeport_api.errors import NotFound
from homeport_dataplane import links
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.veth import ensure_veth
from homeport_dataplane.vlan import MUTED, PortVlans, clear_bridge, ensure_vlans, find_vlans, list_vlans, merge
from tests.dataplane.conftest import Box, BoxMaker, guest_in, port_of

_BRIDGE = "hpb-eth2"


def tagged(*ranges: tuple[int, int]) -> tuple[VlanRange, ...]:
    return tuple(VlanRange(VlanId(first), VlanId(last)) for first, last in ranges)


@given(st.sets(st.integers(1, 4094), max_size=60))
def test_ranges_hold_exactly_what_was_merged(vlans: set[int]) -> None:
    ranges = merge(vlans)
    assert {vlan for each in ranges for vlan in range(each.first, each.last + 1)} == vlans
    assert all(before.last + 1 < after.first for before, after in pairwise(ranges))


def test_a_kernel_without_vlans_lists_none(switch: Box, box: BoxMaker) -> None:
    port = port_of("uid1")
    ensure_veth(switch.ns, port, guest_in(box("guest")))
    index = links.get_index(switch.ns, port.name)
    assert find_vlans(switch.ns, index) == MUTED
    assert not ensure_vlans(switch.ns, port.name, MUTED)


def test_a_port_that_is_gone(switch: Box) -> None:
    with pytest.raises(NotFound, match="hpabc does not exist"):
        ensure_vlans(switch.ns, "hpabc", MUTED)


STATES = [
    MUTED,
    PortVlans(VlanId(100)),
    PortVlans(VlanId(4094)),
    PortVlans(VlanId(10), tagged((100, 100), (200, 210))),
    PortVlans(None, tagged((10, 10), (100, 105), (207, 300))),
    PortVlans(VlanId(205), tagged((1, 204), (206, 4094))),
]


def test_every_state_follows_every_other(vlan_kernel: None, box: BoxMaker) -> None:
    switch = box("switch")
    ensure_bridge(switch.ns, _BRIDGE, vlan_aware=True)
    port, other = port_of("uid1", bridge=_BRIDGE), port_of("uid2", bridge=_BRIDGE)
    for number, each in enumerate((port, other)):
        ensure_veth(switch.ns, each, guest_in(box(f"guest{number}")))
    index = links.get_index(switch.ns, port.name)
    assert list_vlans(switch.ns) == {}, "a new port is mute"
    assert ensure_vlans(switch.ns, other.name, PortVlans(VlanId(7)))
    for before in STATES:
        for after in STATES:
            ensure_vlans(switch.ns, port.name, before)
            assert ensure_vlans(switch.ns, port.name, after) == (before != after)
            assert not ensure_vlans(switch.ns, port.name, after)
            assert find_vlans(switch.ns, index) == after
            assert list_vlans(switch.ns).get(index, MUTED) == after
    assert find_vlans(switch.ns, links.get_index(switch.ns, other.name)) == PortVlans(VlanId(7))


def test_a_port_joins_a_foreign_bridge_without_its_vlan_1(vlan_kernel: None, box: BoxMaker) -> None:
    node = box("node")
    node.shell.ip("link add br0 type bridge vlan_filtering 1", "link set br0 up")
    port = port_of("uid1", bridge="br0")
    link = ensure_veth(node.ns, port, guest_in(box("guest")))
    assert link.up
    assert find_vlans(node.ns, link.index) == MUTED
    assert ensure_veth(node.ns, port, guest_in(box("other"), 2)).up
    assert find_vlans(node.ns, links.get_index(node.ns, port.name)) == MUTED


def test_a_bridge_loses_its_own_vlans_and_its_ports_keep_theirs(vlan_kernel: None, box: BoxMaker) -> None:
    switch = box("switch")
    bridge = ensure_bridge(switch.ns, _BRIDGE, vlan_aware=True)
    port = port_of("uid1", bridge=_BRIDGE)
    link = ensure_veth(switch.ns, port, guest_in(box("guest")))
    ensure_vlans(switch.ns, port.name, PortVlans(VlanId(7)))
    assert not clear_bridge(switch.ns, _BRIDGE)
    switch.shell.bridge(f"vlan add vid 1 dev {_BRIDGE} pvid untagged self", f"vlan add vid 5-7 dev {_BRIDGE} self")
    assert find_vlans(switch.ns, bridge.link.index) != MUTED
    assert clear_bridge(switch.ns, _BRIDGE)
    assert list_vlans(switch.ns) == {link.index: PortVlans(VlanId(7))}
