"""Desired against actual, as values."""

from dataclasses import replace

import pytest

from homeport_agent.placement import Place, Placement
from homeport_agent.ports import Port, Rights
from homeport_agent.reconcile import Mute, Reguard, Remove, Reopen, Replug, SeenPort, Step, diff
from homeport_api.addresses import MacAddress, MacDomain, VlanId
from homeport_api.attachment import AttachmentKey, Nic
from homeport_api.interface import InterfaceKey
from homeport_dataplane.marks import PortMark
from homeport_dataplane.vlan import MUTED, PortVlans

MAC = MacAddress("02:00:00:00:00:01")
NIC = Nic(InterfaceKey("shop", "web-eth0"), "uid-1", 3, "blue", "eth0", "", mac=MAC)
VLANS = PortVlans(VlanId(100))
PORT = Port(
    "hp1",
    AttachmentKey("n1", "homeport", "blue", "c1", "eth0"),
    NIC,
    Placement(Place.SWITCH, MacDomain("bond0"), "bond0", True, VLANS, False, 1500),
    PortMark(NIC.interface, NIC.uid, NIC.epoch),
    MAC,
    Rights(),
    None,
)
PLAIN = replace(PORT, placement=replace(PORT.placement, filtering=False, port=PortVlans()))
SEEN = SeenPort("hp1", "hpb-bond0", PORT.mark, True, VLANS, True, True, True)


@pytest.mark.parametrize(
    ("port", "seen", "expected"),
    [
        pytest.param(PORT, SEEN, [], id="as it should be"),
        pytest.param(PORT, None, [Replug(PORT, "the port is gone")], id="gone"),
        pytest.param(PORT, replace(SEEN, bridge=""), [Replug(PORT, "the port is on no bridge")], id="nomaster"),
        pytest.param(PORT, replace(SEEN, bridge="br0"), [Replug(PORT, "the port is on br0")], id="other bridge"),
        pytest.param(PORT, replace(SEEN, up=False), [Replug(PORT, "the port is down")], id="down"),
        pytest.param(PORT, replace(SEEN, vlans=MUTED), [Reopen(PORT, "its VLANs are none")], id="vlan deleted"),
        pytest.param(
            PORT,
            replace(SEEN, vlans=PortVlans(VlanId(1))),
            [Reopen(PORT, "its VLANs are 1 untagged")],
            id="moved to another vlan",
        ),
        pytest.param(PLAIN, replace(SEEN, vlans=MUTED), [], id="no filtering, no vlans"),
        pytest.param(PORT, replace(SEEN, guarded=False), [Reguard(PORT)], id="unguarded"),
        pytest.param(PORT, replace(SEEN, speaking=False), [Reopen(PORT, "its guard rules are gone")], id="silenced"),
    ],
)
def test_each_difference_has_its_step(port: Port, seen: SeenPort | None, expected: list[Step]) -> None:
    assert diff({"hp1": port}, {"hp1": seen} if seen else {}, {"hp1": "hpb-bond0"}) == expected


def test_strangers_go_first() -> None:
    stray = replace(SEEN, name="hp0")
    assert diff({"hp1": PORT}, {"hp0": stray}, {"hp1": "hpb-bond0"}) == [
        Remove("hp0"),
        Replug(PORT, "the port is gone"),
    ]


def test_a_port_whose_interface_moved_on_is_silenced_before_others_are_opened() -> None:
    other = replace(PORT, name="hp2")
    steps = diff({"hp1": PORT, "hp2": other}, {"hp1": SEEN}, {"hp1": "hpb-bond0", "hp2": "hpb-bond0"}, lost={"hp1"})
    assert steps == [Mute(PORT), Replug(other, "the port is gone")]
    silent = replace(SEEN, vlans=MUTED, speaking=False)
    assert diff({"hp1": PORT}, {"hp1": silent}, {"hp1": "hpb-bond0"}, lost={"hp1"}) == []
    assert diff({"hp1": PORT}, {}, {"hp1": "hpb-bond0"}, lost={"hp1"}) == []
