"""A port into a guest's namespace: made with both ends in place, and made again only where it is not right."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from homeport_api.errors import AlreadyExists, UplinkUnusable
from homeport_dataplane import links
from homeport_dataplane.bridge import ensure_bridge
from homeport_dataplane.veth import ensure_veth
from homeport_netns_fixtures.capture import Capture, send
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker, guest_in, port_of


def test_both_ends_are_as_asked_for(switch: Box, box: BoxMaker) -> None:
    guest = box("guest")
    port = port_of("uid1", mtu=1450)
    link = ensure_veth(switch.ns, port, guest_in(guest, 7))
    assert (link.name, link.mac, link.mtu, link.mark, link.up) == (port.name, port.mac, 1450, port.mark, True)
    assert not link.ipv6
    shown = next(each for each in switch.shell.show("-d", "link") if each["ifname"] == port.name)
    assert (shown["master"], shown["inet6_addr_gen_mode"]) == (BRIDGE, "none")
    (inside,) = [each for each in guest.shell.show("link") if each["ifname"] == "eth1"]
    assert (inside["address"], inside["mtu"]) == ("02:00:5e:10:00:07", 1450)
    assert guest.shell.links() == {"lo", "eth1"}


def test_a_repeat_changes_nothing(switch: Box, box: BoxMaker) -> None:
    guest = guest_in(box("guest"))
    first = ensure_veth(switch.ns, port_of("uid1"), guest)
    assert ensure_veth(switch.ns, port_of("uid1"), guest) == first


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("link set {port} down", id="down"),
        pytest.param("link set {port} nomaster", id="off its bridge"),
        pytest.param("link set {port} alias other", id="alias"),
        pytest.param("link set {port} address 02:00:00:00:00:09", id="MAC"),
        pytest.param("link set {port} mtu 1300", id="MTU"),
        pytest.param("link set {port} master other", id="on another bridge"),
    ],
)
def test_what_a_hand_changed_is_set_right_in_place(switch: Box, box: BoxMaker, damage: str) -> None:
    guest = guest_in(box("guest"))
    port = port_of("uid1")
    first = ensure_veth(switch.ns, port, guest)
    switch.shell.ip("link add other type bridge", damage.format(port=port.name))
    assert links.find_link(switch.ns, port.name) != first
    healed = ensure_veth(switch.ns, port, guest)
    assert (healed.index, healed.master, healed.mark, healed.mac, healed.mtu, healed.up) == (
        first.index, first.master, first.mark, first.mac, first.mtu, True,
    )  # fmt: skip


def test_a_foreign_link_of_the_guests_name_is_refused(switch: Box, box: BoxMaker) -> None:
    guest = box("guest")
    guest.shell.ip("link add eth1 type bridge")
    with pytest.raises(AlreadyExists, match="eth1 exists already"):
        ensure_veth(switch.ns, port_of("uid1"), guest_in(guest))
    assert switch.shell.links() == {"lo", BRIDGE}


def test_another_port_of_ours_in_the_guests_name_is_refused(switch: Box, box: BoxMaker) -> None:
    guest = box("guest")
    ensure_veth(switch.ns, port_of("uid1"), guest_in(guest))
    with pytest.raises(AlreadyExists, match="eth1 exists already"):
        ensure_veth(switch.ns, port_of("uid2"), guest_in(guest))


def test_attached_again_while_the_former_port_waits_for_its_deletion(switch: Box, box: BoxMaker) -> None:
    guest = box("guest")
    old, new = port_of("uid1", epoch=1), port_of("uid1", epoch=2)
    ensure_veth(switch.ns, old, guest_in(guest))
    links.discard(switch.ns, old.name)
    ensure_veth(switch.ns, new, guest_in(guest))
    assert list(links.list_ports(switch.ns)) == [new.name]
    links.discard(switch.ns, new.name)
    ensure_veth(switch.ns, new, guest_in(guest))
    assert list(links.list_ports(switch.ns)) == [new.name]
    assert guest.shell.links() == {"lo", "eth1"}


def test_a_port_that_leads_elsewhere_is_made_anew(switch: Box, box: BoxMaker) -> None:
    before, after = box("before"), box("after")
    port = port_of("uid1")
    ensure_veth(switch.ns, port, guest_in(before))
    ensure_veth(switch.ns, port, guest_in(after))
    assert (before.shell.links(), after.shell.links()) == ({"lo"}, {"lo", "eth1"})


def test_a_missing_bridge_is_named(switch: Box, box: BoxMaker) -> None:
    guest = box("guest")
    with pytest.raises(UplinkUnusable, match="bridge hpb-gone does not exist"):
        ensure_veth(switch.ns, port_of("uid1", bridge="hpb-gone"), guest_in(guest))
    assert guest.shell.links() == {"lo"}


def test_a_bridge_of_the_node_is_joined_without_ipv6(box: BoxMaker) -> None:
    """No switch settings there: the port alone is made silent."""
    node, guest = box("node"), box("guest")
    node.shell.ip("link add br0 type bridge", "link set br0 up")
    link = ensure_veth(node.ns, port_of("uid1", bridge="br0"), guest_in(guest))
    assert not link.ipv6
    assert node.ns.read_sysctl(f"ipv6/conf/{link.name}/disable_ipv6") == "1"
    assert [
        each["local"]
        for entry in node.shell.show("address")
        for each in entry["addr_info"]
        if entry["ifname"] == link.name
    ] == []


def test_two_switches_do_not_mistake_each_others_ports(box: BoxMaker) -> None:
    """Link indices repeat in every namespace."""
    one, two, guest = box("one"), box("two"), box("guest")
    for each in (one, two):
        ensure_bridge(each.ns, BRIDGE, vlan_aware=False)
    ensure_veth(one.ns, port_of("uid1"), guest_in(guest))
    with pytest.raises(AlreadyExists):
        ensure_veth(two.ns, port_of("uid1"), guest_in(guest))


def test_the_nodes_own_port_on_a_bridge_of_the_node(box: BoxMaker) -> None:
    """Both ends in one namespace, as `attach --host` makes them there."""
    node = box("node")
    node.shell.ip("link add br0 type bridge", "link set br0 up")
    port = port_of("uid1", bridge="br0")
    first = ensure_veth(node.ns, port, guest_in(node, name="own0"))
    assert ensure_veth(node.ns, port, guest_in(node, name="own0")) == first
    assert node.shell.links() == {"lo", "br0", port.name, "own0"}


def test_a_new_port_says_nothing_by_itself(switch: Box, box: BoxMaker) -> None:
    """No router solicitation, no MLD report: a switch would learn a MAC that nobody may see."""
    guest = box("guest")
    guest.ns.ensure_sysctl("ipv6/conf/all/disable_ipv6", "1")
    switch.shell.ip("link add p0 type veth peer name p1", f"link set p0 master {BRIDGE} up", "link set p1 up")
    with Capture(switch.shell, "p1") as seen:
        for epoch in range(3):
            port = port_of("uid1", epoch=epoch)
            ensure_veth(switch.ns, port, guest_in(guest, name=f"eth{epoch}"))
            guest.shell.ip(f"link set eth{epoch} up")
        control = bytes.fromhex("ffffffffffff02005e10000188b5") + bytes(46)
        send(guest.shell, "eth0", control)
        seen.wait(lambda frame: frame.data == control)
        assert [frame.data for frame in seen if not frame.outgoing] == [control]


def test_32_threads_at_once(switch: Box, box: BoxMaker) -> None:
    """As many as the agent has workers: each its own guest, one name for all of their links."""
    guests = [box(f"guest{at}") for at in range(8)]
    ports = [port_of(f"uid{at}") for at in range(64)]

    def attach(at: int) -> None:
        end = guest_in(guests[at % 8], at, name=f"eth{at // 8}")
        for _ in range(2):
            ensure_veth(switch.ns, ports[at], end)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(attach, range(64)))
    found = links.list_ports(switch.ns)
    assert {name: mark for name, (_, mark) in found.items()} == {port.name: port.mark for port in ports}
    assert all(len(guest.shell.links()) == 9 for guest in guests)
