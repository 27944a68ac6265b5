"""Uplinks as nodes have them: missing, late, carrying the node, taken, too small; and bridges that others made."""

import os
import threading
from collections.abc import Iterator

import pytest

from homeport_api.interface import InterfaceKey
from homeport_api.node import NodeReport
from homeport_dataplane.links import DISCARDED_GROUP
from homeport_dataplane.marks import DISCARDED, PortMark
from homeport_netns_fixtures.capture import RARP, Capture, send
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import World

from .lab import Lab, flood, wait_until


@pytest.fixture
def node(lab: Lab) -> Iterator[Namespace]:
    """The node's namespace, whose links besides its NIC go after the test."""
    yield lab.node.namespace
    if not lab.plain:
        lab.restart()
    lab.clear()
    for link in lab.node.namespace.show("link"):
        if link["ifname"] not in ("lo", "eth1"):
            lab.node.namespace.run("ip", "link", "delete", link["ifname"], check=False)
    lab.node.namespace.ip("address flush dev eth1")


def report(lab: Lab, network: str) -> NodeReport | None:
    return next((report for report in lab.objects.reports() if report.network == network), None)


def test_guests_reach_the_wire_through_an_uplink(lab: Lab, world: World, node: Namespace) -> None:
    lab.apply("office", "192.0.2.0/24", uplink="eth1")
    outside = world.outside("printer", "192.0.2.9/24")
    guest = lab.guest()
    address = lab.added("c1", guest, network="office")[0].split("/")[0]
    guest.wait_ping("192.0.2.9")
    outside.wait_ping(address)
    assert lab.call("CHECK", "c1", guest, network="office").exit_code == 0
    with flood(guest, "192.0.2.9") as ping:
        node.nft("flush ruleset\n")
        lab.restart()
    assert ping.lost == 0 < ping.sent


def test_an_uplink_that_appears_later_is_used_then_and_comes_back(lab: Lab, node: Namespace) -> None:
    lab.apply("late", "192.0.2.0/24", uplink="nic7")
    guest = lab.guest()
    answer = lab.add("c1", guest, network="late")
    assert answer.error == 105
    assert "nic7" in answer.result["msg"]
    wait_until(lambda: (found := report(lab, "late")) is not None and not found.ready, "reported as not ready")
    node.ip("link add nic7 type veth peer name far7", "link set far7 up", "link set nic7 up")
    wait_until(lambda: (found := report(lab, "late")) is not None and found.ready, "reported as ready")
    address = lab.added("c1", guest, network="late")[0]
    node.ip("link delete nic7")
    wait_until(lambda: (found := report(lab, "late")) is not None and not found.ready, "the cable is gone")
    assert len(lab.ports()) == 1, "its guest stays plugged"
    node.ip("link add nic7 type veth peer name far7", "address add 192.0.2.254/24 dev far7", "link set far7 up")
    wait_until(lambda: "hpu-nic7" in lab.node.switch.links(), "the uplink is back in the switch")
    guest.wait_ping("192.0.2.254")
    assert lab.added("c1", guest, network="late")[0] == address


def test_an_uplink_that_carries_the_node_is_refused_until_the_remedy(lab: Lab, node: Namespace) -> None:
    node.ip("address add 198.51.100.2/24 dev eth1")
    lab.apply("office", "192.0.2.0/24", uplink="eth1")
    guest = lab.guest()
    answer = lab.add("c1", guest, network="office")
    assert answer.error == 105
    assert "ip link add" in answer.result["msg"] + answer.result.get("details", ""), answer
    assert "eth1" in answer.result["msg"]
    wait_until(lambda: (found := report(lab, "office")) is not None and not found.ready, "reported as not ready")
    assert {address["local"] for link in node.show("address") for address in link["addr_info"]} >= {"198.51.100.2"}
    node.ip("address delete 198.51.100.2/24 dev eth1")
    assert lab.add("c1", guest, network="office").exit_code == 0
    wait_until(lambda: (found := report(lab, "office")) is not None and found.ready, "reported as ready")


def test_an_uplink_that_another_macvlan_took_is_refused(lab: Lab, node: Namespace) -> None:
    node.ip("link add nic8 type veth peer name far8", "link add link nic8 name theirs type macvlan mode passthru")
    lab.apply("taken", "192.0.2.0/24", uplink="nic8")
    answer = lab.add("c1", lab.guest(), network="taken")
    assert answer.error == 105
    assert "nic8" in answer.result["msg"]
    lab.require_clean(ports=0)
    assert lab.attachments() == set()


