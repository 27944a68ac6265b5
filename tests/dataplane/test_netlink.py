"""The codec on any bytes, and sockets that stay in the namespace they were made in."""

import errno
import threading
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport_dataplane import guest, links, netlink
from homeport_dataplane.errors import KernelRefused
from homeport_dataplane.netlink import Request, attribute, attribute_map, attributes, messages
from homeport_dataplane.netns import entered
from tests.dataplane.conftest import BRIDGE, Box, BoxMaker


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_are_read_back_as_written(written: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(kind, value) for kind, value in written))) == written


@given(st.binary(max_size=200), st.integers(0, 20))
def test_any_bytes_are_read_to_an_end(data: bytes, offset: int) -> None:
    assert sum(4 + len(value) for _, value in attributes(data, offset)) <= len(data)
    assert sum(16 + len(body) for *_, body in messages(data)) <= len(data)
    for _, value in attributes(data):
        attribute_map(value)


def test_an_attribute_is_padded_and_its_length_is_not() -> None:
    assert attribute(3, b"eth0\0") == b"\x09\x00\x03\x00eth0\x00\x00\x00\x00"


def test_a_pooled_socket_keeps_its_namespace_in_another_thread(switch: Box) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.extend(link.name for link in links.list_links(switch.ns))

    with switch.ns.netlink() as socket:
        first = id(socket)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    with switch.ns.netlink() as socket:
        assert id(socket) == first
    assert sorted(seen) == [BRIDGE, "lo"]


def test_the_kernels_own_words_reach_the_error(switch: Box) -> None:
    index = links.get_index(switch.ns, BRIDGE)
    with switch.ns.netlink() as socket, pytest.raises(KernelRefused) as refused:
        socket.request(links.set_link("setting an MTU", index, netlink.u32(links.MTU, 1)))
    assert refused.value.errno == errno.EINVAL
    assert str(refused.value) == "setting an MTU: Invalid argument (EINVAL): mtu less than device minimum"


def test_a_refused_request_leaves_the_socket_usable(switch: Box) -> None:
    with switch.ns.netlink() as socket:
        answers, refusals = socket.attempt(
            links.get_link("absent"), links.get_link("lo"), Request("nonsense", 4000, b""), links.get_link(BRIDGE)
        )
        assert [links.read_link(answer.body).name for answer in answers] == ["lo", BRIDGE]
        assert {at: refusal.errno for at, refusal in refusals.items()} == {0: errno.ENODEV, 2: errno.EOPNOTSUPP}
        assert len(socket.request(links.get_link("lo"))) == 1


def test_a_dump_is_whole_while_links_come_and_go(box: BoxMaker) -> None:
    node = box("node")
    node.shell.ip(*(f"link add s{at} type bridge" for at in range(60)))
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            node.shell.ip("link add c0 type veth peer name c1", "link del c0")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            names = {link.name for link in links.list_links(node.ns)}
            assert {f"s{at}" for at in range(60)} <= names
    finally:
        stop.set()
        thread.join()


def test_entering_is_undone_even_by_an_error(box: BoxMaker) -> None:
    outer, inner = box("outer"), box("inner")
    outer.shell.ip("link add out0 type bridge")
    inner.shell.ip("link add in0 type bridge")

    def here() -> set[str]:
        sock = netlink.NetlinkSocket()
        try:
            request = Request("listing links", links.GETLINK, links.link_body())
            return {links.read_link(reply.body).name for reply in sock.dump(request)}
        finally:
            sock.close()

    before = here()
    with entered(outer.ns):
        with pytest.raises(ZeroDivisionError), entered(inner.ns):
            assert here() == {"lo", "in0"}
            _ = 1 // 0
        assert here() == {"lo", "out0"}
    assert here() == before


def test_addresses_are_those_of_the_namespace(box: BoxMaker) -> None:
    one, two = box("one"), box("two")
    one.shell.ip("address add 192.0.2.1/24 dev lo")
    listed = [address for each in guest.list_addresses(one.ns).values() for address in each]
    assert ip_interface("192.0.2.1/24") in listed
    assert all(ip_interface("192.0.2.1/24") not in each for each in guest.list_addresses(two.ns).values())
