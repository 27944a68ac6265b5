"""A tap that somebody has open, moved into the switch and back, while frames go through it."""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from homeport_api.errors import Conflict, NotAllowed, NotFound
from homeport_dataplane import links, tap
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.guest import GuestConfig, configure_guest
from homeport_dataplane.veth import ensure_veth
from homeport_netns_fixtures.capture import Capture
from tests.dataplane.conftest import Box, BoxMaker, guest_in, port_of

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x2, 0x1000
_FRAME = bytes.fromhex("ffffffffffff02005e10000188b5") + b"homeport".ljust(46, b"\0")


@contextlib.contextmanager
def opened_tap(box: Box, name: str = "tap0") -> Iterator[int]:
    """A tap that this process opened by name, as a hypervisor does."""
    with box.shell.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_moved_in_open_and_back_under_its_own_name(switch: Box, box: BoxMaker) -> None:
    node, guest = box("node"), box("guest")
    port = port_of("uid1", origin="tap0")
    ensure_veth(switch.ns, port_of("uid2"), guest_in(guest))
    configure_guest(guest.ns, "eth1", GuestConfig())
    with opened_tap(node) as descriptor:
        assert [holder.pid for holder in tap.find_holders(node.ns, "tap0")] == [os.getpid()]
        link = tap.ensure_tap(node.ns, switch.ns, port)
        assert [holder.pid for holder in tap.find_holders(switch.ns, port.name)] == [os.getpid()]
        assert (link.name, link.kind, link.mark, link.mac, link.up) == (port.name, "tun", port.mark, port.mac, True)
        assert node.shell.links() == {"lo"}
        assert tap.ensure_tap(node.ns, switch.ns, port) == link

        with Capture(guest.shell, "eth1") as seen:
            os.write(descriptor, _FRAME)
            seen.wait(lambda frame: frame.data == _FRAME)

        back = tap.return_tap(switch.ns, node.ns, port.name)
        assert back is not None
        assert (back.name, back.mark, back.master, back.up) == ("tap0", None, None, False)
        assert links.find_link(switch.ns, port.name) is None
        assert tap.return_tap(switch.ns, node.ns, port.name) is None
        assert tap.ensure_tap(node.ns, switch.ns, port).name == port.name
    assert links.find_link(switch.ns, port.name) is None


def test_a_tap_that_nobody_has_open_is_refused_with_the_remedy(switch: Box, box: BoxMaker) -> None:
    node = box("node")
    node.shell.ip("tuntap add dev idle0 mode tap")
    with pytest.raises(NotAllowed, match="nobody has tap idle0 open: start the hypervisor"):
        tap.ensure_tap(node.ns, switch.ns, port_of("uid1", origin="idle0"))
    assert node.shell.links() == {"lo", "idle0"}


def test_anothers_tap_of_the_same_name_is_no_excuse(switch: Box, box: BoxMaker) -> None:
    node, other = box("node"), box("other")
    node.shell.ip("tuntap add dev tap0 mode tap")
    with opened_tap(other), pytest.raises(NotAllowed, match="nobody has tap tap0 open"):
        tap.ensure_tap(node.ns, switch.ns, port_of("uid1", origin="tap0"))


def test_other_links_are_refused(switch: Box, box: BoxMaker) -> None:
    node = box("node")
    node.shell.ip("link add br0 type bridge")
    with pytest.raises(NotFound, match="tap tap9 does not exist"):
        tap.ensure_tap(node.ns, switch.ns, port_of("uid1", origin="tap9"))
    with pytest.raises(NotAllowed, match="br0 is not a tap"):
        tap.ensure_tap(node.ns, switch.ns, port_of("uid1", origin="br0"))


def test_taps_of_two_users_may_share_a_name(switch: Box, box: BoxMaker) -> None:
    one, two = box("one"), box("two")
    with opened_tap(one), opened_tap(two):
        tap.ensure_tap(one.ns, switch.ns, port_of("uid1", origin="tap0"))
        tap.ensure_tap(two.ns, switch.ns, port_of("uid2", origin="tap0"))
        assert len(links.list_ports(switch.ns)) == 2


def test_a_name_taken_meanwhile_keeps_the_tap_where_it_is(switch: Box, box: BoxMaker) -> None:
    node = box("node")
    port = port_of("uid1", origin="tap0")
    with opened_tap(node):
        tap.ensure_tap(node.ns, switch.ns, port)
        node.shell.ip("link add tap0 type bridge")
        with pytest.raises(Conflict, match="another link named tap0"):
            tap.return_tap(switch.ns, node.ns, port.name)
        assert links.find_link(switch.ns, port.name) is not None


def test_a_return_cut_short_leaves_a_tap_that_says_whose_it_is(switch: Box, box: BoxMaker) -> None:
    """The node has a link of the port's name, and none can have that of this mark: the kernel refuses the move."""
    node = box("node")
    port = port_of("uid1", origin="tap0")
    node.shell.ip(f"link add {port.name} type bridge")
    with opened_tap(node) as descriptor:
        tap.ensure_tap(node.ns, switch.ns, port)
        switch.shell.ip(f"link set {port.name} alias {replace(port.mark, origin='a/b')}")
        with pytest.raises(KernelRefused, match="moving tap"):
            tap.return_tap(switch.ns, node.ns, port.name)
        left = links.find_link(switch.ns, port.name)
        assert left is not None
        assert left.mark == replace(port.mark, origin="a/b")
        assert (left.up, left.master) == (False, None)

        switch.shell.ip(f"link set {port.name} alias {port.mark}")
        switch.shell.ip(f"link set {port.name} netns {node.shell.name} name tap0")
        assert [(name, mark) for name, (_, mark) in links.list_ports(node.ns).items()] == [("tap0", port.mark)]
        back = tap.finish_return(node.ns, "tap0")
        assert back is not None
        assert (back.name, back.alias) == ("tap0", "")
        assert tap.finish_return(node.ns, "tap0") == back
        os.fstat(descriptor)
    assert tap.finish_return(node.ns, "tap0") is None


def test_what_a_hand_changed_is_set_right(switch: Box, box: BoxMaker) -> None:
    node = box("node")
    port = port_of("uid1", origin="tap0")
    with opened_tap(node):
        first = tap.ensure_tap(node.ns, switch.ns, port)
        switch.shell.ip(f"link set {port.name} nomaster")
        assert tap.ensure_tap(node.ns, switch.ns, port) == first