def test_an_mtu_over_the_uplinks_is_refused_and_its_own_is_the_guests(lab: Lab, node: Namespace) -> None:
    node.ip("link add nic9 mtu 1400 type veth peer name far9 mtu 1400")
    lab.apply("jumbo", "192.0.2.0/24", uplink="nic9", mtu=9000)
    answer = lab.add("c1", lab.guest(), network="jumbo")
    assert answer.error == 106
    assert "9000" in answer.result["msg"]
    assert "1400" in answer.result["msg"]
    lab.apply("plain", "192.0.3.0/24", uplink="nic9")
    lab.objects.networks.delete(lab.objects.networks.get("jumbo"))
    guest = lab.guest("plain")
    lab.added("c2", guest, network="plain")
    assert next(link["mtu"] for link in guest.show("link") if link["ifname"] == "eth0") == 1400


def test_long_names_become_bridges_all_the_same(lab: Lab, node: Namespace) -> None:
    node.ip("link add abcdefghijklmno type veth peer name far")
    lab.apply("a-network-with-a-name-that-no-link-could-have", "192.0.2.0/24", uplink="abcdefghijklmno")
    lab.apply("an-isolated-network-with-a-name-as-long", "192.0.3.0/24")
    lab.added("c1", lab.guest("one"), network="a-network-with-a-name-that-no-link-could-have")
    lab.added("c2", lab.guest("two"), network="an-isolated-network-with-a-name-as-long")
    assert all(len(link) <= 15 for link in lab.node.switch.links())
    lab.require_clean(ports=2)


def settings(node: Namespace, bridge: str) -> dict[str, object]:
    """All that is set on a bridge, its address included, but no running timer."""
    link = next(link for link in node.show("-d", "link") if link["ifname"] == bridge)
    data = {name: value for name, value in link["linkinfo"]["info_data"].items() if not name.endswith("timer")}
    return {"mac": link["address"], "mtu": link["mtu"], "promiscuity": link["promiscuity"], **data}


def test_a_bridge_that_others_made_is_joined_and_left_as_it_was(lab: Lab, world: World, node: Namespace) -> None:
    node.ip(
        "link add br7 type bridge", "link set eth1 master br7", "address add 192.0.2.1/24 dev br7", "link set br7 up"
    )
    outside = world.outside("peer", "192.0.2.9/24")
    node.wait_ping("192.0.2.9")
    before = settings(node, "br7")
    lab.apply("house", "192.0.2.0/24", uplink="br7", gateway4="192.0.2.1")
    guest, other = lab.guest("one"), lab.guest("two")
    table = lab.node.switch.name.replace("-", "_")
    with flood(node, "192.0.2.9") as ping:
        address = lab.added("c1", guest, network="house")[0].split("/")[0]
        lab.added("c2", other, network="house")
        guest.wait_ping("192.0.2.9")
        guest.wait_ping("192.0.2.1")
        outside.wait_ping(address)
        assert lab.call("CHECK", "c1", guest, network="house").exit_code == 0
        assert len(lab.ports(node)) == 2
        node.nft("flush ruleset\n")
        wait_until(lambda: len(lab.elements(node, table).get("speaking", ())) == 2, "the guards are back")
        (port, *_) = lab.ports(node)
        node.ip(f"link delete {port}")
        wait_until(lambda: len(lab.ports(node)) == 2, "the port is back")
        lab.restart()
        assert lab.delete("c1", network="house").exit_code == 0
        wait_until(lambda: len(lab.ports(node)) == 1, "the port is gone")
        assert {
            len(members) for name, members in lab.elements(node, table).items() if name in ("ports", "speaking")
        } == {1}
    assert ping.lost == 0 < ping.sent
    assert settings(node, "br7") == before


def test_a_port_on_a_foreign_bridge_that_an_add_left_is_removed(lab: Lab, node: Namespace) -> None:
    node.ip("link add br7 type bridge", "link set br7 up")
    lab.apply("house", "192.0.2.0/24", uplink="br7")
    lab.restart(fault="add:opened=kill")
    guest = lab.guest()
    assert lab.add("c1", guest, network="house", vm="web").error == 11
    assert len(lab.ports(node)) == 1
    lab.node.agent.wait_exit()
    lab.start()
    wait_until(lambda: not lab.ports(node), "the stray port is gone")
    assert not any(lab.elements(node, lab.node.switch.name.replace("-", "_")).values())
    lab.added("c1", guest, network="house", vm="web")
    assert len(lab.ports(node)) == 1


UNLAWFUL = 0x88B5
"""An ethertype for experiments (IEEE 802), which no guest may send."""


def say(guest: Namespace, ethertype: int, link: str = "eth0") -> bytes:
    """A frame from the guest to everybody, unlike any other."""
    frame = b"\xff" * 6 + bytes.fromhex(guest.mac(link).replace(":", "")) + ethertype.to_bytes(2) + os.urandom(50)
    send(guest, link, frame)
    return frame


def wait_heard(heard: Capture, sender: Namespace, link: str = "eth0") -> None:
    """Until a lawful frame of the sender gets through."""
    sent: list[bytes] = []

    def through() -> bool:
        sent.append(say(sender, RARP, link))
        return bool(heard.matching(lambda frame: frame.data in sent))

    wait_until(through, "a lawful frame is heard")


