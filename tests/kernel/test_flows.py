"""How many connections one guest may begin and hold, and others with it: there is room left for everybody else."""

import contextlib
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from homeport_dataplane.conntrack import Conntrack
from homeport_dataplane.netns import Namespace as Opened
from homeport_netns_fixtures.capture import Capture
from homeport_netns_fixtures.netns import Namespace
from homeport_policy import forward

from .lan import Guest, Lan, ping, wait_until
from .packets import ICMP, SYN, TCP, UDP, echo, ethernet, ip, tcp, udp
from .policies import reaches, server

DEAF = (7, 9)
"""Ports at which a guest neither answers nor refuses."""
SOON_FORGOTTEN = 25
"""Seconds that the kernel keeps connections here that would stay for minutes, so that the next test finds none."""
TIMEOUTS = ("icmp_timeout", "udp_timeout", "tcp_timeout_syn_sent")
_SOURCE_PORT, _TARGET_PORT, _TCP_SUM = 34, 36, 50
_ECHO_SUM, _ECHO_NUMBER = 36, 38


class Tracked:
    """The connections of node a's switch, how many there may be, and what was dropped."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._namespace = Opened.open_named(lan.a.switch.name, lan.a.switch.path.parent)
        self._table = Conntrack(self._namespace)
        self.room = int(lan.a.switch.get_sysctl("netfilter/nf_conntrack_max"))

    def count(self) -> int:
        return self._table.count()

    def dropped(self) -> Mapping[str, int]:
        return self._lan.drops(self._lan.a)

    def close(self) -> None:
        self._namespace.close()


@pytest.fixture
def tracked(lan: Lan) -> Iterator[Tracked]:
    switch = lan.a.switch
    before = {name: switch.get_sysctl(f"netfilter/nf_conntrack_{name}") for name in TIMEOUTS}
    for name in before:
        switch.set_sysctl(f"netfilter/nf_conntrack_{name}", SOON_FORGOTTEN)
    made = Tracked(lan)
    yield made
    for name, value in before.items():
        switch.set_sysctl(f"netfilter/nf_conntrack_{name}", value)
    made.close()


def numbered(packet: bytes, at: int, sum_at: int, numbers: Iterable[int]) -> Iterator[bytes]:
    """The frame with other numbers in a field of two bytes, which is 0 now, and its checksum right each time: to make
    each anew would take long in here."""
    held = ~int.from_bytes(packet[sum_at : sum_at + 2]) & 0xFFFF
    first, second = sorted((at, sum_at))
    parts = packet[:first], packet[first + 2 : second], packet[second + 2 :]
    for number in numbers:
        total = held + number
        total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        one, other = (number, total) if at < sum_at else (total, number)
        yield parts[0] + one.to_bytes(2) + parts[1] + other.to_bytes(2) + parts[2]


@dataclass(frozen=True, slots=True)
class Way:
    """From one to another, by MAC and address."""

    source_mac: str
    source: str
    target_mac: str
    target: str

    def frame(self, protocol: int, body: bytes) -> bytes:
        return ethernet(self.target_mac, self.source_mac, ip(self.source, self.target, protocol, body))

    def syn(self, source_port: int, target_port: int) -> bytes:
        return self.frame(TCP, tcp(self.source, self.target, source_port, target_port, SYN))

    def echo(self, number: int) -> bytes:
        """A request, which the kernel there answers."""
        return self.frame(ICMP, echo(self.source, self.target, number=number))

    def scan(self, ports: Iterable[int]) -> Iterator[bytes]:
        return numbered(self.syn(40000, 0), _TARGET_PORT, _TCP_SUM, ports)

    def flood(self, port: int, sources: Iterable[int]) -> Iterator[bytes]:
        return numbered(self.syn(0, port), _SOURCE_PORT, _TCP_SUM, sources)

    def echoes(self, numbers: Iterable[int]) -> Iterator[bytes]:
        return numbered(self.echo(0), _ECHO_NUMBER, _ECHO_SUM, numbers)


def way(sender: Guest, receiver: Guest) -> Way:
    return Way(sender.mac, sender.address, receiver.mac, receiver.address)


def volley(sender: Namespace, frames: Iterable[bytes]) -> Iterator[int]:
    """Sends them as fast as can be, and tells every 4,096 how many."""
    with sender.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("eth0", 0))
        sent = 0
        for data in frames:
            wire.send(data)
            sent += 1
            if sent % 4096 == 0:
                yield sent
    yield sent


@contextlib.contextmanager
def deaf(guest: Guest) -> Iterator[None]:
    """Its kernel lets those wait who ask for some ports."""
    ports = ", ".join(map(str, DEAF))
    guest.namespace.nft(
        "add table inet deaf\n"
        "add chain inet deaf in { type filter hook input priority 0; }\n"
        f"add rule inet deaf in meta l4proto {{ tcp, udp }} th dport {{ {ports} }} drop\n"
    )
    yield
    guest.namespace.run("nft", "delete", "table", "inet", "deaf")


def everybody_else(lan: Lan, *pairs: tuple[str, str]) -> None:
    """Can begin connections."""
    for one, other in pairs:
        assert reaches(lan[one], lan[other]), f"{one} to {other}"


@pytest.mark.parametrize("number", [1, 255, 4096, 65535])
def test_numbered_frames_are_those_made_one_by_one(number: int) -> None:
    made = Way("02:00:00:00:00:01", "192.0.2.1", "02:00:00:00:00:02", "192.0.2.2")
    assert [*made.scan([number])] == [made.syn(40000, number)]
    assert [*made.flood(7, [number])] == [made.syn(number, 7)]
    assert [*made.echoes([number])] == [made.echo(number)]


def test_a_stream_that_nobody_answers_is_one_connection(lan: Lan, tracked: Tracked) -> None:
    """All of its packets are new to the kernel, and only the first counts."""
    sender, receiver = lan["blue1"], lan["blue2"]
    towards = way(sender, receiver)
    data = towards.frame(UDP, udp(towards.source, towards.target, 40000, DEAF[0], b"stream"))
    before, count = tracked.dropped(), forward.FLOWS_AT_ONCE + 2000
    with deaf(receiver), Capture(receiver.namespace, "eth0") as seen:
        *_, sent = volley(sender.namespace, [data] * count)
        wait_until(lambda: len(seen.matching(lambda each: each.data == data)) == sent, "all of them arrive")
    assert sent == count
    assert tracked.dropped()["new_flows"] == before["new_flows"]


def test_a_scan_of_all_ports_leaves_room(lan: Lan, tracked: Tracked) -> None:
    """As fast as frames can be sent, to a guest that refuses each connection."""
    sender, receiver = lan["blue1"], lan["blue2"]
    before, drops, began = tracked.count(), tracked.dropped(), time.monotonic()
    highest = 0
    with server(lan["green2"]):
        for sent in volley(sender.namespace, way(sender, receiver).scan(range(1, 65536))):
            highest = max(highest, tracked.count())
            passed = forward.FLOWS_AT_ONCE + forward.FLOWS_A_SECOND * (time.monotonic() - began)
            assert highest - before <= passed + 100
            if sent % (4096 * 8) == 0:
                everybody_else(lan, ("green1", "green2"))
    took = time.monotonic() - began
    refused = tracked.dropped()["new_flows"] - drops["new_flows"]
    print(f"{sent} ports in {took:.1f} s, {sent / took:.0f}/s: {refused} refused, {highest} tracked at the most")
    assert sent == 65535
    assert refused > 0 or sent / took < forward.FLOWS_A_SECOND
    assert tracked.count() < tracked.room // 2


def test_a_guest_holds_no_more_than_its_share(lan: Lan, tracked: Tracked) -> None:
    """Connections that are answered, which the kernel keeps: begun as fast as can be."""
    sender, receiver = lan["blue1"], lan["blue2"]
    share = tracked.room // forward.SHARE_BEGUN
    wait_until(lambda: tracked.count() < share // 4, "what was before has ended", within=2 * SOON_FORGOTTEN)
    before, drops = tracked.count(), tracked.dropped()
    held, refused = 0, {"flows_from": 0}
    for sent in volley(sender.namespace, way(sender, receiver).echoes(range(1, 65536))):
        held = tracked.count() - before
        refused = {name: tracked.dropped()[name] - drops[name] for name in ("new_flows", "flows_from")}
        print(f"{sent} begun: {held} of {share} held, refused {refused}")
        assert held <= share + 100
        if refused["flows_from"] > share // 4:
            break
    assert share // 2 < held
    assert refused["flows_from"] > 0
    _, metrics = lan.a.agent.http_get("/metrics")
    (value,) = re.findall(r'homeport_tracked_connections\{place="switch"\} (\S+)', metrics)
    assert float(value) > share // 2
    assert f'homeport_tracked_connections_limit{{place="switch"}} {float(tracked.room)}' in metrics
    with server(lan["green2"]), server(receiver), server(lan["blue3"]):
        everybody_else(lan, ("green1", "green2"), ("blue3", "blue2"), ("blue2", "blue3"))
    wait_until(lambda: tracked.count() - before < share // 4, "they end", within=2 * SOON_FORGOTTEN)
    wait_until(lambda: ping(sender, receiver.address), "and others may begin")


def test_a_flood_from_outside_takes_no_more_than_a_share(lan: Lan, tracked: Tracked) -> None:
    """Half-open connections with one guest, which lets them wait."""
    victim = lan["blue1"]
    share = tracked.room // forward.SHARE_RECEIVED
    outside = lan.world.outside("flood", "192.0.2.200/24", vlan=100)
    (link,) = [each for each in outside.show("link") if each["ifname"] == "eth0"]
    towards = Way(link["address"], "192.0.2.200", victim.mac, victim.address)
    before, drops = tracked.count(), tracked.dropped()
    with deaf(victim):
        for port in DEAF:
            for _ in volley(outside, towards.flood(port, range(1024, 1024 + share * 5 // 8))):
                print(f"{tracked.count() - before} tracked")
        held, refused = tracked.count() - before, tracked.dropped()["flows_to"] - drops["flows_to"]
        print(f"{held} of {share} held, {refused} refused")
        assert share // 2 < held <= share + 100
        assert refused > 0
        with server(lan["green2"]), server(victim), server(lan["blue3"]), server(lan["blue2"]):
            everybody_else(lan, ("green1", "green2"), ("blue3", "blue2"), ("blue2", "blue1"), ("blue1", "blue3"))
            wait_until(
                lambda: reaches(lan["blue3"], victim), "it can be reached from outside again", within=2 * SOON_FORGOTTEN
            )
