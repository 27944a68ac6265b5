"""Namespaces are made, wired, asked and gone."""

import socket
from collections.abc import Callable

import pytest

from homeport_netns_fixtures.netns import CommandFailed, Namespace, create

MakeNamespace = Callable[[str], Namespace]


def test_two_namespaces_reach_each_other_over_a_veth(netns: MakeNamespace) -> None:
    left, right = netns("left"), netns("right")
    left.ip(f"link add eth0 type veth peer name eth0 netns {right.name}", "address add 192.0.2.1/24 dev eth0")
    right.ip("address add 192.0.2.2/24 dev eth0", "link set eth0 up")
    left.ip("link set eth0 up")
    left.wait_ping("192.0.2.2")
    assert left.links() == {"lo", "eth0"}
    assert not left.pings("192.0.2.3", wait=1)


def test_a_socket_stays_where_it_was_opened(netns: MakeNamespace) -> None:
    inside = netns("inside")
    inside.ip("address add 192.0.2.7/32 dev lo")
    with inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("192.0.2.7", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside, pytest.raises(OSError, match="assign"):
        outside.bind(("192.0.2.7", 0))


def test_a_deleted_namespace_is_gone_and_may_be_deleted_again(netns: MakeNamespace) -> None:
    namespace = create("brief")
    assert namespace.exists
    namespace.delete()
    assert not namespace.exists
    namespace.delete()


def test_a_refused_command_tells_what_the_kernel_said(netns: MakeNamespace) -> None:
    with pytest.raises(CommandFailed, match="Cannot find device"):
        netns("ns").ip("link set nothing up")