def house(lab: Lab, node: Namespace) -> None:
    """A Network on a bridge of the node, which has `far` behind its port `near`: what is heard there got out."""
    node.ip(
        "link add br7 type bridge forward_delay 0",
        "link set br7 up",
        "link add near type veth peer name far",
        "link set near master br7",
        "link set near up",
        "link set far up",
    )
    lab.apply("house", "192.0.2.0/24", uplink="br7")


def test_a_port_on_a_foreign_bridge_is_guarded_before_it_is_there(lab: Lab, node: Namespace) -> None:
    house(lab, node)
    lab.restart(fault="add:wired=pause")
    guest = lab.guest()
    call = threading.Thread(target=lambda: lab.added("c1", guest, network="house"))
    with Capture(node, "far") as heard:
        call.start()
        lab.wait_fault()
        guest.ip("link set eth0 up")
        early = [say(guest, ethertype) for ethertype in (UNLAWFUL, RARP) for _ in range(20)]
        lab.resume()
        call.join()
        wait_heard(heard, guest)
        late = say(guest, UNLAWFUL)
        wait_heard(heard, guest)
        assert not heard.matching(lambda frame: frame.data in (*early, late))


def test_a_port_leaves_a_foreign_bridge_before_its_guards(lab: Lab, node: Namespace) -> None:
    house(lab, node)
    lab.restart(fault="del:unplugged=kill")
    guest = lab.guest()
    lab.added("c1", guest, network="house", vm="web")
    with Capture(node, "far") as heard:
        wait_heard(heard, guest)
        assert lab.delete("c1", network="house").error == 11
        assert lab.node.agent.wait_exit() == -9
        late = say(guest, UNLAWFUL) if "eth0" in guest.links() else b""
        node.ip("link add other type veth peer name last", "link set other master br7")
        node.ip("link set other up", "link set last up")
        wait_heard(heard, node, "last")
        assert not heard.matching(lambda frame: frame.data == late)
    assert not any(lab.elements(node, lab.node.switch.name.replace("-", "_")).values())
    lab.start()
    assert lab.delete("c1", network="house").exit_code == 0


def test_what_a_killed_agent_discarded_is_deleted_by_the_next(lab: Lab, node: Namespace) -> None:
    house(lab, node)
    lab.added("c1", lab.guest(), network="house", vm="web")
    (port,) = lab.ports(node)
    lab.kill()
    node.ip("link add hpleft type veth peer name left", f"link set hpleft alias {DISCARDED} group {DISCARDED_GROUP}")
    lab.start()
    wait_until(lambda: "hpleft" not in node.links(), "what was discarded is deleted")
    assert set(lab.ports(node)) == {port}


def test_a_stray_on_a_foreign_bridge_is_told_by_our_rules(lab: Lab, node: Namespace) -> None:
    """Its end is settled already, so the journal no longer names it."""
    house(lab, node)
    lab.added("c1", lab.guest(), network="house", vm="web")
    (port,) = lab.ports(node)
    table = lab.node.switch.name.replace("-", "_")
    theirs = PortMark(InterfaceKey("shop", "db-eth0"), "uid", 1)
    node.ip(*(f"link add {name} type veth peer name {name}p" for name in ("hpours", "hptheirs")))
    node.ip(*(f"link set {name} alias {theirs}" for name in ("hpours", "hptheirs")))
    node.nft(f"add element bridge {table} ports {{ hpours }}\n")
    wait_until(lambda: set(lab.ports(node)) == {port, "hptheirs"}, "the stray of ours is gone, another agent's stays")
    wait_until(lambda: len(lab.elements(node, table)["ports"]) == 1, "its elements are gone")


def test_what_guests_on_a_foreign_bridge_take_is_learned(lab: Lab, node: Namespace) -> None:
    node.ip("link add br7 type bridge forward_delay 0", "address add 192.0.2.254/24 dev br7", "link set br7 up")
    lab.apply("yard", None, uplink="br7")
    web, thief = lab.guest("web"), lab.guest("thief")
    for guest, vm in ((web, "web"), (thief, "thief")):
        assert lab.add(f"c-{vm}", guest, network="yard", vm=vm).exit_code == 0
    web.ip("address add 192.0.2.1/24 dev eth0")
    web.wait_ping("192.0.2.254")
    interface = lab.interface("web-eth0")
    assert interface is not None
    assert [str(each.address) for each in interface.status.learned] == ["192.0.2.1"]
    thief.ip("address add 192.0.2.2/24 dev eth0")
    thief.wait_ping("192.0.2.254")
    thief.ip("address add 192.0.2.1/32 dev eth0")
    assert not any(
        thief.run("ping", "-c", "1", "-W", "1", "-I", "192.0.2.1", "192.0.2.254", check=False).returncode == 0
        for _ in range(3)
    )
    assert web.pings("192.0.2.254"), "the node answers its owner"
