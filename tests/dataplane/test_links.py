"""Deleting now, and discarding for later."""

from homeport_dataplane import links
from homeport_dataplane.veth import ensure_veth
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker, guest_in, port_of


def test_deleting_is_repeatable(switch: Box) -> None:
    switch.shell.ip("link add x0 type veth peer name x1")
    assert links.delete_link(switch.ns, "x0")
    assert not links.delete_link(switch.ns, "x0")
    assert switch.shell.links() == {"lo", BRIDGE}


def test_discarded_ports_are_nobodys_and_swept_together(switch: Box, box: BoxMaker) -> None:
    guests = [box(f"guest{at}") for at in range(3)]
    ports = [port_of(f"uid{at}") for at in range(3)]
    for at, (guest, port) in enumerate(zip(guests, ports, strict=True)):
        ensure_veth(switch.ns, port, guest_in(guest, at))
    assert links.discard(switch.ns, ports[0].name)
    assert links.discard(switch.ns, ports[1].name)
    assert links.discard(switch.ns, ports[1].name)
    assert list(links.list_ports(switch.ns)) == [ports[2].name]
    assert links.sweep(switch.ns) == 2
    assert links.sweep(switch.ns) == 0
    assert switch.shell.links() == {"lo", BRIDGE, ports[2].name}
    assert [guest.shell.links() for guest in guests] == [{"lo"}, {"lo"}, {"lo", "eth1"}]
    assert not links.discard(switch.ns, ports[0].name)


def test_a_sweep_spares_a_foreign_link_in_the_same_group(switch: Box) -> None:
    switch.shell.ip(
        "link add mine type veth peer name mine-peer",
        "link add theirs type bridge",
        f"link set theirs group {links.DISCARDED_GROUP}",
    )
    links.discard(switch.ns, "mine")
    assert links.sweep(switch.ns) == 1
    assert switch.shell.links() == {"lo", BRIDGE, "theirs"}


def test_a_link_is_read_as_iproute2_shows_it(switch: Box) -> None:
    switch.shell.ip(
        "link add p0 mtu 1400 address 02:00:00:00:00:01 type veth peer name p1",
        f"link set p0 master {BRIDGE} up alias hello",
    )
    link, other = links.find_link(switch.ns, "p0"), links.find_link(switch.ns, "p1")
    assert link is not None and other is not None
    shown = next(each for each in switch.shell.show("-d", "link") if each["ifname"] == "p0")
    assert (link.index, link.mtu, link.mac) == (shown["ifindex"], 1400, "02:00:00:00:00:01")
    assert (link.kind, link.slave_kind, link.alias, link.up, link.carrier) == ("veth", "bridge", "hello", True, False)
    assert (link.parent, other.parent) == (other.index, link.index)
    assert links.find_index(switch.ns, link.index) == link
    assert link in links.list_links(switch.ns)
    assert links.find_link(switch.ns, "absent") is None
