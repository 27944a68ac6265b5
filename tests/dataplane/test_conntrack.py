"""Real connections, the same in two zones, as the kernel tells them; one ended while its like goes on."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from homeport_api.errors import Unavailable
from homeport_dataplane import conntrack, netlink
from homeport_dataplane.conntrack import Conntrack, Flow
from homeport_dataplane.features import probe
from homeport_dataplane.netlink import NETFILTER, NetlinkSocket, Request, be16, be32, nest, netfilter_header
from homeport_dataplane.netns import Namespace
from homeport_netns_fixtures.capture import send
from tests.dataplane.conftest import Box, BoxMaker, wait_forwarding
from tests.dataplane.packets import ICMP, ICMPV6, SCTP, TCP, UDP, begin, ethernet, ip

_FROM4, _TO4, _FROM6, _TO6 = "192.0.2.7", "192.0.2.1", "2001:db8::7", "2001:db8::1"
_PROTOCOLS = ((4, TCP), (4, UDP), (4, SCTP), (4, ICMP), (6, TCP), (6, UDP), (6, SCTP), (6, ICMPV6))
_ZONES = (1, 65000)
_MARK = 0x80000007
_ANSWERS_NOTHING = "chain output { type filter hook output priority -400; drop; }; "
_SETS_ZONES = (
    "chain zones { type filter hook prerouting priority -300; "
    f'iifname "z1" ct zone set {_ZONES[0]}; iifname "z2" ct zone set {_ZONES[1]}; }}; '
    "chain tracked { type filter hook prerouting priority 0; "
    f"ct state new ct mark set {_MARK} accept; }}; "
)
_Told = tuple[int, str, str, int, int | None, int | None, int | None, int | None]


def expected(zone: int) -> set[_Told]:
    found: set[_Told] = set()
    for version, protocol in _PROTOCOLS:
        source, target = (_FROM4, _TO4) if version == 4 else (_FROM6, _TO6)
        if protocol in (ICMP, ICMPV6):
            found.add((zone, source, target, protocol, None, None, 8 if version == 4 else 128, 40000))
        else:
            found.add((zone, source, target, protocol, 40000, 443, None, None))
    return found


def told(flow: Flow) -> _Told:
    return (
        flow.zone,
        str(flow.source),
        str(flow.target),
        flow.protocol,
        flow.source_port,
        flow.target_port,
        flow.icmp_type,
        flow.icmp_id,
    )


def begin_all(peer: Box, mac: str) -> None:
    """The first packet of each connection, the same ones on both links."""
    for link in ("e1", "e2"):
        for version, protocol in _PROTOCOLS:
            source, target = (_FROM4, _TO4) if version == 4 else (_FROM6, _TO6)
            packet = ip(source, target, protocol, begin(protocol, 40000, 443))
            send(peer.shell, link, ethernet(mac, peer.shell.mac(link), packet))


def cable(here: Box, peer: Box) -> None:
    for at in (1, 2):
        here.shell.ip(f"link add z{at} type veth peer name e{at} netns {peer.shell.name}", f"link set z{at} up")
        peer.shell.ip(f"link set e{at} up")
    # Loads what keeps the settings of conntrack; checksums are not what is tried here.
    Conntrack(here.ns)
    here.ns.ensure_sysctl("netfilter/nf_conntrack_checksum", "0")


def wait(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def check_zones(tracking: Conntrack) -> None:
    one, two = _ZONES
    wait(lambda: {told(flow) for flow in tracking.flows(one)} | {told(flow) for flow in tracking.flows(two)}
         >= expected(one) | expected(two))  # fmt: skip
    for zone in _ZONES:
        flows = list(tracking.flows(zone))
        assert {told(flow) for flow in flows} == expected(zone)
        assert len(flows) == len(_PROTOCOLS)
        assert {flow.mark for flow in flows} == {_MARK}
    assert expected(one) | expected(two) <= {told(flow) for flow in tracking.flows()}
    assert tracking.count() >= 2 * len(_PROTOCOLS)
    assert not [flow for flow in tracking.flows(0) if flow.zone]
    assert list(tracking.flows(77)) == []
    for source, target in ((_FROM4, _TO4), (_FROM6, _TO6)):
        by_source = {told(flow) for flow in tracking.flows(one, source=ip_address(source))}
        assert by_source == {each for each in expected(one) if each[1] == source}
        assert {told(flow) for flow in tracking.flows(one, target=ip_address(target))} == by_source
        both = tracking.flows(one, source=ip_address(source), target=ip_address(target))
        assert {told(flow) for flow in both} == by_source
        assert list(tracking.flows(one, source=ip_address(target))) == []
    assert list(tracking.flows(one, source=ip_address(_FROM4), target=ip_address(_TO6))) == []

    left = expected(one)
    for flow in list(tracking.flows(one)):
        assert tracking.delete(flow)
        assert not tracking.delete(flow)
        left.remove(told(flow))
        assert {told(each) for each in tracking.flows(one)} == left
        assert {told(each) for each in tracking.flows(two)} == expected(two)


def test_connections_of_the_node_by_zone(box: BoxMaker) -> None:
    node, peer = box("node"), box("peer")
    cable(node, peer)
    node.shell.ip(f"address add {_TO4}/32 dev lo", f"address add {_TO6}/128 dev lo nodad")
    for link in ("all", "z1", "z2"):
        node.ns.ensure_sysctl(f"ipv4/conf/{link}/rp_filter", "0")
    node.shell.nft(f"table inet tried {{ {_SETS_ZONES} {_ANSWERS_NOTHING} }}")
    # Both of the node's links have one MAC, so that the same frames do for both.
    node.shell.ip("link set z1 address 02:00:5e:10:00:01", "link set z2 address 02:00:5e:10:00:01")
    begin_all(peer, "02:00:5e:10:00:01")
    check_zones(Conntrack(node.ns))


def test_bridged_connections_by_zone(vlan_kernel: None, box: BoxMaker) -> None:
    assert probe().bridge_conntrack
    switch, peer = box("switch"), box("peer")
    cable(switch, peer)
    switch.shell.ip(
        "link add br0 type bridge", "link set br0 up", "link add out type dummy",
        *(f"link set {link} master br0 up" for link in ("z1", "z2", "out")),
    )  # fmt: skip
    switch.shell.bridge("fdb add 02:00:5e:10:00:01 dev out master static")
    wait_forwarding(switch, "z1", "z2", "out")
    switch.shell.nft(f"table bridge tried {{ {_SETS_ZONES} }}")
    begin_all(peer, "02:00:5e:10:00:01")
    check_zones(Conntrack(switch.ns))


def add(namespace: Namespace, first: int, count: int, zone: int) -> None:
    """UDP connections by their number, put into the table as they are."""

    def request(number: int) -> Request:
        ends = number.to_bytes(4, "big"), b"\x0a\0\0\2"
        made = [netfilter_header(2)]
        for kind, (source, target) in ((1, ends), (2, ends[::-1])):
            addresses = netlink.attribute(1, source) + netlink.attribute(2, target)
            made.append(nest(kind, nest(1, addresses), nest(2, netlink.u8(1, UDP), be16(2, 53), be16(3, 53))))
        made += [be32(7, 600), be32(3, 8), be16(18, zone)]
        return Request("adding", 1 << 8, b"".join(made), netlink.CREATE | netlink.EXCLUSIVE)

    with namespace.netlink(NETFILTER) as socket:
        for at in range(first, first + count, 50):
            socket.request(*(request(number) for number in range(at, min(at + 50, first + count))))


def test_a_large_table_is_read_in_little_memory(box: BoxMaker) -> None:
    node = box("node")
    tracking = Conntrack(node.ns)
    assert tracking.count() == 0
    assert list(tracking.flows()) == []
    add(node.ns, 1, 5000, zone=3)
    assert tracking.count() == 5000
    tracemalloc.start()
    try:
        assert sum(1 for _ in tracking.flows(3)) == 5000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_lives_all_the_time_is_read_while_others_come_and_go(box: BoxMaker) -> None:
    node = box("node")
    tracking = Conntrack(node.ns)
    add(node.ns, 1, 1000, zone=3)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            add(node.ns, 100_000, 200, zone=4)
            for flow in tracking.flows(4):
                tracking.delete(flow)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            assert {int(flow.source) for flow in tracking.flows(3)} == set(range(1, 1001))
    finally:
        stop.set()
        thread.join()


def test_ended_while_it_is_read(box: BoxMaker) -> None:
    node = box("node")
    tracking = Conntrack(node.ns)
    add(node.ns, 1, 1000, zone=3)
    assert sum(tracking.delete(flow) for flow in tracking.flows(3)) == 1000
    assert tracking.count() == 0


def test_left_half_way_nothing_of_it_comes_later(box: BoxMaker) -> None:
    node = box("node")
    tracking = Conntrack(node.ns)
    add(node.ns, 1, 1000, zone=3)
    half = iter(tracking.flows(3))
    next(half)
    del half
    assert tracking.count() == 1000
    assert len(list(tracking.flows(3))) == 1000


def test_the_successor_of_a_connection_is_not_ended_for_it(box: BoxMaker) -> None:
    node = box("node")
    tracking = Conntrack(node.ns)
    add(node.ns, 1, 1, zone=3)
    [old] = tracking.flows(3)
    assert tracking.delete(old)
    add(node.ns, 1, 1, zone=3)
    [new] = tracking.flows(3)
    assert told(new) == told(old)
    if new.id != old.id:  # which the kernel makes of its place in memory, and that may be the same again
        assert not tracking.delete(old)
        assert list(tracking.flows(3)) == [new]
    assert tracking.delete(new)


@pytest.mark.parametrize("times", [1, netlink.DUMP_TRIES])
def test_a_dump_that_is_not_whole_is_repeated(times: int, box: BoxMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own bytes, with the flag that it sets on other tables (NLM_F_DUMP_INTR) in its last message."""
    node = box("node")
    tracking = Conntrack(node.ns)
    add(node.ns, 1, 10, zone=3)
    receive, left = NetlinkSocket._receive, [times]

    def interrupted(socket: NetlinkSocket) -> bytes:
        data = receive(socket)
        at = 0
        for kind, flags, *_, body in netlink.messages(data):
            if kind == 3 and left[0]:
                left[0] -= 1
                data = data[: at + 6] + (flags | 0x10).to_bytes(2, "little") + data[at + 8 :]
            at += 16 + (len(body) + 3 & ~3)
        return data

    monkeypatch.setattr(NetlinkSocket, "_receive", interrupted)
    if times == 1:
        assert [int(flow.source) for flow in tracking.flows(3)].count(1) == 2
    else:
        with pytest.raises(Unavailable, match="keep changing"):
            list(tracking.flows(3))


@pytest.mark.parametrize(("name", "value"), [("NETFILTER", 31), ("_GET_STATS", 15 << 8 | 5)])
def test_a_kernel_that_cannot_tell(name: str, value: int, box: BoxMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol, or a subsystem, that no kernel has."""
    monkeypatch.setattr(conntrack, name, value)
    with pytest.raises(Unavailable, match="does not tell its connections"):
        Conntrack(box("node").ns)
