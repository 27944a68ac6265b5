"""Uplinks fail over, flap, come late and come back; the untagged Network moves inside when its VLAN ID is wanted."""

import pytest

from homeport_netns_fixtures.capture import RARP, Capture, send
from homeport_netns_fixtures.topology import ALL_OTHER_VLANS, Node
from homeport_netns_fixtures.topology import BRIDGE as SWITCH_BRIDGE

from .lan import Lan, body, frame, ping, wait_until

A_MOMENT = 40
"""Echo requests of the steady ping: two seconds."""


def active_member(node: Node) -> int:
    (bond,) = [link for link in node.namespace.show("-d", "link") if link["ifname"] == "bond0"]
    return int(bond["linkinfo"]["info_data"]["active_slave"].removeprefix("eth")) - 1


@pytest.mark.parametrize("target", ["blue3", "office2", "trunk2"])
def test_a_bond_that_loses_its_active_member_loses_a_moment(lan: Lan, target: str) -> None:
    source = {"blue3": "blue1", "office2": "office1", "trunk2": "trunk1"}[target]
    dead = active_member(lan.b)
    with lan.steady_ping(source, target) as steady:
        lan.world.unplug(lan.b, dead)
        wait_until(lambda: active_member(lan.b) != dead, "the other member is active")
    lan.world.plug(lan.b, dead)
    assert steady.lost <= A_MOMENT


def test_an_uplink_that_flaps_carries_the_same_vlans_again(lan: Lan) -> None:
    vlans = lan.vlans(lan.b)
    for _ in range(2):
        for nic in (0, 1):
            lan.world.unplug(lan.b, nic)
        wait_until(lambda: not ping(lan["blue1"], lan["blue3"].address, wait=1), "without a cable there is no way")
        for nic in (0, 1):
            lan.world.plug(lan.b, nic)
        for source, target in (("blue1", "blue3"), ("office1", "office2"), ("trunk1", "trunk2")):
            wait_until(lambda s=source, t=target: ping(lan[s], lan[t].address), f"{source} reaches {target} again")
    assert lan.vlans(lan.b) == vlans


def test_an_uplink_that_is_set_down_and_up_by_hand_is_used_again(lan: Lan) -> None:
    vlans = lan.vlans(lan.b)
    lan.b.namespace.ip("link set bond0 down")
    lan.b.namespace.ip("link set bond0 up")
    for source, target in (("blue1", "blue3"), ("office1", "office2")):
        wait_until(lambda s=source, t=target: ping(lan[s], lan[t].address), f"{source} reaches {target} again")
    assert lan.vlans(lan.b) == vlans


def test_an_uplink_may_come_late_and_come_back(lan: Lan) -> None:
    def plug_in() -> None:
        lan.world.switch.ip(
            f"link add p-late type veth peer name eth9 netns {lan.a.namespace.name}",
            f"link set p-late master {SWITCH_BRIDGE} up",
        )
        lan.world.switch.bridge(f"vlan add vid {ALL_OTHER_VLANS} dev p-late")
        lan.a.namespace.ip("link set eth9 up")

    outside = lan.world.outside("late", "10.42.0.200/24", vlan=42)
    lan.apply("late", uplink="eth9", vlan=42, pool="10.42.0.0/24")
    with lan.unattached(lan.a) as namespace:
        answer = lan.cni("ADD", lan.a, "late", "early-bird", namespace)
        assert answer.error == 105
        assert "eth9" in answer.result["msg"]
    lan.wait_report(lan.a, "late", lambda report: not report.ready and "eth9" in report.reason, "a lacks eth9")
    plug_in()
    lan.wait_report(lan.a, "late", lambda report: report.ready, "a has eth9")
    guest = lan.attach(lan.a, "late1", "late", "10.42.0.11")
    outside.wait_ping("10.42.0.11")
    lan.a.namespace.ip("link delete eth9")
    lan.wait_report(lan.a, "late", lambda report: not report.ready, "eth9 is gone")
    plug_in()
    lan.wait_report(lan.a, "late", lambda report: report.ready, "eth9 is back")
    outside.wait_ping("10.42.0.11")
    lan.detach(guest)
    lan.delete_network("late")
    lan.world.switch.ip("link delete p-late")


def test_the_untagged_network_makes_way_for_a_network_with_its_inner_vlan(lan: Lan) -> None:
    """4094 stands for "untagged" inside the switch until a Network wants it; the two never meet."""
    before = lan.vlans(lan.a)
    office = lan["office1"]
    assert before[office.port] == {(4094, 1, 1)}
    with lan.steady_ping("office1", "office2") as steady:
        lan.apply("top", vlan=4094, pool="10.94.0.0/24")
        # At once: whatever the nodes have done by now, no frame may cross.
        top1, top2 = (lan.attach(node, f"top-{node.name}", "top") for node in (lan.a, lan.b))
        with lan.wires() as wires, Capture(office.namespace, "eth0") as heard, Capture(top1.namespace, "eth0") as top:
            of_top, of_office = frame(RARP, source=top2.mac), frame(RARP, source=lan["office2"].mac)
            send(top2.namespace, "eth0", of_top)
            send(lan["office2"].namespace, "eth0", of_office)
            assert wires.wait_sent(lan.b, of_top).tags == ((0x8100, 4094),)
            assert wires.wait_sent(lan.b, of_office).tags == ()
            top.wait(lambda each: body(each.data) == body(of_top))
            heard.wait(lambda each: body(each.data) == body(of_office))
            assert not heard.matching(lambda each: body(each.data) == body(of_top))
            assert not top.matching(lambda each: body(each.data) == body(of_office))
        assert lan.vlans(lan.a)[office.port] == {(4093, 1, 1)}
    assert steady.lost <= 2 * A_MOMENT
    for guest in (top1, top2):
        lan.detach(guest)
    lan.delete_network("top")
    wait_until(lambda: lan.vlans(lan.a) == before, "back to 4094")
    wait_until(lambda: ping(office, lan["office2"].address), "office1 reaches office2")
